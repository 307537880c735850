//! Which objects typed references lead to: from names and shared values to what these own.
//!
//! ```text
//!   header --> registry --> roots, shared values --> belongings, chains of them
//! ```
//!
//! A handle that a program keeps as a number in its own data is no typed reference: nothing tells
//! it from other numbers. So what is not found here is not lost; it is only that no type says where
//! it belongs.
//!
//! Each object is followed once, so that the walk ends whatever stands in the heap: it costs a look
//! at each entry of the registry and each cell at the most.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::object::belongings::{self, List};
use crate::object::registry::Registry;
use crate::units::WordIndex;
use crate::{Handle, Heap};

/// How an object is reached: see [`Heap::traced`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Reached {
    /// It has a name.
    Root,
    /// It is a shared value, or was a root, and a living process holds it.
    Held,
    /// It is a shared value that nobody alive holds: the next
    /// [`sweep_shared`](crate::Heap::sweep_shared) frees it, with what it owns.
    Abandoned,
    /// An object that is reached owns it.
    Owned,
    /// The heap's own list of names and shared values lies in it.
    Registry,
}

impl Reached {
    /// Of several ways to an object, the one that keeps it counts.
    fn keeps_by(self) -> u8 {
        match self {
            Self::Root => 2,
            Self::Held => 1,
            Self::Abandoned | Self::Owned | Self::Registry => 0,
        }
    }
}

/// What was found so far.
#[derive(Debug)]
pub(super) struct Trace<'h> {
    heap: &'h Heap,
    found: HashMap<Handle, Reached>,
}

impl Trace<'_> {
    /// Adds an object; whether it is new.
    pub(super) fn add(&mut self, handle: Handle, how: Reached) -> bool {
        match self.found.entry(handle) {
            Entry::Vacant(place) => {
                place.insert(how);
                true
            }
            Entry::Occupied(mut place) => {
                if how.keeps_by() > place.get().keeps_by() {
                    place.insert(how);
                }
                false
            }
        }
    }

    /// Adds an object, and what it owns by that list.
    pub(super) fn add_value(&mut self, handle: Handle, how: Reached, list: List) {
        let heap = self.heap;
        if self.add(handle, how)
            && let Ok(object) = heap.span(handle)
        {
            for (cell, chain) in belongings::cells(heap, object, list) {
                self.add_chain(cell, Reached::Owned, chain);
            }
        }
    }

    /// Adds what is in a cell and, if that starts a chain, what follows.
    pub(super) fn add_chain(&mut self, mut cell: WordIndex, how: Reached, chain: bool) {
        while let Some(handle) = self.heap.peek_at(cell) {
            let is_new = self.add(handle, how);
            match self.heap.span(handle) {
                Ok(object) if chain && is_new && object.words > 0 => cell = object.word(0),
                _ => return,
            }
        }
    }
}

impl Heap {
    /// The objects that typed references lead to, and how, in no order: names and shared values,
    /// what these own ([`Shareable::owned_cells`](crate::Shareable::owned_cells)), and the objects
    /// in which the heap keeps its lists of them. Objects that only programs know of, by handles in
    /// their data, are not among them.
    ///
    /// Taken without a lock, while others may change what is found. Costs a look at all names and
    /// shared values, and a system call for each process that holds one.
    ///
    /// ```
    /// use shmheap::Reached;
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// heap.find_or_create::<u64>("visits", |_| {})?;
    /// let handle = heap.root_handle("visits")?;
    /// assert!(heap.traced().contains(&(handle, Reached::Root)));
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    #[must_use]
    pub fn traced(&self) -> Vec<(Handle, Reached)> {
        let mut trace = Trace { heap: self, found: HashMap::new() };
        for registry in [Registry::roots(self), Registry::shared(self)] {
            registry.trace(&mut trace);
        }
        trace.found.into_iter().collect()
    }
}
