//! Counters, quotas and lanes.
//!
//! Counters change by exchanges alone. One that has a quota goes up only if the sum stays within
//! it, so at no moment does any say more than its quota; one that goes down stops at 0, whatever
//! others have written there.
//!
//! A peer's counter has in its upper bits which stay of the slot it is for: the next process in the
//! slot begins at 0, and who frees an object of the one before leaves it alone.
//!
//! A label whose peer is gone and that counts nothing is used again. None that counts something is,
//! and whoever has taken a label out of a lane has still to count it down: so nobody counts down
//! the next user's.

use super::layout::{
    HEAP_BYTES, HEAP_QUOTA, LABEL_BYTES, LABEL_OBJECTS, LABEL_OWNER, LABEL_PID, LABELS, LANE_BITS,
    LANES_PER_WORD, Lane, PEER_ACTIVITY, PEER_BYTES, PEER_QUOTA, TAG_BYTES, TAG_QUOTA,
};
use super::{Tag, Tally};
use crate::peers::PeerId;
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

const LANE_MASK: u64 = (1 << LANE_BITS) - 1;
/// Bits of a peer's counter that are bytes.
const BYTES_BITS: u32 = 48;
const BYTES_MASK: u64 = (1 << BYTES_BITS) - 1;
/// Bits of a label's owner that are the tag: between those of the peer.
const TAG_SHIFT: u32 = 16;
/// A peer's activity: how many threads are at work in the low bits, how often any began above.
const BEGUN_SHIFT: u32 = 16;
const AT_WORK_MASK: u64 = (1 << BEGUN_SHIFT) - 1;

/// The number of a label, below [`LABELS`] and not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label(u16);

impl Label {
    /// The label of that number, if there can be one.
    pub(crate) fn of_number(number: u64) -> Option<Self> {
        (number != 0 && number < LABELS).then_some(Self(number as u16))
    }

    /// The number.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// All there can be.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (1..LABELS as u16).map(Self)
    }
}

/// Whose a label is, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) peer: PeerId,
    pub(crate) tag: Tag,
}

impl Owner {
    fn word(self) -> u64 {
        self.peer.word() | u64::from(self.tag.0) << TAG_SHIFT
    }

    fn of_word(word: u64) -> Option<Self> {
        let peer = PeerId::of_word(word)?;
        Some(Self { peer, tag: Tag((word >> TAG_SHIFT) as u8) })
    }
}

/// Bytes and objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    pub(crate) bytes: u64,
    pub(crate) objects: u64,
}

/// What has a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Heap,
    /// Each peer by itself.
    Peer,
    Tag(Tag),
}

/// A quota that is too small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) limit: Limit,
    pub(crate) used_bytes: u64,
    pub(crate) quota_bytes: u64,
}

/// The upper bits of a peer's counter in a stay.
pub(super) fn stay_bits(peer: PeerId) -> u64 {
    peer.joins() << BYTES_BITS
}

