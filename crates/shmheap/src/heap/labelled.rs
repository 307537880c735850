//! Objects that are counted under a label: what the heap does around the engines, which know
//! nothing of it.
//!
//! ```text
//!   alloc    counted, within the quotas | made by the engine | its lane gets the label
//!   free     its lane loses the label   | freed by the engine | counted down
//! ```
//!
//! Whoever takes the label out of an object's lane counts it down, so that is done once, also when
//! two free one object. Every way an object comes or goes leads through here: `alloc` and `free`,
//! unpublished objects made and dropped, and those that are freed for a dead process (`custody`).
//!
//! The object is looked up before its label is touched, and what is freed for an entry of the
//! ledger by its handle, generation included: so no label of a later object in the same place is.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::heap::shape::Engine;
use crate::heap::{Gate, Handle, Heap, Unpublished};
use crate::labels::layout::{LABELS, TAGS};
use crate::labels::{self, Count, Exceeded, Lane, Limit, Owner, Tag, Tally};
use crate::os::process;
use crate::peers::PeerId;
use crate::slab::{Object, Place, Slabs};
use crate::units::PeerSlot;
use crate::{Error, Result};

/// Names the tag of a process that sets none.
const TAG_VARIABLE: &str = "SHMHEAP_TAG";
/// Bits of a known label that are its number; the stay that it is for is above them.
const NUMBER_BITS: u32 = 16;

/// What this process knows of a heap's labels.
#[derive(Debug)]
pub(super) struct Labelling {
    /// The name of the tag that counts where no other is set, and 1 more than its number, or 0.
    default_name: String,
    default_tag: AtomicU64,
    /// For each tag the label of this process, and for which stay that is.
    known: Box<[AtomicU64]>,
}

impl Labelling {
    /// That of a process which has allocated nothing yet.
    pub(super) fn of_environment() -> Self {
        let name = std::env::var(TAG_VARIABLE).unwrap_or_default();
        Self {
            default_name: name,
            default_tag: AtomicU64::new(0),
            known: (0..TAGS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The tag that counts where no other is set; `find` finds it by its name. A name that can be
    /// none of this heap's counts as none: it was said outside the program, which must not fail for
    /// it.
    #[inline]
    pub(super) fn default_tag(&self, find: impl FnOnce(&str) -> Result<Tag>) -> Result<Tag> {
        // Relaxed: a tag has its number for good.
        if let Some(number) = self.default_tag.load(Ordering::Relaxed).checked_sub(1) {
            return Ok(Tag(number as u8));
        }
        let found = match find(&self.default_name) {
            Err(Error::InvalidTag { .. } | Error::TooManyTags { .. }) => Tag::NONE,
            found => found?,
        };
        // Relaxed: as above.
        self.default_tag.store(u64::from(found.0) + 1, Ordering::Relaxed);
        Ok(found)
    }

    /// The label of the tag in the stay, if this process has one.
    fn known(&self, tag: Tag, stay: u64) -> Option<labels::Label> {
        // Relaxed: the process's own labels stand as long as its stay.
        let word = self.known.get(usize::from(tag.0))?.load(Ordering::Relaxed);
        let number = word & (LABELS - 1);
        (stay != 0 && word >> NUMBER_BITS == stay).then(|| labels::Label::of_number(number))?
    }

    /// Remembers the label; the one that another thread has remembered before, if one has.
    fn learn(&self, tag: Tag, stay: u64, label: labels::Label) -> labels::Label {
        let Some(word) = self.known.get(usize::from(tag.0)) else { return label };
        let new = stay << NUMBER_BITS | u64::from(label.number());
        // Relaxed: as above.
        let was = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |found| {
            (found >> NUMBER_BITS != stay).then_some(new)
        });
        was.err().and_then(|_| self.known(tag, stay)).unwrap_or(label)
    }
}

/// A thread of a peer at work on counters.
struct Work<'h> {
    tally: Tally<'h, Gate<'h>>,
    slot: PeerSlot,
}

impl<'h> Work<'h> {
    fn begin(tally: Tally<'h, Gate<'h>>, slot: PeerSlot) -> Self {
        tally.begin(slot);
        Self { tally, slot }
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.tally.end(self.slot);
    }
}

impl Heap {
    #[inline]
    pub(super) fn tally<'h>(&'h self, labels: &'h labels::Layout) -> Tally<'h, Gate<'h>> {
        Tally::new(labels, self.gate())
    }

    /// The peer that holds the slot now.
    pub(super) fn peer_in(&self, slot: PeerSlot) -> PeerId {
        PeerId::new(slot, self.shape.records.joins(&self.words(), slot))
    }

