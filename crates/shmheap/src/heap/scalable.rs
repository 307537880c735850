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
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::NotLive;
use crate::heap::connection::Connection;
use crate::heap::threads::{Hand, WayBack};
use crate::heap::{Handle, Heap};
use crate::os::Futex;
use crate::peers::{LedgerEntry, ledger};
use crate::segment::fault::Fault;
use crate::segment::states::{StateRow, WithStates};
use crate::segment::words::{Row, Words};
use crate::slab::layout::StateBlock;
use crate::slab::{
    self, ALIGN_BYTES_MAX, Actor, Cache, Census, Class, Effort, Object, PeerStanding, Place,
    Registry, Slabs, Surroundings, UNIT_BYTES, Unit, Worker,
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
        if let Some(hand) = self.threads.hot() {
            return Ok(hand);
        }
        let peer = self.me(action)?;
        self.threads.take(membership.stay(), &membership.place(), || {
            let table = self.shape.threads;
            let record = table.claim(&self.words(), peer, &|count| self.reserve_threads(count))?;
            let actor = Actor { peer, notes: table.first_note(record) };
            let way_back =
                WayBack { slabs: slabs.clone(), mapping: self.mapping.clone(), table, record };
            Ok(Hand::new(actor, way_back))
        })
    }

    /// Allocates an object, if this is a heap of slabs, and the thread has one in hand.
    #[inline]
    pub(super) fn slab_alloc_fast(&self, layout: Layout) -> Option<NonNull<u8>> {
        let hand = self.threads.hot()?;
        let class = Class::of(layout.size() as u64, layout.align() as u64)?;
        let states = StateRow(self.mapping.states());
        let place = hand.cache.alloc(&states, class, |_, _| {})?;
        self.space().of_object(place.0)
    }

    /// Allocates an object that [`slab_alloc_fast`](Self::slab_alloc_fast) did not.
    pub(super) fn slab_alloc(&self, slabs: &Slabs, layout: Layout) -> Result<NonNull<u8>> {
        let hand = self.hand(slabs, "allocate")?;
        let request = self.slab_request(layout)?;
        let place = self.place(slabs, hand, request)?;
        Ok(self.space().at(place.0))
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
                    self.recover_room(slabs, hand.actor)?;
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

    /// Adopts what dead peers have left, and looks for what no hint tells of.
    fn recover_room(&self, slabs: &Slabs, actor: Actor) -> Result<()> {
        if let Connection::Peer(membership) = &self.connection {
            membership.sweep(&self.words(), &|slot| self.adopt(slot));
        }
        let swept = self.worker(slabs, actor).sweep();
        swept.map_err(|fault| self.explain(fault, 0))
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
        self.recover_room(slabs, hand.actor)?;
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

    /// Frees an object that [`slab_free_fast`](Self::slab_free_fast) did not.
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

    pub(super) fn slab_usable_size(&self, slabs: &Slabs, object: NonNull<u8>) -> Result<usize> {
        let found = self.live_object(slabs, self.place_of(object)?);
        let found = found.map_err(|fault| self.explain(fault, object.addr().get()))?;
        Ok(found.bytes() as usize)
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
                let new_units = size_bytes.div_ceil(UNIT_BYTES);
                worker.resize_large(unit, units, new_units).map_err(explain)
            }
        }
    }

    pub(super) fn slab_handle(&self, slabs: &Slabs, object: NonNull<u8>) -> Result<Handle> {
        let place = self.place_of(object)?;
        let found = self.live_object(slabs, place);
        let found = found.map_err(|fault| self.explain(fault, object.addr().get()))?;
        Ok(self.handle_at(place, found.generation()))
    }

    pub(super) fn handle_at(&self, place: Place, generation: u64) -> Handle {
        Handle::from_parts(self.shape.end_of_data(place.0), generation)
    }

    #[inline]
    pub(super) fn slab_resolve(&self, slabs: &Slabs, handle: Handle) -> Result<NonNull<u8>> {
        let foreign = Error::InvalidHandle { handle, why: NotLive::Foreign };
        let Some(place) = handle.offset_bytes().checked_sub(self.shape.data_offset.0) else {
            return Err(foreign);
        };
        match self.live_object(slabs, Place(place)) {
            Ok(found) if found.generation() == handle.generation() => Ok(self.space().at(place)),
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

    /// Frees the object that a handle names, if it is live, on behalf of a peer: a dead one whose
    /// lock the caller has, or this process as it leaves.
    pub(super) fn slab_free_for(
        &self,
        slabs: &Slabs,
        peer: PeerSlot,
        handle: Handle,
    ) -> Result<()> {
        let Some(place) = handle.offset_bytes().checked_sub(self.shape.data_offset.0) else {
            return Ok(());
        };
        let worker = self.worker(slabs, self.acting_as(peer)?);
        let freed = match worker.live_object(Place(place)) {
            Ok(found) if found.generation() == handle.generation() => {
                let mut cache = Cache::new();
                let freed = worker.free(&mut cache, Place(place));
                worker.catch_up(&mut cache);
                freed
            }
            Ok(_) | Err(Fault::NotLive(_)) => Ok(()),
            Err(fault) => Err(fault),
        };
        freed.map_err(|fault| self.explain(fault, 0))
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
        self.recover_room(slabs, hand.actor)?;
        let trimmed = worker.trim().map_err(|fault| self.explain(fault, 0))?;
        Ok(trimmed * UNIT_BYTES)
    }

    /// What the heap holds, with at most so many flaws.
    pub(super) fn census(&self, slabs: &Slabs, flaws_max: usize) -> Census {
        let end = slabs.end(&self.words());
        let end = if Storage(self).ensure_units(end.0).is_ok() { end } else { Unit(0) };
        slabs.census(&self.records(), &Storage(self), end, flaws_max)
    }

    /// The length of object space that this process knows to have records with storage.
    #[cold]
    fn verify_units(&self, units: u64) -> Result<(), Fault> {
        self.verify_growth(units * UNIT_BYTES).map_err(|_| Fault::NoStorage)
    }

    #[cold]
    fn verify_states(&self, slabs: &Slabs, block: StateBlock) -> Result<(), Fault> {
        if !self.is_read_only() {
            let bytes = slabs.layout().block_bytes(block);
            self.connection.object().reserve(bytes).map_err(|_| Fault::NoStorage)?;
        }
        self.verified_states.set(block);
        Ok(())
    }
}

/// What the engine asks of the process that runs it, answered for a heap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'h>(pub(super) &'h Heap);

impl Storage<'_> {
    fn slabs(&self) -> Option<&Slabs> {
        match &self.0.shape.engine {
            super::Engine::Slabs(slabs) => Some(slabs),
            super::Engine::FirstFit { .. } => None,
        }
    }

    fn bytes(&self, units: &Range<Unit>) -> Range<u64> {
        let shape = &self.0.shape;
        shape.end_of_data(units.start.start().0)..shape.end_of_data(units.end.start().0)
    }
}