impl<W: Words> Tally<'_, W> {
    /// Changes the word by `change`, until that has nothing more to change.
    pub(super) fn update(
        &self,
        at: WordIndex,
        change: impl Fn(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        let mut found = self.words.load(at);
        loop {
            let Some(new) = change(found) else { return Err(found) };
            match self.words.compare_exchange(at, found, new) {
                Ok(_) => return Ok(found),
                // No such word: there is nothing to count.
                Err(same) if same == found => return Ok(found),
                Err(other) => found = other,
            }
        }
    }

    /// Says that a thread of the peer in the slot is about to count.
    pub(crate) fn begin(&self, slot: PeerSlot) {
        if let Some(at) = self.layout.peer(slot, PEER_ACTIVITY) {
            let _ = self.update(at, |word| Some(word.wrapping_add((1 << BEGUN_SHIFT) + 1)));
        }
    }

    /// Says that it has done so.
    pub(crate) fn end(&self, slot: PeerSlot) {
        if let Some(at) = self.layout.peer(slot, PEER_ACTIVITY) {
            let _ = self.update(at, |word| (word & AT_WORK_MASK != 0).then(|| word - 1));
        }
    }

    /// What the peer in the slot is doing: a number that is another after whatever it has done.
    pub(super) fn activity(&self, slot: PeerSlot) -> u64 {
        self.layout.peer(slot, PEER_ACTIVITY).map_or(0, |at| self.words.load(at))
    }

    /// Whether an activity is that of a peer that is at work.
    pub(super) fn is_at_work(activity: u64) -> bool {
        activity & AT_WORK_MASK != 0
    }

    /// Says that nobody works for the slot, whose peer is dead and has left nothing to be done for
    /// it, or is the caller; who has the slot's lock.
    pub(crate) fn lay_down(&self, slot: PeerSlot) {
        if let Some(at) = self.layout.peer(slot, PEER_ACTIVITY) {
            let _ =
                self.update(at, |word| Some((word & !AT_WORK_MASK).wrapping_add(1 << BEGUN_SHIFT)));
        }
    }

    /// The quota, if there is one.
    pub(crate) fn quota(&self, limit: Limit) -> Option<u64> {
        self.words.load(self.quota_word(limit)).checked_sub(1)
    }

    /// Sets the quota. What is counted already stays.
    pub(crate) fn set_quota(&self, limit: Limit, bytes: Option<u64>) {
        let word = bytes.map_or(0, |bytes| bytes.saturating_add(1));
        self.words.store(self.quota_word(limit), word);
    }

    fn quota_word(&self, limit: Limit) -> WordIndex {
        match limit {
            Limit::Heap => self.layout.head(HEAP_QUOTA),
            Limit::Peer => self.layout.head(PEER_QUOTA),
            Limit::Tag(tag) => self.layout.tag(tag.0, TAG_QUOTA),
        }
    }

    pub(crate) fn heap_bytes_word(&self) -> WordIndex {
        self.layout.head(HEAP_BYTES)
    }

    pub(super) fn tag_bytes_word(&self, tag: Tag) -> WordIndex {
        self.layout.tag(tag.0, TAG_BYTES)
    }

    pub(super) fn peer_bytes_word(&self, slot: PeerSlot) -> Option<WordIndex> {
        self.layout.peer(slot, PEER_BYTES)
    }

    pub(super) fn label_words(&self, label: Label) -> [WordIndex; 2] {
        [LABEL_BYTES, LABEL_OBJECTS].map(|word| self.layout.label(label.0, word))
    }

    /// Counts an object, or more bytes of one, if all quotas allow it, for the peer `me`.
    pub(crate) fn reserve(&self, label: Label, me: PeerId, more: Count) -> Result<(), Exceeded> {
        let bytes = more.bytes;
        let Some(Owner { peer, tag }) = self.owner(label) else { return Ok(()) };
        // A look first: what is too much for the tag or the peer must not be in others' way.
        self.fits(Limit::Tag(tag), self.bytes_of(Some(tag)), bytes)?;
        self.fits(Limit::Peer, self.bytes_of_peer(peer), bytes)?;
        self.add(Limit::Heap, self.heap_bytes_word(), bytes)?;
        let outcome = self.add(Limit::Tag(tag), self.tag_bytes_word(tag), bytes);
        if let Err(exceeded) = outcome {
            self.subtract(self.heap_bytes_word(), bytes);
            return Err(exceeded);
        }
        if let Err(exceeded) = self.add_to_peer(peer, bytes, peer == me) {
            self.subtract(self.tag_bytes_word(tag), bytes);
            self.subtract(self.heap_bytes_word(), bytes);
            return Err(exceeded);
        }
        for (at, amount) in self.label_words(label).into_iter().zip([bytes, more.objects]) {
            let _ = self.update(at, |word| Some(word.wrapping_add(amount)));
        }
        Ok(())
    }

    /// Counts an object, or bytes of one, down.
    pub(crate) fn release(&self, label: Label, less: Count) {
        let Some(Owner { peer, tag }) = self.owner(label) else { return };
        // The other way round than they went up: so at no moment do the parts come to more than the
        // whole. From here on the label may be used again; whose it was is known.
        for (at, amount) in self.label_words(label).into_iter().zip([less.bytes, less.objects]) {
            self.subtract(at, amount);
        }
        self.subtract_from_peer(peer, less.bytes);
        self.subtract(self.tag_bytes_word(tag), less.bytes);
        self.subtract(self.heap_bytes_word(), less.bytes);
    }

    fn fits(&self, limit: Limit, used_bytes: u64, bytes: u64) -> Result<(), Exceeded> {
        match self.quota(limit) {
            Some(quota_bytes) if used_bytes.saturating_add(bytes) > quota_bytes => {
                Err(Exceeded { limit, used_bytes, quota_bytes })
            }
            _ => Ok(()),
        }
    }

    /// What is counted for the peer; 0 if the next peer in its slot has begun.
    fn bytes_of_peer(&self, peer: PeerId) -> u64 {
        let word = self.peer_bytes_word(peer.slot()).map_or(0, |at| self.words.load(at));
        if word & !BYTES_MASK == stay_bits(peer) { word & BYTES_MASK } else { 0 }
    }

    fn add(&self, limit: Limit, at: WordIndex, bytes: u64) -> Result<(), Exceeded> {
        let quota_bytes = self.quota(limit).unwrap_or(u64::MAX);
        let added = self.update(at, |word| {
            // Without a quota a wrong counter refuses nobody.
            let sum = word.saturating_add(bytes);
            (sum <= quota_bytes).then_some(sum)
        });
        let exceeded = |used_bytes| Exceeded { limit, used_bytes, quota_bytes };
        added.map(drop).map_err(exceeded)
    }

    fn add_to_peer(&self, peer: PeerId, bytes: u64, is_me: bool) -> Result<(), Exceeded> {
        let Some(at) = self.peer_bytes_word(peer.slot()) else { return Ok(()) };
        let quota_bytes = self.quota(Limit::Peer).unwrap_or(BYTES_MASK).min(BYTES_MASK);
        let used = |word: u64| (word & !BYTES_MASK == stay_bits(peer)).then_some(word & BYTES_MASK);
        let added = self.update(at, |word| {
            // Of an earlier stay: for this one nothing is counted yet. But only its own peer says
            // that it has begun.
            let used = used(word).or_else(|| is_me.then_some(0));
            match used {
                None => Some(word),
                Some(used) => {
                    let sum = used.checked_add(bytes).filter(|&sum| sum <= quota_bytes)?;
                    Some(stay_bits(peer) | sum)
                }
            }
        });
        let exceeded = |word| {
            let used_bytes = used(word).unwrap_or(0);
            Exceeded { limit: Limit::Peer, used_bytes, quota_bytes }
        };
        added.map(drop).map_err(exceeded)
    }

    fn subtract(&self, at: WordIndex, amount: u64) {
        let _ = self.update(at, |word| Some(word.saturating_sub(amount)));
    }

    fn subtract_from_peer(&self, peer: PeerId, bytes: u64) {
        let Some(at) = self.peer_bytes_word(peer.slot()) else { return };
        let _ = self.update(at, |word| {
            let is_of_stay = word & !BYTES_MASK == stay_bits(peer);
            is_of_stay.then(|| stay_bits(peer) | (word & BYTES_MASK).saturating_sub(bytes))
        });
    }

    /// A label for the peer and tag: one that it has, else a free one, else one that counts nothing
    /// and whose peer `is_gone`. `None` if there is none. The peer lives, and is the caller.
    pub(crate) fn claim(
        &self,
        owner: Owner,
        pid: u32,
        is_gone: impl Fn(PeerId) -> bool,
    ) -> Option<Label> {
        let owner_of = |label: Label| self.words.load(self.layout.label(label.0, LABEL_OWNER));
        if let Some(own) = Label::all().find(|&label| owner_of(label) == owner.word()) {
            return Some(own);
        }
        // Those that were never used first: of the others, it takes a system call to tell.
        for wants_free in [true, false] {
            for label in Label::all() {
                let found = owner_of(label);
                let is_free = match Owner::of_word(found) {
                    None => wants_free,
                    Some(Owner { peer, .. }) => {
                        !wants_free && self.count(label) == Count::default() && is_gone(peer)
                    }
                };
                let at = self.layout.label(label.0, LABEL_OWNER);
                if is_free && self.words.compare_exchange(at, found, owner.word()).is_ok() {
                    self.words.store(self.layout.label(label.0, LABEL_PID), u64::from(pid));
                    return Some(label);
                }
            }
        }
        None
    }

    /// Gives a label back that its peer has claimed, and under which nothing was ever counted.
    pub(crate) fn unclaim(&self, label: Label, owner: Owner) {
        let at = self.layout.label(label.0, LABEL_OWNER);
        let _ = self.words.compare_exchange(at, owner.word(), 0);
    }

    /// Counts under the label what it has not, so that it is not used for something else meanwhile.
    pub(crate) fn hold(&self, label: Label) {
        self.adjust(label, u64::saturating_add, Count { bytes: 0, objects: 1 });
    }

    /// Ends that.
    pub(crate) fn let_go(&self, label: Label) {
        self.adjust(label, u64::saturating_sub, Count { bytes: 0, objects: 1 });
    }

    fn adjust(&self, label: Label, change: fn(u64, u64) -> u64, by: Count) {
        for (at, amount) in self.label_words(label).into_iter().zip([by.bytes, by.objects]) {
            let _ = self.update(at, |word| Some(change(word, amount)));
        }
    }

    /// Counts an object under another label, which is held, if it still has the one.
    pub(crate) fn relabel(&self, lane: Lane, from: Label, to: Label, bytes: u64) {
        let of_object = Count { bytes, objects: 1 };
        self.adjust(to, u64::saturating_add, of_object);
        let (at, shift) = (self.layout.word_of(lane), shift_of(lane));
        let moved = self.update(at, |word| {
            let is_from = word >> shift & LANE_MASK == u64::from(from.0);
            is_from.then_some(word & !(LANE_MASK << shift) | u64::from(to.0) << shift)
        });
        self.adjust(if moved.is_ok() { from } else { to }, u64::saturating_sub, of_object);
    }

    /// Whose the label is, if anybody's.
    pub(crate) fn owner(&self, label: Label) -> Option<Owner> {
        Owner::of_word(self.words.load(self.layout.label(label.0, LABEL_OWNER)))
    }

    /// The process number that the label's peer had in its own PID namespace.
    pub(crate) fn pid(&self, label: Label) -> u32 {
        self.words.load(self.layout.label(label.0, LABEL_PID)) as u32
    }

    /// Bytes of the heap, or of a tag, as their quotas see them.
    pub(crate) fn bytes_of(&self, tag: Option<Tag>) -> u64 {
        self.words.load(tag.map_or(self.heap_bytes_word(), |tag| self.tag_bytes_word(tag)))
    }

    /// What is counted under the label.
    pub(crate) fn count(&self, label: Label) -> Count {
        let [bytes, objects] = self.label_words(label).map(|at| self.words.load(at));
        Count { bytes, objects }
    }

    /// The label in a lane, if there is one.
    pub(crate) fn label_at(&self, lane: Lane) -> Option<Label> {
        let word = self.words.load(self.layout.word_of(lane));
        Label::of_number(word >> shift_of(lane) & LANE_MASK)
    }

    /// Puts a label, or none, into a lane; what was there. Of two that do it at once, one finds the
    /// other's.
    pub(crate) fn exchange(&self, lane: Lane, label: Option<Label>) -> Option<Label> {
        let (at, shift) = (self.layout.word_of(lane), shift_of(lane));
        let number = label.map_or(0, |label| u64::from(label.0));
        let found = self.update(at, |word| {
            let new = word & !(LANE_MASK << shift) | number << shift;
            (new != word).then_some(new)
        });
        let (Ok(found) | Err(found)) = found;
        Label::of_number(found >> shift & LANE_MASK)
    }
}

fn shift_of(lane: Lane) -> u64 {
    lane.0 % LANES_PER_WORD * LANE_BITS
}