    /// Allocates an object as [`alloc`](Self::alloc) does, under this thread's tag.
    #[cold]
    #[inline(never)]
    pub(super) fn alloc_labelled(
        &self,
        labels: &labels::Layout,
        layout: Layout,
    ) -> Result<NonNull<u8>> {
        let make = || self.alloc_plainly(layout);
        // What cannot be freed stays, without a label.
        let unmake = |object| drop(self.free_plainly(object));
        self.make_labelled(labels, layout, make, |&object| object, unmake)
    }

    /// As [`alloc_labelled`](Self::alloc_labelled), for an object that dies with its process.
    #[cold]
    #[inline(never)]
    pub(super) fn alloc_unpublished_labelled(
        &self,
        labels: &labels::Layout,
        layout: Layout,
    ) -> Result<Unpublished<'_>> {
        let make = || self.alloc_unpublished_plainly(layout);
        self.make_labelled(labels, layout, make, Unpublished::as_ptr, drop)
    }

    fn make_labelled<T>(
        &self,
        labels: &labels::Layout,
        layout: Layout,
        make: impl Fn() -> Result<T>,
        address: impl Fn(&T) -> NonNull<u8>,
        unmake: impl Fn(T),
    ) -> Result<T> {
        self.within_quotas(|| {
            let slot = self.me("allocate")?;
            let me = self.peer_in(slot);
            let label = self.own_label(labels, me)?;
            let bytes = self.bytes_for(layout)?;
            let tally = self.tally(labels);
            let _work = Work::begin(tally, slot);
            self.reserve_under(labels, label, me, Count { bytes, objects: 1 })?;
            let made = make().inspect_err(|_| tally.release(label, Count { bytes, objects: 1 }))?;
            match self.label_made(labels, address(&made), label, me, bytes) {
                Ok(()) => Ok(made),
                Err(error) => {
                    unmake(made);
                    Err(error)
                }
            }
        })
    }

    /// Labels an object for which so many bytes are counted. If there is an error, none are any
    /// more.
    fn label_made(
        &self,
        labels: &labels::Layout,
        object: NonNull<u8>,
        label: labels::Label,
        me: PeerId,
        bytes: u64,
    ) -> Result<()> {
        let tally = self.tally(labels);
        let settle = || -> Result<Lane> {
            let (lane, found) = self.lane_of(labels, object)?;
            // Larger than asked for, where nothing else was left in a full heap.
            if let Some(more @ 1..) = found.checked_sub(bytes) {
                self.reserve_under(labels, label, me, Count { bytes: more, objects: 0 })?;
            }
            Ok(lane)
        };
        let lane = settle().inspect_err(|_| tally.release(label, Count { bytes, objects: 1 }))?;
        if tally.exchange(lane, Some(label)).is_some() {
            // Of an object that was here before and is still counted.
            tally.note_death();
        }
        Ok(())
    }

    /// Frees an object by `free`, for the peer in the slot, and counts it down.
    pub(super) fn free_labelled(
        &self,
        labels: &labels::Layout,
        slot: PeerSlot,
        object: NonNull<u8>,
        free: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let (lane, bytes) = self.lane_of(labels, object)?;
        let tally = self.tally(labels);
        let _work = Work::begin(tally, slot);
        let label = tally.exchange(lane, None);
        let freed = free();
        match (label, &freed) {
            // It stays, and with it its label.
            (Some(label), Err(_)) if self.lane_of(labels, object).is_ok() => {
                tally.exchange(lane, Some(label));
            }
            (Some(label), _) => tally.release(label, Count { bytes, objects: 1 }),
            (None, _) => {}
        }
        freed
    }

    /// Frees the object that a handle names by `free`, for the peer in the slot or else this one,
    /// and counts it down if it is live.
    #[inline]
    pub(super) fn free_by_handle(
        &self,
        slot: Option<PeerSlot>,
        handle: Handle,
        free: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        match &self.shape.labels {
            None => free(),
            Some(labels) => self.free_labelled_by_handle(labels, slot, handle, free),
        }
    }

    #[cold]
    #[inline(never)]
    fn free_labelled_by_handle(
        &self,
        labels: &labels::Layout,
        slot: Option<PeerSlot>,
        handle: Handle,
        free: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let Ok(object) = self.resolve(handle) else { return free() };
        let slot = match slot {
            Some(slot) => slot,
            None => self.me("free")?,
        };
        self.free_labelled(labels, slot, object, free)
    }

    /// Changes an object's size without moving it, and counts the difference; whether that was
    /// possible. Where a quota is in the way of that, it is not: what is moved is counted anew, for
    /// this process and its tag.
    pub(super) fn resize_labelled(
        &self,
        labels: &labels::Layout,
        object: NonNull<u8>,
        layout: Layout,
    ) -> Result<bool> {
        let slot = self.me("reallocate")?;
        let me = self.peer_in(slot);
        let tally = self.tally(labels);
        let (lane, before) = self.lane_of(labels, object)?;
        let Some(label) = tally.label_at(lane) else {
            return self.resize_plainly(object, layout);
        };
        let more = self.bytes_for(layout)?.saturating_sub(before);
        let _work = Work::begin(tally, slot);
        if tally.reserve(label, me, Count { bytes: more, objects: 0 }).is_err() {
            return Ok(false);
        }
        let resized = self.resize_plainly(object, layout);
        // An object that cannot be looked up any more is as it was, as far as anybody knows.
        let after = self.lane_of(labels, object).map_or(before, |(_, bytes)| bytes);
        let too_many = (before + more).saturating_sub(after);
        tally.release(label, Count { bytes: too_many, objects: 0 });
        resized
    }

    /// Bytes that an object of the layout gets, unless the heap is so full that it gets more.
    fn bytes_for(&self, layout: Layout) -> Result<u64> {
        match &self.shape.engine {
            Engine::FirstFit(_) => Ok(self.shape.bytes(self.request(layout)?.granules)),
            Engine::Slabs(_) => self.slab_bytes_for(layout),
        }
    }

    /// The lane of a live object, and the bytes that the object has.
    pub(super) fn lane_of(
        &self,
        labels: &labels::Layout,
        object: NonNull<u8>,
    ) -> Result<(Lane, u64)> {
        match &self.shape.engine {
            Engine::FirstFit(_) => {
                let bytes = self.usable_size(object)? as u64;
                Ok((labels.lane_of_place(self.position(object)?.0), bytes))
            }
            Engine::Slabs(slabs) => {
                let found = self.slab_object(slabs, object)?;
                Ok((lane_of_object(labels, found), found.bytes()))
            }
        }
    }

    /// The label of this process for the tag of this thread.
    fn own_label(&self, labels: &labels::Layout, me: PeerId) -> Result<labels::Label> {
        let tag = self.thread_tag(labels)?;
        let (stay, labelling) = (self.stay(), self.labelling.as_deref());
        if let Some(known) = labelling.and_then(|labelling| labelling.known(tag, stay)) {
            return Ok(known);
        }
        let owner = Owner { peer: me, tag };
        let pid = process::Known::of_this_process().pid;
        let tally = self.tally(labels);
        let claim = || tally.claim(owner, pid, |peer| !self.is_peer_alive(peer));
        let claimed = claim().or_else(|| {
            self.unite_labels_of_the_gone(labels, me.slot());
            claim()
        });
        let label = claimed.ok_or(Error::TooManyLabels { limit: LABELS as u32 - 1 })?;
        let learned = labelling.map_or(label, |labelling| labelling.learn(tag, stay, label));
        if learned != label {
            tally.unclaim(label, owner);
        }
        Ok(learned)
    }

    /// Counts what processes that are gone have left under one label for each tag, so that the
    /// others may be used again. Which of them left it is no longer known then.
    #[cold]
    fn unite_labels_of_the_gone(&self, labels: &labels::Layout, slot: PeerSlot) {
        let tally = self.tally(labels);
        let _work = Work::begin(tally, slot);
        let mut heirs = [None; TAGS as usize];
        let heir_of: Vec<_> = labels::Label::all()
            .map(|label| self.heir_of_the_gone(&tally, &mut heirs, label))
            .collect();
        let moves = labels::Label::all()
            .zip(&heir_of)
            .any(|(label, &heir)| heir.is_some_and(|heir| heir != label));
        let blocks = self.blocks().filter(|block| moves && block.live);
        for block in blocks {
            let Some(from) = self.label_at(block.offset_bytes) else { continue };
            let heir = heir_of.get(usize::from(from.number()) - 1).copied().flatten();
            if let Some(to) = heir.filter(|&to| to != from)
                && let Ok(object) = self.resolve(block.handle)
                && let Ok((lane, bytes)) = self.lane_of(labels, object)
            {
                tally.relabel(lane, from, to, bytes);
            }
        }
        let held = labels::Label::all().zip(&heir_of).filter(|(_, heir)| heir.is_some());
        held.for_each(|(label, _)| tally.let_go(label));
        if moves {
            // An object may have changed its size in between.
            tally.note_death();
        }
    }

    /// Under which label to count what is counted under that, if its peer is gone: the first such
    /// of its tag. The label is held then, so that nobody who lives gets it meanwhile.
    fn heir_of_the_gone(
        &self,
        tally: &Tally<'_, Gate<'_>>,
        heirs: &mut [Option<labels::Label>],
        label: labels::Label,
    ) -> Option<labels::Label> {
        // Held first: if it counts more than that, it keeps the owner that is looked at.
        tally.hold(label);
        let owner = tally.owner(label).filter(|_| tally.count(label).objects > 1);
        let gone = owner.filter(|owner| !self.is_peer_alive(owner.peer));
        let heir = gone.and_then(|gone| heirs.get_mut(usize::from(gone.tag.0)));
        let heir = heir.map(|heir| *heir.get_or_insert(label));
        if heir.is_none() {
            tally.let_go(label);
        }
        heir
    }

    fn reserve_under(
        &self,
        labels: &labels::Layout,
        label: labels::Label,
        me: PeerId,
        more: Count,
    ) -> Result<()> {
        let tally = self.tally(labels);
        tally.reserve(label, me, more).map_err(|exceeded| {
            let Exceeded { limit, used_bytes, quota_bytes } = exceeded;
            let what = match limit {
                Limit::Heap => "the heap".to_owned(),
                Limit::Peer => "this process".to_owned(),
                Limit::Tag(Tag::NONE) => "what has no tag".to_owned(),
                Limit::Tag(tag) => format!("tag '{}'", tally.tag_name(tag)),
            };
            Error::QuotaExceeded { what, requested_bytes: more.bytes, used_bytes, quota_bytes }
        })
    }

    /// Does `attempt`, and if a quota is in the way once more, if there was anything to do about
    /// that: dead peers may have had unpublished objects, or left counters too high.
    fn within_quotas<T>(&self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        match attempt() {
            Err(Error::QuotaExceeded { .. } | Error::TooManyLabels { .. })
                if self.recover_quota() =>
            {
                attempt()
            }
            outcome => outcome,
        }
    }

    #[cold]
    fn recover_quota(&self) -> bool {
        let swept = self.sweep_peers();
        self.recount_if_due() || swept > 0
    }

    /// Notes that the slot's peer, whose lock the caller has, was in the middle of counting, if it
    /// was.
    pub(super) fn note_miscount(&self, slot: PeerSlot) {
        if let Some(labels) = &self.shape.labels
            && self.tally(labels).is_counting(slot)
        {
            self.tally(labels).note_death();
        }
    }

    /// Says that nobody counts for the slot any more. After all else that is done for a dead peer:
    /// a recount before would believe records that were still to be changed.
    pub(super) fn lay_down_labels(&self, slot: PeerSlot) {
        if let Some(labels) = &self.shape.labels
            && self.tally(labels).is_counting(slot)
        {
            self.tally(labels).lay_down(slot);
        }
    }

    /// Whether the peer lives and has not left.
    pub(super) fn is_peer_alive(&self, peer: PeerId) -> bool {
        let is_dead = |slot| self.connection.witness().is_dead(slot);
        // Without the records' storage nobody can be told dead.
        self.processes_used()
            .is_none_or(|used| peer.is_alive(&self.words(), self.shape.records, used, is_dead))
    }

    /// The label of whatever object starts so many bytes behind the start of object space.
    pub(super) fn label_at(&self, bytes: u64) -> Option<labels::Label> {
        let label = match &self.shape.engine {
            Engine::FirstFit(_) => self.label_of_place(self.granule_at(bytes)?.0),
            Engine::Slabs(slabs) => self.label_in_slab(slabs, Place(bytes)),
        };
        labels::Label::of_number(label?.number.into())
    }

    /// The label of the object at a granule.
    pub(super) fn label_of_place(&self, granule: u64) -> Option<crate::Label> {
        let labels = self.shape.labels.as_ref()?;
        self.label_in_lane(labels, labels.lane_of_place(granule))
    }

    /// The label of the object at a place.
    pub(super) fn label_in_slab(&self, slabs: &Slabs, place: Place) -> Option<crate::Label> {
        let labels = self.shape.labels.as_ref()?;
        let found = self.reader(slabs).live_object(place).ok()?;
        self.label_in_lane(labels, lane_of_object(labels, found))
    }

    fn label_in_lane(&self, labels: &labels::Layout, lane: Lane) -> Option<crate::Label> {
        let tally = self.tally(labels);
        let label = tally.label_at(lane)?;
        let Owner { peer, tag } = tally.owner(label)?;
        Some(crate::Label {
            tag: tag.0,
            slot: peer.slot().0,
            stay: peer.joins() as u32,
            pid: tally.pid(label),
            number: label.number(),
        })
    }
}

fn lane_of_object(labels: &labels::Layout, object: Object) -> Lane {
    match object {
        Object::Small { state_at, .. } => labels.lane_of_state(state_at.0),
        Object::Large { unit, .. } => labels.lane_of_place(unit.0),
    }
}
