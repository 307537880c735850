//! Where the records of labels lie, behind all other records and before object space.
//!
//! ```text
//!   start, a page's
//!   +------+-----------+-------------+-------------+-------------------+------------------+
//!   | head | tags      | peers       | labels      | lanes of places   | lanes of states  |
//!   | 64   | 256 of 16 | 1024 of 8   | 4096 of 8   | 2 bytes for each  | 2 bytes for each |
//!   | words| words     | words       | words       | granule, or unit  | state (scalable) |
//!   +------+-----------+-------------+-------------+-------------------+------------------+
//! ```
//!
//! A *lane* is 16 bits in which the number of an object's label stands; four share a word. Lanes of
//! places get storage as the heap grows, those of states with the states. All else has storage from
//! the heap's creation on.

use std::ops::Range;

use crate::peers::RECORDS;
use crate::units::{Offset, PAGE_BYTES, PeerSlot, WORD_BYTES, WordIndex, round_up};

/// Tags of a heap, the one without a name included.
pub(crate) const TAGS: u64 = 256;
/// Words of a tag: a line for its name, and one for what is counted.
pub(crate) const TAG_WORDS: u64 = 16;
/// Words for what a peer has, a line.
pub(crate) const PEER_WORDS: u64 = 8;
/// Labels of a heap; the first is none.
pub(crate) const LABELS: u64 = 4096;
/// Words of a label, a line.
pub(crate) const LABEL_WORDS: u64 = 8;

/// Words of the head.
pub(crate) const HEAD_WORDS: u64 = 64;
/// The heap's quota, and each peer's.
pub(crate) const HEAP_QUOTA: u64 = 0;
pub(crate) const PEER_QUOTA: u64 = 1;
/// Bytes of all objects.
pub(crate) const HEAP_BYTES: u64 = 8;
/// How often a peer died in the middle of counting, and up to which of these was recounted.
pub(crate) const DEATHS: u64 = 16;
pub(crate) const RECOUNTED: u64 = 17;
/// The peer that recounts.
pub(crate) const RECOUNTER: u64 = 24;

/// Words of a tag: what its name is hashed to, how long it is, and the name.
pub(crate) const TAG_HASH: u64 = 0;
pub(crate) const TAG_NAME_BYTES: u64 = 1;
pub(crate) const TAG_NAME: u64 = 2;
pub(crate) const TAG_BYTES: u64 = 8;
pub(crate) const TAG_QUOTA: u64 = 9;

/// Words of a peer: what it is doing, and what it has.
pub(crate) const PEER_ACTIVITY: u64 = 0;
pub(crate) const PEER_BYTES: u64 = 1;

/// Words of a label: whose it is, what it counts, and the peer's process number.
pub(crate) const LABEL_OWNER: u64 = 0;
pub(crate) const LABEL_BYTES: u64 = 1;
pub(crate) const LABEL_OBJECTS: u64 = 2;
pub(crate) const LABEL_PID: u64 = 3;

/// Bits of a lane.
pub(crate) const LANE_BITS: u64 = 16;
pub(crate) const LANES_PER_WORD: u64 = u64::BITS as u64 / LANE_BITS;
const LANE_BYTES: u64 = LANE_BITS / 8;
const LANES_PER_PAGE: u64 = PAGE_BYTES / LANE_BYTES;

const _: () = assert!(LABELS <= 1 << LANE_BITS, "a lane holds the number of a label");

/// The number of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane(pub u64);

/// The base of every array; see the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    head: WordIndex,
    tags: WordIndex,
    peers: WordIndex,
    labels: WordIndex,
    lanes: Offset,
    /// The lane of the first state.
    states: u64,
    lane_count: u64,
    end: Offset,
}

impl Layout {
    /// The layout from `start` on for so many places, granules or units, and states; `None` if
    /// these are too many.
    pub(crate) fn new(start: Offset, places: u64, states: u64) -> Option<Self> {
        let head = Offset(round_up(start.0, PAGE_BYTES)?).word();
        let tags = head + HEAD_WORDS;
        let peers = tags + TAGS * TAG_WORDS;
        let labels = peers + u64::from(RECORDS) * PEER_WORDS;
        let tables_end = (labels + LABELS * LABEL_WORDS).offset();
        let lanes = Offset(round_up(tables_end.0, PAGE_BYTES)?);
        let first_state = round_up(places, LANES_PER_PAGE)?;
        let lane_count = round_up(first_state.checked_add(states)?, LANES_PER_PAGE)?;
        let end = Offset(lanes.0.checked_add(lane_count.checked_mul(LANE_BYTES)?)?);
        Some(Self { head, tags, peers, labels, lanes, states: first_state, lane_count, end })
    }

