//! An entry on its way to an object, and back: what one process does with it for itself alone.
//!
//! ```text
//!   free --> busy --> nameless                                add
//!            busy --> candidate --> constructing --> named    create
//!              |          |              |
//!              +----------+--------------+--> busy --> free   given up, or salvaged
//! ```
//!
//! # One of a name
//!
//! Two processes may want to make a root of the same name at once, in different entries. Each
//! says that it is a candidate, then looks at all others, rejects what other candidates it finds,
//! and gives up if there is a root already; only who has seen no other, and was not rejected, goes
//! on to construct. Of two, the one that says so later sees the other: either as a candidate, whom
//! it rejects unless that one is through, or as a root. So no two get through, and a candidate
//! that is stopped keeps nobody waiting.

use std::time::{Duration, Instant};

use super::entry::{self, Description, Entry, OBJECT, Phase, State};
use super::{Holding, Registry, SLICE};
use crate::heap::{Gate, NotPublished, Unpublished};
use crate::object::belongings;
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Handle, Result};

/// An entry that this process has for itself. Emptied when dropped, unless it was given on.
#[derive(Debug)]
pub(super) struct Busy<'r, 'h> {
    pub(super) registry: &'r Registry<'h>,
    pub(super) entry: Entry<Gate<'h>>,
    /// The state that says so.
    state: State,
    /// The word that says that this process holds the object.
    holder: Option<WordIndex>,
    /// Tells this process from its forked children, who inherit a copy of this.
    stay: u64,
}

impl<'r, 'h> Busy<'r, 'h> {
    /// An entry that is busy, and this process's.
    pub(super) fn of(registry: &'r Registry<'h>, entry: Entry<Gate<'h>>, me: PeerId) -> Self {
        let stay = registry.heap.stay();
        Self { registry, entry, state: State::busy(me), holder: None, stay }
    }

    /// Puts an object into the entry; the word that says that this process holds it, and its
    /// handle.
    pub(super) fn fill(
        &mut self,
        object: Unpublished<'h>,
        description: Description,
        name: &str,
        me: PeerId,
    ) -> Result<(WordIndex, Handle)> {
        self.entry.describe(description, name);
        let heap = self.registry.heap;
        let handle = match object.publish_at(self.entry.word(OBJECT)) {
            Ok(handle) => handle,
            // Before the object goes, what it owns.
            Err(NotPublished { error, object }) => {
                let span = object.is_ours().then(|| heap.span(object.handle()));
                if let Some(Ok(span)) = span {
                    belongings::free(heap, span, description.belongings);
                }
                return Err(error);
            }
        };
        let holder = self.registry.hold(self.entry, me)?;
        self.holder = Some(holder);
        Ok((holder, handle))
    }

    /// Puts an object into the entry that is its users' to free.
    fn borrow(&self, object: Handle, name: &str) {
        self.entry.describe(Description::BORROWED, name);
        self.registry.heap.gate().store(self.entry.word(OBJECT), object.to_raw());
    }

    fn is_ours(&self) -> bool {
        self.registry.heap.stay() == self.stay
    }

    /// The entry has an object that others can attach to.
    pub(super) fn make(self, is_named: bool) -> Result<()> {
        if !self.is_ours() {
            let address = self.registry.heap.address_of(self.entry.at).addr().get();
            return Err(Error::Inherited { address });
        }
        let made = self.entry.made(is_named);
        // Nobody else changes an entry that is busy, or under construction by one who lives.
        self.entry.advance(self.state, made);
        self.entry.wake();
        std::mem::forget(self);
        Ok(())
    }
}

/// Frees the object, unless that is borrowed, and the entry. In a child that was forked meanwhile
/// it does nothing: the entry is the parent's.
impl Drop for Busy<'_, '_> {
    fn drop(&mut self) {
        let (entry, heap) = (self.entry, self.registry.heap);
        if !self.is_ours() {
            return;
        }
        if !matches!(self.state.phase(), Phase::Busy(_)) {
            let Some(me) = self.state.owner() else { return };
            // Rejected or not, it is this process's.
            while !entry.advance(entry.state(), State::busy(me)) {}
        }
        // Else the next object of the entry would be held by this process as long as that lives.
        if let (Some(holder), Some(me)) = (self.holder, self.state.owner()) {
            let _ = heap.gate().compare_exchange(holder, me.word(), 0);
        }
        if entry.description().is_borrowed {
            heap.gate().store(entry.word(OBJECT), 0);
        } else if !self.registry.free_object(entry) {
            // Whoever finds this process dead goes on.
            return;
        }
        entry.free();
    }
}

/// A root that this process is making. Given up when dropped.
#[derive(Debug)]
pub(crate) struct Making<'r, 'h> {
    busy: Busy<'r, 'h>,
    holder: WordIndex,
    me: PeerId,
    object: Handle,
}

impl<'h> Making<'_, 'h> {
    pub(crate) fn object(&self) -> Handle {
        self.object
    }

    /// The object is made: from here on others find it.
    ///
    /// # Errors
    ///
    /// [`Error::Inherited`] in a child that was forked meanwhile.
    pub(crate) fn finish(self) -> Result<Holding<'h>> {
        let Self { busy, holder, me, object } = self;
        let holding = busy.registry.holding(busy.entry, holder, me, object);
        busy.make(true)?;
        Ok(holding)
    }
}

