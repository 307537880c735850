//! The heap's side of the scalable policy: hands for threads, room for objects, storage for
//! records.
//!
//! An allocation that finds no room makes some, and tries again:
//!
//! ```text
//!   hand -> open slab, ... , new slab                 the engine, without a system call
//!   dead peers adopted, all hints recomputed          what others could not tell
//!   the heap grown                                    up to its most
//!   this thread's own slabs let go, larger classes    before it is full
//! ```

use std::alloc::Layout;
use std::ptr::NonNull;

use crate::error::NotLive;
use crate::heap::connection::Connection;
use crate::heap::shape::Engine;
use crate::heap::storage::Storage;
use crate::heap::threads::{Hand, WayBack};
use crate::heap::{Handle, Heap};
use crate::os::Futex;
use crate::peers::{LedgerEntry, ThreadRecord, ThreadTable, ledger};
use crate::segment::fault::Fault;
use crate::segment::states::{StateRow, WithStates};
use crate::segment::words::{Row, Words};
use crate::slab::{
    self, ALIGN_BYTES_MAX, Actor, Cache, Census, Class, Effort, Object, Place, Slabs, Surroundings,
    UNIT_BYTES, Unit, Worker,
};
use crate::units::{PeerSlot, WordIndex};
use crate::{Error, Result};

/// The records of a heap under this policy.
pub(super) type Records<'h> = WithStates<Row<'h, Futex>, StateRow<'h>>;

/// Growth on demand adds a sixteenth of the length, within these bounds.
const STEP_UNITS_MIN: u64 = 4;
const STEP_UNITS_MAX: u64 = 1024;

/// How often room is made for one object while others take it.
const ROOM_TRIES: u32 = 100;

/// An object to be placed.
#[derive(Debug, Clone, Copy)]
struct Request {
    size_bytes: u64,
    align_bytes: u64,
    /// `None`: units of its own.
    class: Option<Class>,
    /// What owns the object from the start, if not the caller.
    owner: Option<LedgerEntry>,
}

impl Request {
    /// Units that the object, or a slab for it, needs, and their alignment.
    fn units(self) -> (u64, u64) {
        match self.class {
            Some(class) => (class.units(), 1),
            None => {
                let units = self.size_bytes.div_ceil(UNIT_BYTES).max(1);
                (units, self.align_bytes.div_ceil(UNIT_BYTES))
            }
        }
    }
}

