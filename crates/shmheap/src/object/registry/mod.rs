//! The registry: objects that live as long as somebody holds them, or as they have a name.
//!
//! ```text
//!   process A          registry                       object space
//!   holding ---------> entry: held by A, B  ---cell-> object
//!   process B             |
//!   holding --------------+     A dies: its word in the entry counts no more
//! ```
//!
//! An object is owned by a *cell* in its entry, from which it can be taken exactly once, whoever is
//! killed; who holds it is said by words that name processes, so that the dead hold nothing. Nobody
//! takes a lock and nobody waits, but for an object that another is still making.
//!
//! | file | holds |
//! |---|---|
//! | `entry` | one entry: its states, attach and retire |
//! | `chain` | where entries are |
//! | `making` | from a free entry to an object, and back |
//!
//! Two chains: *roots*, which have or had names, and *shared* objects, which never had, so that a
//! name is looked for among names only.

mod chain;
mod entry;
mod making;

use std::time::Duration;

use chain::Chain;
pub(crate) use entry::{Description, checked_name};
use entry::{Entry, HOLDERS, HOLDERS_INLINE, MORE, OBJECT, Phase, State};
use making::Busy;
pub(crate) use making::{Found, Making};

use crate::heap::{Gate, Unpublished};
use crate::object::snapshot::Cut;
use crate::object::traced::{Reached, Trace};
use crate::object::{Fingerprint, belongings};
use crate::peers::{PeerId, Roll};
use crate::segment::format;
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Handle, Heap, Result};

/// The first word of an object of further holders is the cell of the next.
const EXTENSION_NEXT: u64 = 0;
const EXTENSION_WORDS: u64 = 64;
/// More objects of further holders than this are damage.
const EXTENSIONS_MAX: usize = 1024;
/// How long a process sleeps at a time while another makes an object.
const SLICE: Duration = Duration::from_millis(20);
/// How many entries are looked at in passing for what the dead have left.
const PASSING: usize = 2;
/// A chain grows when no more than one of so many entries is free: to look for the last ones would
/// cost more than a new chunk.
const GROW_BELOW: usize = 8;

/// The registry of a heap, or rather one chain of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registry<'h> {
    heap: &'h Heap,
    chain: Chain<'h>,
}

/// A reference that this process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holding<'h> {
    registry: Registry<'h>,
    entry: Entry<Gate<'h>>,
    incarnation: u64,
    /// The word that says so.
    holder: WordIndex,
    me: PeerId,
    object: Handle,
    fingerprint: Fingerprint,
}

impl Holding<'_> {
    pub(crate) fn object(&self) -> Handle {
        self.object
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What it takes to give the reference up.
    #[cfg(feature = "async")]
    pub(crate) fn place(&self) -> Place {
        Place { entry: self.entry.at, holder: self.holder, me: self.me }
    }

    /// Where the entry is, and which use of it.
    pub(crate) fn name(&self) -> (WordIndex, u64) {
        (self.entry.at, self.incarnation)
    }
}

/// Where a reference stands that this process holds.
#[cfg(feature = "async")]
#[derive(Debug)]
pub(crate) struct Place {
    entry: WordIndex,
    holder: WordIndex,
    me: PeerId,
}

/// What a heap says of a root: see [`Heap::roots`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Root {
    /// Its name.
    pub name: String,
    /// Its object.
    pub handle: Handle,
    /// What type its value has, as a number; 0 for an ordinary object.
    pub fingerprint: u64,
    /// Whether it is made: else a process is still at it.
    pub is_made: bool,
}

impl<'h> Registry<'h> {
    pub(crate) fn roots(heap: &'h Heap) -> Self {
        Self { heap, chain: Chain::new(heap, format::ROOTS_AT) }
    }

    pub(crate) fn shared(heap: &'h Heap) -> Self {
        Self { heap, chain: Chain::new(heap, format::SHARED_AT) }
    }