/// What became of a search for a root.
#[derive(Debug)]
pub(crate) enum Found<'r, 'h> {
    There(Holding<'h>),
    /// There was none, and this process makes it.
    Ours(Making<'r, 'h>),
}

impl<'h> Registry<'h> {
    /// The root of that name, held by this process; `None` if there is none. Waits while another
    /// process makes it, until the deadline.
    pub(crate) fn find(
        &self,
        name: &str,
        deadline: Option<Instant>,
    ) -> Result<Option<Holding<'h>>> {
        let me = Roll::me(self.heap)?;
        let mut slice = Duration::from_micros(50);
        loop {
            let Some((entry, seen)) = self.established(name) else { return Ok(None) };
            if seen.phase() == Phase::Named {
                match self.attach_to(entry, entry.incarnation(), me)? {
                    // Another root may have got the entry since it was looked at.
                    Some(holding) if entry.has_name(name) => return Ok(Some(holding)),
                    Some(holding) => Self::release(&holding),
                    None => {}
                }
                continue;
            }
            if self.salvage(entry, seen, me) {
                return Err(Error::OwnerDied { what: "the root while it was being made" });
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Error::TimedOut { what: "the root, which another process makes," });
            }
            entry.wait(seen, slice);
            slice = (slice * 2).min(SLICE);
        }
    }

    /// The object that has the name, which this process does not hold.
    pub(crate) fn peek(&self, name: &str) -> Option<Handle> {
        loop {
            let (entry, seen) = self.established(name)?;
            if seen.phase() != Phase::Named {
                return None;
            }
            let object = entry.steadily(|seen| {
                let is_it = seen.phase() == Phase::Named && entry.has_name(name);
                is_it.then(|| self.heap.peek_at(entry.word(OBJECT)))
            });
            // Else another root may have got the entry since it was found.
            if let Some(Some(object)) = object {
                return object;
            }
        }
    }

    /// The entry that has the name, with an object or one in the making.
    fn established(&self, name: &str) -> Option<(Entry<Gate<'h>>, State)> {
        self.chain.entries().find_map(|entry| {
            let seen = entry.state();
            let is_one = matches!(seen.phase(), Phase::Named | Phase::Constructing(_));
            (is_one && entry.has_name(name)).then_some((entry, seen))
        })
    }

    /// The root of that name, or `object` as a new one, which others wait for until it is finished.
    pub(crate) fn find_or_make(
        &self,
        name: &str,
        description: Description,
        deadline: Option<Instant>,
        object: impl Fn() -> Result<Unpublished<'h>>,
    ) -> Result<Found<'_, 'h>> {
        let me = Roll::me(self.heap)?;
        for attempt in 0_u32.. {
            if let Some(holding) = self.find(name, deadline)? {
                return Ok(Found::There(holding));
            }
            let mut busy = self.busy(me)?;
            let (holder, object) = busy.fill(object()?, description, name, me)?;
            if self.is_elected(&mut busy, name, me) {
                return Ok(Found::Ours(Making { busy, holder, me, object }));
            }
            drop(busy);
            // Rejected by one who was rejected by this one, perhaps: not both at once again.
            std::thread::sleep(Duration::from_micros(u64::from(attempt % 8 * me.jitter())));
        }
        Err(Error::TimedOut { what: "the root's name" })
    }

    /// An object that is its users' to free gets a name; `false` if another has it.
    pub(crate) fn set(&self, name: &str, object: Handle) -> Result<bool> {
        let me = Roll::me(self.heap)?;
        for attempt in 0_u32.. {
            while let Some((entry, seen)) = self.established(name) {
                // The name of a root whose process died while it made that is free.
                if !self.salvage(entry, seen, me) {
                    return Ok(false);
                }
            }
            let mut busy = self.busy(me)?;
            busy.borrow(object, name);
            if self.is_elected(&mut busy, name, me) {
                busy.make(true)?;
                return Ok(true);
            }
            drop(busy);
            std::thread::sleep(Duration::from_micros(u64::from(attempt % 8 * me.jitter())));
        }
        Ok(false)
    }

    pub(super) fn busy(&self, me: PeerId) -> Result<Busy<'_, 'h>> {
        let entry = self.claim(me)?;
        Ok(Busy::of(self, entry, me))
    }

    /// Whether the entry is the one to have the name; see the module's text.
    fn is_elected(&self, busy: &mut Busy<'_, 'h>, name: &str, me: PeerId) -> bool {
        // If it is not, others may change it to rejected, as a candidate.
        busy.state = State::constructing(me);
        entry::stand(busy.entry, name, me, || self.chain.entries())
    }

    /// Takes the name from a root, whose object stays as long as somebody holds it; what it was the
    /// name of, and `None` if there is no such root.
    pub(crate) fn remove(&self, name: &str) -> Result<Option<Handle>> {
        let me = Roll::me(self.heap)?;
        while let Some((entry, seen)) = self.established(name) {
            if seen.phase() != Phase::Named {
                if self.salvage(entry, seen, me) {
                    continue;
                }
                return Err(Error::Occupied {
                    address: self.heap.address_of(entry.at).addr().get(),
                });
            }
            let object = self.heap.peek_at(entry.word(OBJECT)).unwrap_or(Handle::NONE);
            // That it is as it was seen says, too, that the name is the same.
            if entry.unname(seen) {
                self.retire(entry, me);
                return Ok(Some(object));
            }
        }
        Ok(None)
    }
}