impl Surroundings for Storage<'_> {
    #[inline]
    fn ensure_units(&self, units: u64) -> Result<(), Fault> {
        // Relaxed: the word only remembers what this process itself has checked with the kernel.
        if units * UNIT_BYTES <= self.0.verified_len_bytes.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.0.verify_units(units)
    }

    #[inline]
    fn ensure_states(&self, block: StateBlock) -> Result<(), Fault> {
        if self.0.verified_states.is_set(block) {
            return Ok(());
        }
        self.slabs().map_or(Ok(()), |slabs| self.0.verify_states(slabs, block))
    }

    fn reserve(&self, units: Range<Unit>) -> Result<(), Fault> {
        let object = self.0.connection.object();
        object.reserve(self.bytes(&units)).map_err(|_| Fault::NoStorage)
    }

    fn discard(&self, units: Range<Unit>) -> bool {
        self.0.connection.object().discard(self.bytes(&units)).is_ok()
    }
}

impl Registry for Storage<'_> {
    fn peer(&self, peer: PeerSlot) -> PeerStanding {
        let heap = self.0;
        if !heap.connection.witness().is_dead(peer) {
            PeerStanding::Alive
        } else if heap.shape.records.is_joined(&heap.words(), peer) {
            PeerStanding::Dead
        } else {
            PeerStanding::Unknown
        }
    }

    fn noted(&self) -> Vec<Unit> {
        let (heap, table) = (self.0, self.0.shape.threads);
        let used = table.used(&heap.words());
        if !heap.is_read_only() && heap.reserve_threads(used).is_err() {
            return vec![];
        }
        let records = (0..u64::from(used)).filter_map(|number| table.record(number));
        let notes = records.flat_map(|record| table.notes(record));
        notes.filter_map(|note| slab::noted_slab(heap.words().load(note))).collect()
    }

    fn ensure_states(&self, block: StateBlock) -> Result<(), Fault> {
        Surroundings::ensure_states(self, block)
    }
}

/// For work on what is known to have storage.
#[derive(Debug)]
pub(super) struct Ensured;

impl Surroundings for Ensured {
    fn ensure_units(&self, _units: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn ensure_states(&self, _block: StateBlock) -> Result<(), Fault> {
        Ok(())
    }

    fn reserve(&self, _units: Range<Unit>) -> Result<(), Fault> {
        Ok(())
    }

    fn discard(&self, _units: Range<Unit>) -> bool {
        false
    }
}

/// Blocks of a chunk, in which a set of blocks gets its memory.
const CHUNK_BLOCKS: u64 = 1 << 15;

/// A set of blocks of states, with memory only for the parts of it that are used.
#[derive(Debug)]
pub(super) struct Verified(Vec<OnceLock<Box<[AtomicU64]>>>);

impl Verified {
    pub(super) fn new(block_count: u64) -> Self {
        let chunks = block_count.div_ceil(CHUNK_BLOCKS) as usize;
        Self((0..chunks).map(|_| OnceLock::new()).collect())
    }

    fn chunk(&self, block: StateBlock) -> Option<&OnceLock<Box<[AtomicU64]>>> {
        self.0.get((block.0 / CHUNK_BLOCKS) as usize)
    }

    #[inline]
    fn is_set(&self, block: StateBlock) -> bool {
        let word = |chunk: &[AtomicU64]| {
            // Relaxed: the kernel has told this process, and memory says the same to all threads.
            chunk[word_in_chunk(block)].load(Ordering::Relaxed) & bit(block) != 0
        };
        self.chunk(block).and_then(OnceLock::get).is_some_and(|chunk| word(chunk))
    }

    fn set(&self, block: StateBlock) {
        let words = CHUNK_BLOCKS / u64::from(u64::BITS);
        let fresh = || (0..words).map(|_| AtomicU64::new(0)).collect();
        if let Some(chunk) = self.chunk(block) {
            // Relaxed: as in `is_set`.
            chunk.get_or_init(fresh)[word_in_chunk(block)].fetch_or(bit(block), Ordering::Relaxed);
        }
    }
}

fn word_in_chunk(block: StateBlock) -> usize {
    (block.0 % CHUNK_BLOCKS) as usize / u64::BITS as usize
}

fn bit(block: StateBlock) -> u64 {
    1 << (block.0 % u64::from(u64::BITS))
}