    /// Takes over an object, held by this process alone.
    pub(crate) fn add(
        &self,
        object: impl FnOnce() -> Unpublished<'h>,
        description: Description,
    ) -> Result<Holding<'h>> {
        let me = Roll::me(self.heap)?;
        let mut busy = self.busy(me)?;
        let (holder, handle) = busy.fill(object(), description, "", me)?;
        let holding = self.holding(busy.entry, holder, me, handle);
        busy.make(false)?;
        Ok(holding)
    }

    /// Holds the object of that use of an entry, if it is still there.
    pub(crate) fn attach(&self, at: WordIndex, incarnation: u64) -> Result<Option<Holding<'h>>> {
        let Some(entry) = self.chain.entry_at(at) else { return Ok(None) };
        self.attach_to(entry, incarnation, Roll::me(self.heap)?)
    }

    fn attach_to(
        &self,
        entry: Entry<Gate<'h>>,
        incarnation: u64,
        me: PeerId,
    ) -> Result<Option<Holding<'h>>> {
        let let_go = |holder| self.let_go(entry, holder, me);
        let Some(holder) = entry.join(incarnation, || self.hold(entry, me), let_go)? else {
            return Ok(None);
        };
        match self.heap.peek_at(entry.word(OBJECT)) {
            Some(object) => Ok(Some(self.holding(entry, holder, me, object))),
            None => {
                let_go(holder);
                Err(Error::Damaged { what: "the cell of a shared object" })
            }
        }
    }

    /// Gives a reference up, and frees the object if that was the last.
    pub(crate) fn release(holding: &Holding<'_>) {
        holding.registry.let_go(holding.entry, holding.holder, holding.me);
    }

    /// As [`release`](Self::release).
    #[cfg(feature = "async")]
    pub(crate) fn release_at(&self, place: &Place) {
        if let Some(entry) = self.chain.entry_at(place.entry) {
            self.let_go(entry, place.holder, place.me);
        }
    }

    fn let_go(&self, entry: Entry<Gate<'h>>, holder: WordIndex, me: PeerId) {
        let _ = self.heap.gate().compare_exchange(holder, me.word(), 0);
        self.retire(entry, me);
    }

    /// Frees the object if it has no name and nobody holds it.
    fn retire(&self, entry: Entry<Gate<'h>>, me: PeerId) {
        if entry.retire(me, || self.is_held(entry, me)) {
            drop(Busy::of(self, entry, me));
        }
    }

    /// Frees what an entry owns that this process has for itself; whether all of it is gone then.
    fn free_object(&self, entry: Entry<Gate<'h>>) -> bool {
        let (heap, cell) = (self.heap, entry.word(OBJECT));
        let list = entry.description().belongings;
        let object = heap.peek_at(cell).and_then(|object| heap.span(object).ok());
        object.is_none_or(|object| belongings::free(heap, object, list))
            && belongings::free_in(heap, cell, false)
    }

    /// The holders' words of an entry.
    fn holders(&self, entry: Entry<Gate<'h>>) -> impl Iterator<Item = WordIndex> + use<'h> {
        let heap = self.heap;
        let extension = move |cell| heap.span(heap.peek_at(cell)?).ok();
        let first = extension(entry.word(MORE));
        let extensions =
            std::iter::successors(first, move |span| extension(span.word(EXTENSION_NEXT)));
        let further = extensions
            .take(EXTENSIONS_MAX)
            .flat_map(|span| (1..span.words).map(move |number| span.word(number)));
        (HOLDERS..HOLDERS + HOLDERS_INLINE).map(move |number| entry.word(number)).chain(further)
    }

    fn is_held(&self, entry: Entry<Gate<'h>>, me: PeerId) -> bool {
        let words = self.heap.gate();
        self.holders(entry).any(|at| entry::is_held(&words, at, me, self.heap))
    }

    /// Puts this process among the holders.
    fn hold(&self, entry: Entry<Gate<'h>>, me: PeerId) -> Result<WordIndex> {
        let words = self.heap.gate();
        for _ in 0..EXTENSIONS_MAX {
            if let Some(at) = self.holders(entry).find(|&at| entry::hold(&words, at, me, None)) {
                return Ok(at);
            }
            // Only now, for it costs a system call each: the words of the dead.
            let roll: &dyn Roll = self.heap;
            let freed = self.holders(entry).find(|&at| entry::hold(&words, at, me, Some(roll)));
            if let Some(at) = freed {
                return Ok(at);
            }
            self.extend(entry)?;
        }
        Err(Error::Damaged { what: "the holders of a shared object" })
    }

    fn extend(&self, entry: Entry<Gate<'h>>) -> Result<()> {
        let mut cell = entry.word(MORE);
        for _ in 0..EXTENSIONS_MAX {
            let next = self.heap.peek_at(cell).and_then(|next| self.heap.span(next).ok());
            let Some(span) = next else {
                return chain::append(self.heap, cell, EXTENSION_WORDS);
            };
            cell = span.word(EXTENSION_NEXT);
        }
        Err(Error::Damaged { what: "the holders of a shared object" })
    }

    fn holding(
        &self,
        entry: Entry<Gate<'h>>,
        holder: WordIndex,
        me: PeerId,
        object: Handle,
    ) -> Holding<'h> {
        let incarnation = entry.incarnation();
        let fingerprint = entry.description().fingerprint;
        Holding { registry: *self, entry, incarnation, holder, me, object, fingerprint }
    }

    /// An entry for this process alone, busy. In passing, what the dead have left is freed.
    fn claim(&self, me: PeerId) -> Result<Entry<Gate<'h>>> {
        loop {
            let hint = self.chain.hint();
            let mut passing = 0;
            for (number, entry) in self.chain.entries().enumerate().skip(hint) {
                let seen = entry.state();
                if seen.phase() == Phase::Free && entry.claim(seen, me) {
                    self.chain.set_hint(number + 1);
                    return Ok(entry);
                }
                if passing < PASSING {
                    passing += 1;
                    self.tidy(entry, me);
                }
            }
            // Nothing behind the hint: once more from the start, with all that the dead have left.
            let (free, total) = self.sweep_chain(me);
            if free * GROW_BELOW <= total {
                self.chain.grow()?;
            }
        }
    }

    /// Frees what the dead have left in the chain; how many entries are free then, and how many
    /// there are. The hint is at the first free one.
    fn sweep_chain(&self, me: PeerId) -> (usize, usize) {
        let (mut free, mut first, mut total) = (0, None, 0);
        for (number, entry) in self.chain.entries().enumerate() {
            self.tidy(entry, me);
            total += 1;
            if entry.state().phase() == Phase::Free {
                free += 1;
                first.get_or_insert(number);
            }
        }
        if let Some(first) = first {
            self.chain.set_hint(first);
        }
        (free, total)
    }

    /// Frees what the dead have left: see the table of phases.
    pub(crate) fn sweep(&self) -> Result<()> {
        self.sweep_chain(Roll::me(self.heap)?);
        Ok(())
    }

    fn tidy(&self, entry: Entry<Gate<'h>>, me: PeerId) {
        match entry.state().phase() {
            Phase::Nameless => self.retire(entry, me),
            _ => {
                self.salvage(entry, entry.state(), me);
            }
        }
    }

    /// Empties an entry whose process died in the middle of something; whether it had.
    fn salvage(&self, entry: Entry<Gate<'h>>, seen: State, me: PeerId) -> bool {
        let owner = match seen.phase() {
            Phase::Busy(owner)
            | Phase::Candidate(owner)
            | Phase::Rejected(owner)
            | Phase::Constructing(owner) => owner,
            Phase::Free | Phase::Named | Phase::Nameless => return false,
        };
        if owner.is_some_and(|owner| owner == me || self.heap.is_alive(owner)) {
            return false;
        }
        if entry.advance(seen, State::busy(me)) {
            drop(Busy::of(self, entry, me));
        }
        true
    }

    /// Adds all that the registry leads to, and what it consists of.
    pub(crate) fn trace(&self, trace: &mut Trace<'_>) {
        trace.add_chain(self.chain.first_cell(), Reached::Registry, true);
        for entry in self.chain.entries() {
            let look = |seen: State| {
                let how = match seen.phase() {
                    Phase::Named | Phase::Constructing(_) => Reached::Root,
                    Phase::Nameless if !self.is_held_by_any(entry) => Reached::Abandoned,
                    Phase::Nameless => Reached::Held,
                    Phase::Free | Phase::Busy(_) | Phase::Candidate(_) | Phase::Rejected(_) => {
                        return None;
                    }
                };
                Some((self.heap.peek_at(entry.word(OBJECT))?, how, entry.description()))
            };
            if let Some((handle, how, description)) = entry.steadily(look).flatten() {
                trace.add_value(handle, how, description.belongings);
            }
            trace.add_chain(entry.word(MORE), Reached::Registry, true);
        }
    }

    /// Empties the cells of a copy that lead nowhere, and the entries whose object is not there.
    pub(crate) fn cut(&self, cut: &mut Cut<'_>) -> Result<()> {
        let me = Roll::me(self.heap)?;
        cut.keep_chain(self.chain.first_cell(), true);
        for entry in self.chain.entries() {
            cut.keep_chain(entry.word(MORE), true);
            let (object, description) = (entry.word(OBJECT), entry.description());
            let is_there = match description.is_borrowed {
                true => self.heap.peek_at(object).is_some_and(|it| self.heap.span(it).is_ok()),
                false => cut.keep_value(object, description.belongings),
            };
            let seen = entry.state();
            let is_made = matches!(seen.phase(), Phase::Named | Phase::Nameless);
            if is_made && !is_there && entry.claim(seen, me) {
                drop(Busy::of(self, entry, me));
            }
        }
        Ok(())
    }

    /// For those who have no place among the holders.
    fn is_held_by_any(&self, entry: Entry<Gate<'h>>) -> bool {
        let words = self.heap.gate();
        self.holders(entry)
            .any(|at| PeerId::of_word(words.load(at)).is_some_and(|peer| self.heap.is_alive(peer)))
    }

    /// All roots there are.
    pub(crate) fn list(&self) -> Vec<Root> {
        let look = |entry: Entry<Gate<'h>>, seen: State| {
            let is_made = match seen.phase() {
                Phase::Named => true,
                Phase::Constructing(_) => false,
                _ => return None,
            };
            Some(Root {
                name: entry.name(),
                handle: self.heap.peek_at(entry.word(OBJECT)).unwrap_or(Handle::NONE),
                fingerprint: entry.description().fingerprint.to_raw(),
                is_made,
            })
        };
        // One that goes while it is looked at is left out.
        let entries = self.chain.entries();
        entries.filter_map(|entry| entry.steadily(|seen| look(entry, seen)).flatten()).collect()
    }
}