    /// The first byte behind the records.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// The bytes of what has storage from the start on.
    pub(crate) fn tables(&self) -> Range<u64> {
        self.head.offset().0..self.lanes.0
    }

    /// The bytes, whole pages, of the lanes that must have storage before the heap goes from `from`
    /// places to `to`.
    pub(crate) fn places_storage(&self, from: u64, to: u64) -> Range<u64> {
        let (first, last) = (from / LANES_PER_PAGE, to.div_ceil(LANES_PER_PAGE));
        self.lanes.0 + first * PAGE_BYTES..self.lanes.0 + last * PAGE_BYTES
    }

    /// The bytes of the lanes of some states.
    pub(crate) fn states_storage(&self, states: Range<u64>) -> Range<u64> {
        let byte = |state: u64| self.lanes.0 + (self.states + state) * LANE_BYTES;
        byte(states.start)..byte(states.end)
    }

    /// The lane of the object at a granule, or of the large object at a unit.
    #[inline]
    pub(crate) fn lane_of_place(&self, place: u64) -> Lane {
        Lane(place)
    }

    /// The lane of the object that has a state.
    #[inline]
    pub(crate) fn lane_of_state(&self, state: u64) -> Lane {
        Lane(self.states.saturating_add(state))
    }

    /// The word that a lane is in; one that no segment has, if there is no such lane.
    #[inline]
    pub(super) fn word_of(&self, lane: Lane) -> WordIndex {
        if lane.0 < self.lane_count {
            self.lanes.word() + lane.0 / LANES_PER_WORD
        } else {
            WordIndex(u64::MAX)
        }
    }

    #[inline]
    pub(super) fn head(&self, word: u64) -> WordIndex {
        self.head + word
    }

    /// A word of a tag; numbers come as bytes, so there is no other.
    #[inline]
    pub(super) fn tag(&self, tag: u8, word: u64) -> WordIndex {
        self.tags + u64::from(tag) * TAG_WORDS + word
    }

    /// A word of a peer, if the table has the slot.
    #[inline]
    pub(super) fn peer(&self, slot: PeerSlot, word: u64) -> Option<WordIndex> {
        (slot.0 < RECORDS).then(|| self.peers + u64::from(slot.0) * PEER_WORDS + word)
    }

    /// A word of a label, whose number is below [`LABELS`].
    #[inline]
    pub(super) fn label(&self, number: u16, word: u64) -> WordIndex {
        self.labels + u64::from(number) * LABEL_WORDS + word
    }
}

const _: () = assert!(TAG_NAME + super::tags::NAME_BYTES_MAX as u64 / WORD_BYTES <= TAG_BYTES);
const _: () = assert!(TAGS == 1 << u8::BITS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_follow_each_other_and_lanes_lie_apart() {
        for (places, states) in [(1, 0), (65_536, 0), (16, 16 * 7168), (1 << 20, 7168 << 20)] {
            let layout = Layout::new(Offset(5000), places, states).unwrap();
            assert_eq!(layout.head, Offset(8192).word());
            let last = layout.label(LABELS as u16 - 1, LABEL_WORDS - 1);
            assert!(last.offset().0 + 8 <= layout.lanes.0);
            assert_eq!(layout.tables(), 8192..layout.lanes.0);
            let (last_place, first_state) =
                (layout.lane_of_place(places - 1), layout.lane_of_state(0));
            assert!(last_place.0 < first_state.0);
            let storage = layout.places_storage(0, places);
            let byte = |lane| layout.word_of(lane).offset().0;
            assert!(storage.start == layout.lanes.0 && byte(last_place) < storage.end);
            assert!(storage.end <= byte(first_state) || states == 0);
            if states > 0 {
                let storage = layout.states_storage(0..states);
                assert_eq!(storage.start, byte(first_state));
                assert!(byte(layout.lane_of_state(states - 1)) < storage.end);
                assert!(storage.end <= layout.end().0);
            }
            for none in [u64::MAX, u64::MAX / 2, layout.lane_count] {
                assert_eq!(layout.word_of(Lane(none)), WordIndex(u64::MAX));
            }
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        assert_eq!(Layout::new(Offset(0), u64::MAX, 0), None);
        assert_eq!(Layout::new(Offset(0), 1, u64::MAX / 2), None);
        assert_eq!(Layout::new(Offset(u64::MAX - 5), 1, 0), None);
    }
}
