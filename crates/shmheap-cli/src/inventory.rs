//! What lies in a heap, block by block, with all that is known of each: put together from the walk
//! through the blocks, the ledger, the labels and the names, for every command that shows objects.
//!
//! The heap is only read. What processes change meanwhile may be seen in either state.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use shmheap::{Block, Heap, InHand, Label, Site};

/// What a block is at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody's.
    Free,
    /// An object like any other.
    Live,
    /// An object that the peer has made or taken, and not given away.
    Unpublished(u16),
    /// The same of a peer that is dead.
    OfDead(u16),
}

/// A block, and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) block: Block,
    pub(crate) state: State,
    /// The name of the root that it is. Of several, the first.
    pub(crate) root: Option<String>,
    /// None in a heap without labels.
    pub(crate) origin: Option<Origin>,
}

/// Who allocated an object, and what for.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The name of its tag; "" if it has none.
    pub(crate) tag: Rc<str>,
    pub(crate) pid: u32,
    /// Whether that process is still connected.
    pub(crate) alive: bool,
}

impl Item {
    /// The peer that has to do with the block: who has it in hand, or owns its slab.
    pub(crate) fn owner(&self) -> Option<u16> {
        match (self.state, self.block.site) {
            (State::Unpublished(slot) | State::OfDead(slot), _) => Some(slot),
            (_, Site::Slab { owner }) => owner,
            _ => None,
        }
    }
}

/// What the blocks themselves do not tell.
#[derive(Debug)]
pub(crate) struct Inventory<'h> {
    heap: &'h Heap,
    in_hand: HashMap<u64, InHand>,
    roots: HashMap<u64, String>,
    /// Looked up once each: a heap has more objects than labels.
    origins: RefCell<HashMap<Label, Origin>>,
}

impl<'h> Inventory<'h> {
    pub(crate) fn of(heap: &'h Heap) -> Self {
        let in_hand = heap.in_hand().into_iter();
        let mut roots = heap.roots();
        roots.sort_by(|one, other| other.name.cmp(&one.name));
        Self {
            heap,
            in_hand: in_hand.map(|object| (object.handle.to_raw(), object)).collect(),
            roots: roots.into_iter().map(|root| (root.handle.to_raw(), root.name)).collect(),
            origins: RefCell::default(),
        }
    }

    /// All blocks in order of address.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item> {
        self.heap.blocks().map(|block| self.item(block))
    }

    /// All objects in order of address.
    pub(crate) fn objects(&self) -> impl Iterator<Item = Item> {
        self.items().filter(|item| item.state != State::Free)
    }

    fn item(&self, block: Block) -> Item {
        let raw = block.handle.to_raw();
        let state = match (block.live, self.in_hand.get(&raw)) {
            (false, _) => State::Free,
            (true, None) => State::Live,
            (true, Some(object)) if object.alive => State::Unpublished(object.owner),
            (true, Some(object)) => State::OfDead(object.owner),
        };
        let root = self.roots.get(&raw).filter(|_| block.live).cloned();
        let origin = block.label.map(|label| self.origin(label));
        Item { block, state, root, origin }
    }

    fn origin(&self, label: Label) -> Origin {
        let mut origins = self.origins.borrow_mut();
        let found = origins.entry(label).or_insert_with(|| Origin {
            tag: self.heap.tag_name(label.tag).into(),
            pid: label.pid,
            alive: self.heap.is_owner_alive(label),
        });
        found.clone()
    }
}