impl Heap {
    #[inline]
    fn records(&self) -> Records<'_> {
        Records::new(self.words(), StateRow(self.mapping.states()))
    }

    #[inline]
    fn worker<'h>(
        &'h self,
        slabs: &'h Slabs,
        actor: Actor,
    ) -> Worker<'h, Records<'h>, Storage<'h>> {
        slabs.worker(self.records(), Storage(self), actor)
    }

    /// What this thread works with.
    #[allow(clippy::mut_from_ref, reason = "the hand is the thread's, not the heap's")]
    fn hand(&self, slabs: &Slabs, action: &'static str) -> Result<&mut Hand> {
        let Connection::Peer(membership) = &self.connection else {
            return Err(Error::ReadOnly { action });
        };
        if let Some(hand) = self.threads.known() {
            return Ok(hand);
        }
        let peer = self.me(action)?;
        self.threads.take(membership.stay(), &membership.place(), || {
            let table = self.shape.threads;
            let record = self.claim_record(table, peer)?;
            let actor = Actor { peer, notes: table.first_note(record) };
            let way_back =
                WayBack { slabs: slabs.clone(), mapping: self.mapping.downgrade(), table, record };
            Ok(Hand::new(actor, way_back))
        })
    }

    /// Allocates an object, if this is a heap of slabs, and the thread has one in hand.
    #[inline]
    pub(super) fn slab_alloc_fast(&self, layout: Layout) -> Option<NonNull<u8>> {
        let hand = self.threads.hot()?;
        let steps = slab::steps_of(layout.size() as u64, layout.align() as u64)?;
        let place = hand.cache.alloc_fast(&StateRow(self.mapping.states()), steps)?;
        Some(self.space().of_object(place.0))
    }

    /// Allocates an object that [`slab_alloc_fast`](Self::slab_alloc_fast) did not.
    pub(super) fn slab_alloc(&self, slabs: &Slabs, layout: Layout) -> Result<NonNull<u8>> {
        let hand = self.hand(slabs, "allocate")?;
        let request = self.slab_request(layout)?;
        let place = self.place(slabs, hand, request)?;
        Ok(self.space().at(place.0))
    }

    /// A thread record of the table; if all are in use, dead peers have to give theirs back.
    pub(super) fn claim_record(&self, table: ThreadTable, me: PeerSlot) -> Result<ThreadRecord> {
        let claim = || table.claim(&self.words(), me, &|count| self.reserve_threads(count));
        match claim() {
            Err(Error::TooManyThreads { .. }) if self.sweep_peers() > 0 => claim(),
            claimed => claimed,
        }
    }

    /// What the layout comes to, if any heap can hold it.
    fn slab_request(&self, layout: Layout) -> Result<Request> {
        let (size_bytes, align_bytes) = (layout.size() as u64, layout.align() as u64);
        if align_bytes > ALIGN_BYTES_MAX {
            let why = "alignments go up to 2 MiB";
            return Err(Error::InvalidLayout { size_bytes, align_bytes, why });
        }
        if size_bytes > self.shape.identity.len_max_bytes {
            return Err(self.full(size_bytes));
        }
        let class = Class::of(size_bytes, align_bytes);
        Ok(Request { size_bytes, align_bytes, class, owner: None })
    }

    /// Places an object, making room for it if need be.
    fn place(&self, slabs: &Slabs, hand: &mut Hand, request: Request) -> Result<Place> {
        for _ in 0..ROOM_TRIES {
            for effort in [Effort::Usual, Effort::Thorough] {
                if effort == Effort::Thorough {
                    self.recover_room(slabs, hand);
                }
                if let Some(place) = self.try_place(slabs, hand, request, effort)? {
                    return Ok(place);
                }
            }
            if !self.grow_for_units(slabs, hand.actor.peer, request)? {
                return self.place_in_full(slabs, hand, request);
            }
        }
        Err(self.full(request.size_bytes))
    }

    fn try_place(
        &self,
        slabs: &Slabs,
        hand: &mut Hand,
        request: Request,
        effort: Effort,
    ) -> Result<Option<Place>> {
        let worker = self.worker(slabs, hand.actor);
        let own = |place, generation| {
            if let Some(entry) = request.owner {
                let handle = self.handle_at(place, generation).to_raw();
                self.words().store(self.shape.threads.entry_word(entry), ledger::owned(handle));
            }
        };
        let placed = match request.class {
            Some(class) => worker.alloc_small(&mut hand.cache, class, effort, |place, state| {
                own(place, worker.small_generation(place, state));
            }),
            None => worker.alloc_large(request.size_bytes, request.align_bytes, own),
        };
        placed.map_err(|fault| self.explain(fault, 0))
    }

    /// Gives back slabs that this thread keeps empty, adopts what dead peers have left, and looks
    /// for what no hint tells of.
    fn recover_room(&self, slabs: &Slabs, hand: &mut Hand) {
        let worker = self.worker(slabs, hand.actor);
        worker.give_back_idle(&mut hand.cache);
        if let Connection::Peer(membership) = &self.connection {
            membership.sweep(&self.words(), self);
        }
        // What is damaged is passed over: there may be room elsewhere.
        let _ = worker.sweep();
    }

    /// Grows the heap for an object; whether it may become large enough.
    fn grow_for_units(&self, slabs: &Slabs, me: PeerSlot, request: Request) -> Result<bool> {
        let end = slabs.end(&self.words());
        let most = Unit(self.shape.identity.len_max_bytes / UNIT_BYTES);
        let (units, align_units) = request.units();
        let free_units = slabs.free_units_before(&self.words(), end, units);
        let start = (end.0 - free_units).next_multiple_of(align_units);
        let needed = start.saturating_add(units);
        if needed > most.0 {
            return Ok(false);
        }
        let step = (end.0 / 16).clamp(STEP_UNITS_MIN, STEP_UNITS_MAX);
        let generous = needed.max(end.0 + step).min(most.0);
        self.grow_generously(me, needed * UNIT_BYTES, generous * UNIT_BYTES)?;
        Ok(true)
    }

    /// The last that can be done for an object in a heap that may not grow.
    fn place_in_full(&self, slabs: &Slabs, hand: &mut Hand, request: Request) -> Result<Place> {
        self.worker(slabs, hand.actor).let_all_go(&mut hand.cache);
        self.recover_room(slabs, hand);
        if let Some(place) = self.try_place(slabs, hand, request, Effort::Thorough)? {
            return Ok(place);
        }
        // A larger object than was asked for is better than none.
        let larger = Class::all().filter(|&class| {
            request.class.is_some_and(|own| class > own) && class.keeps(request.align_bytes)
        });
        for class in larger {
            let request = Request { class: Some(class), ..request };
            if let Some(place) = self.try_place(slabs, hand, request, Effort::Thorough)? {
                return Ok(place);
            }
        }
        Err(self.full(request.size_bytes))
    }

    /// Frees an object, if this is a heap of slabs, and the thread has the object's in hand.
    #[inline]
    pub(super) fn slab_free_fast(&self, object: NonNull<u8>) -> bool {
        let Some(hand) = self.threads.hot() else { return false };
        // An address outside the heap leads to a place that no heap has.
        let place = Place(self.space().displacement(object));
        hand.cache.free_fast(&StateRow(self.mapping.states()), place)
    }

    /// Frees an object of a slab that is not this thread's, if this is a heap of slabs, and nothing
    /// about the object is out of the ordinary.
    #[inline(never)]
    pub(super) fn slab_free_elsewhere(&self, object: NonNull<u8>) -> bool {
        let Engine::Slabs(slabs) = &self.shape.engine else { return false };
        let Some(hand) = self.threads.hot() else { return false };
        let place = Place(self.space().displacement(object));
        self.worker(slabs, hand.actor).free_elsewhere_fast(&mut hand.cache, place)
    }

    /// Frees an object that the two above did not.
    pub(super) fn slab_free(&self, slabs: &Slabs, object: NonNull<u8>) -> Result<()> {
        let hand = self.hand(slabs, "free")?;
        let place = Place(self.space().displacement(object));
        let freed = self.worker(slabs, hand.actor).free(&mut hand.cache, place);
        freed.map_err(|fault| self.explain(fault, object.addr().get()))
    }

    /// The place of an address that may be in object space.
    #[inline]
    fn place_of(&self, object: NonNull<u8>) -> Result<Place> {
        let most = self.shape.identity.len_max_bytes;
        match self.space().offset_of(object) {
            Some(bytes) if bytes < most => Ok(Place(bytes)),
            _ => Err(Self::foreign(object.addr().get())),
        }
    }

    /// Whom reading takes for the actor: nothing is written, so no note is needed.
    pub(super) fn reader<'h>(&'h self, slabs: &'h Slabs) -> Worker<'h, Records<'h>, Storage<'h>> {
        self.worker(slabs, Actor::NOBODY)
    }

    #[inline]
    fn live_object(&self, slabs: &Slabs, place: Place) -> Result<Object, Fault> {
        self.reader(slabs).live_object(place)
    }

    /// The live object at an address.
    pub(super) fn slab_object(&self, slabs: &Slabs, object: NonNull<u8>) -> Result<Object> {
        let found = self.live_object(slabs, self.place_of(object)?);
        found.map_err(|fault| self.explain(fault, object.addr().get()))
    }

    pub(super) fn slab_usable_size(&self, slabs: &Slabs, object: NonNull<u8>) -> Result<usize> {
        Ok(self.slab_object(slabs, object)?.bytes() as usize)
    }

    /// Bytes that an object of the layout gets, unless none but larger ones are left.
    pub(super) fn slab_bytes_for(&self, layout: Layout) -> Result<u64> {
        let request = self.slab_request(layout)?;
        Ok(request.class.map_or(request.units().0 * UNIT_BYTES, |class| class.object_bytes()))
    }

    pub(super) fn slab_resize(
        &self,
        slabs: &Slabs,
        object: NonNull<u8>,
        layout: Layout,
    ) -> Result<bool> {
        let hand = self.hand(slabs, "reallocate")?;
        let place = self.place_of(object)?;
        let explain = |fault| self.explain(fault, object.addr().get());
        let (size_bytes, align_bytes) = (layout.size() as u64, layout.align() as u64);
        let worker = self.worker(slabs, hand.actor);
        let found = worker.live_object(place).map_err(explain)?;
        let is_aligned = place.0.is_multiple_of(align_bytes);
        match found {
            // As long as half of it is used; less is worth a move to a smaller class.
            Object::Small { .. } => {
                let fits = size_bytes <= found.bytes() && size_bytes * 2 >= found.bytes();
                Ok(is_aligned && (fits || Class::of(size_bytes, align_bytes) == found.class()))
            }
            Object::Large { .. } if Class::of(size_bytes, align_bytes).is_some() => Ok(false),
            Object::Large { .. } if !is_aligned => Ok(false),
            Object::Large { unit, units, .. } => {
                let new_units = size_bytes.div_ceil(UNIT_BYTES).max(1);
                worker.resize_large(unit, units, new_units).map_err(explain)
            }
        }
    }

    /// The handle of an object of a slab, if nothing about it is out of the ordinary.
    pub(super) fn slab_handle_fast(&self, slabs: &Slabs, object: NonNull<u8>) -> Option<Handle> {
        let place = Place(self.space().displacement(object));
        let found = self.reader(slabs).small_object_fast(place)?;
        Some(self.handle_at(place, found.generation()))
    }

    pub(super) fn slab_handle(&self, slabs: &Slabs, object: NonNull<u8>) -> Result<Handle> {
        let place = self.place_of(object)?;
        let found = self.slab_object(slabs, object)?;
        Ok(self.handle_at(place, found.generation()))
    }

    /// The generation that the handle was made with, if this is its heap.
    #[inline]
    fn generation_of(&self, handle: Handle) -> u64 {
        handle.generation() ^ self.shape.handle_salt()
    }

    pub(super) fn handle_at(&self, place: Place, generation: u64) -> Handle {
        Handle::from_parts(self.shape.end_of_data(place.0), generation ^ self.shape.handle_salt())
    }

    /// The object of a slab that the handle names, if nothing about it is out of the ordinary.
    pub(super) fn slab_resolve_fast(&self, slabs: &Slabs, handle: Handle) -> Option<NonNull<u8>> {
        // What lies before object space leads to a place that no heap has.
        let place = handle.offset_bytes().wrapping_sub(self.shape.data_offset.0);
        let found = self.reader(slabs).small_object_fast(Place(place))?;
        (found.generation() == self.generation_of(handle)).then(|| self.space().of_object(place))
    }

    pub(super) fn slab_resolve(&self, slabs: &Slabs, handle: Handle) -> Result<NonNull<u8>> {
        self.slab_extent(slabs, handle).map(|(place, _)| self.space().at(place.0))
    }

    /// Where the object is that a handle names, and how many bytes it has: one look for both.
    pub(super) fn slab_extent(&self, slabs: &Slabs, handle: Handle) -> Result<(Place, u64)> {
        let foreign = Error::InvalidHandle { handle, why: NotLive::Foreign };
        let Some(place) = handle.offset_bytes().checked_sub(self.shape.data_offset.0) else {
            return Err(foreign);
        };
        match self.live_object(slabs, Place(place)) {
            Ok(found) if found.generation() == self.generation_of(handle) => {
                Ok((Place(place), found.bytes()))
            }
            Err(Fault::NotLive(NotLive::Foreign)) => Err(foreign),
            Ok(_) | Err(Fault::NotLive(_)) => Err(Error::Stale { handle }),
            Err(fault) => Err(self.explain(fault, 0)),
        }
    }

    /// Looks again at what a dead peer's threads have noted. The caller has its lock.
    pub(super) fn slab_adopt_notes(&self, slabs: &Slabs, dead: PeerSlot) -> Result<()> {
        let notes = self.notes_of(dead)?;
        let adopted = self.worker(slabs, self.acting_as(dead)?).adopt_notes(notes);
        adopted.map_err(|fault| self.explain(fault, 0))
    }

    /// Adopts the units of a dead peer. The caller has its lock.
    pub(super) fn slab_adopt_units(&self, slabs: &Slabs, dead: PeerSlot) -> Result<()> {
        let adopted = self.worker(slabs, self.acting_as(dead)?).adopt_units();
        adopted.map_err(|fault| self.explain(fault, 0))
    }

    /// Frees the object that an entry of this process owns, if it is live, and clears the entry.
    ///
    /// In a slab of this thread, nobody is given the object's place before the thread is adopted,
    /// so the entry may own it until it is free. Elsewhere others may use the place so often that
    /// it has the same generation again; so the entry is cleared first, and a kill in between
    /// leaves an ordinary object that nobody knows.
    pub(super) fn slab_free_own(
        &self,
        slabs: &Slabs,
        entry: LedgerEntry,
        handle: Handle,
    ) -> Result<()> {
        let object = match self.resolve(handle) {
            Ok(object) => object,
            Err(Error::Stale { .. } | Error::InvalidHandle { .. }) => {
                self.ledger().clear(entry);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let place = Place(self.space().displacement(object));
        if self.hand(slabs, "free")?.cache.has(place) {
            self.slab_free(slabs, object)?;
            self.ledger().clear(entry);
            return Ok(());
        }
        self.ledger().clear(entry);
        self.slab_free(slabs, object)
    }

    /// As [`slab_free_own`](Self::slab_free_own) on behalf of a peer: a dead one whose lock the
    /// caller has, or this process as it leaves.
    pub(super) fn slab_free_for(
        &self,
        slabs: &Slabs,
        peer: PeerSlot,
        entry: LedgerEntry,
        handle: Handle,
    ) -> Result<()> {
        let worker = self.worker(slabs, self.acting_as(peer)?);
        let place = handle.offset_bytes().checked_sub(self.shape.data_offset.0).map(Place);
        let found = match place.map(|place| worker.live_object(place)) {
            None | Some(Err(Fault::NotLive(_))) => None,
            Some(Ok(found)) => Some(found),
            Some(Err(fault)) => return Err(self.explain(fault, 0)),
        };
        let is_its_own =
            found.is_some_and(|found| found.generation() == self.generation_of(handle));
        let (Some(place), true) = (place, is_its_own) else {
            self.ledger().clear(entry);
            return Ok(());
        };
        let free = || {
            let mut cache = Cache::new();
            let freed = worker.free(&mut cache, place);
            worker.catch_up(&mut cache);
            freed.map_err(|fault| self.explain(fault, 0))
        };
        // As above; the slabs of the dead are adopted after its ledger.
        if worker.is_owned_by(place, peer) {
            free()?;
            self.ledger().clear(entry);
            return Ok(());
        }
        self.ledger().clear(entry);
        free()
    }

    fn notes_of(&self, peer: PeerSlot) -> Result<Vec<WordIndex>> {
        let table = self.shape.threads;
        let records = table.of_peer(self.words(), peer, &|count| self.reserve_threads(count))?;
        Ok(records.flat_map(|record| table.notes(record)).collect())
    }

    /// An actor for what is done under a peer's number, with the notes of one of its threads.
    fn acting_as(&self, peer: PeerSlot) -> Result<Actor> {
        let notes = self.notes_of(peer)?.first().copied().unwrap_or(Actor::NOBODY.notes);
        Ok(Actor { peer, notes })
    }

    /// As [`slab_alloc`](Self::slab_alloc), and the entry owns the object before it lives.
    pub(super) fn slab_alloc_owned(
        &self,
        slabs: &Slabs,
        layout: Layout,
        entry: LedgerEntry,
    ) -> Result<NonNull<u8>> {
        let hand = self.hand(slabs, "allocate")?;
        let request = Request { owner: Some(entry), ..self.slab_request(layout)? };
        let placed = self.place(slabs, hand, request);
        if placed.is_err() {
            self.ledger().clear(entry);
        }
        Ok(self.space().at(placed?.0))
    }

    /// Gives back to the system what memory the heap does not use: returns how many bytes.
    pub(super) fn slab_trim(&self, slabs: &Slabs) -> Result<u64> {
        let hand = self.hand(slabs, "trim")?;
        let worker = self.worker(slabs, hand.actor);
        worker.let_all_go(&mut hand.cache);
        self.recover_room(slabs, hand);
        let trimmed = worker.trim().map_err(|fault| self.explain(fault, 0))?;
        Ok(trimmed * UNIT_BYTES)
    }

    /// What the heap holds, with at most so many flaws.
    pub(super) fn census(&self, slabs: &Slabs, flaws_max: usize) -> Census {
        let end = slabs.end(&self.words());
        let end = if Storage(self).ensure_units(end.0).is_ok() { end } else { Unit(0) };
        slabs.census(&self.records(), &Storage(self), end, flaws_max)
    }
}
