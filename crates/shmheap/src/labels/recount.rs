//! Counters set right, after a peer died in the middle of counting.
//!
//! ```text
//!   claim | activity of all peers: none at work | count | activity again: the same | correct
//! ```
//!
//! What the lanes of all live objects come to is what the counters should say, in a moment in which
//! nobody counts. Such a moment is not made but waited for: a peer says that it begins before its
//! first change and that it ends after its last, and no two beginnings give it the same activity.
//! So if all activities are the same before and after the walk, and none is of a peer at work,
//! nothing has changed meanwhile; else whoever counts tries again, or leaves it to the next.
//!
//! The corrections are differences, so what has been counted since is kept. Two that applied the
//! same ones would do it twice: therefore one recounts at a time, named in a word that others take
//! over only when it is dead. One that is killed has corrected some counters, and the next recount
//! corrects the others.

use super::count::stay_bits;
use super::layout::{
    DEATHS, HEAP_QUOTA, LABEL_OWNER, LABEL_PID, LABELS, PEER_QUOTA, RECOUNTED, RECOUNTER,
    TAG_WORDS, TAGS,
};
use super::{Count, Label, Tag, Tally};
use crate::peers::{PeerId, RECORDS};
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

const STAY_MASK: u64 = !0 << 48;

/// What has to be added to counters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Corrections(Vec<Correction>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Correction {
    at: WordIndex,
    /// Bits that a counter must have for this to be about it.
    stay: Option<u64>,
    found: u64,
    expected: u64,
}

impl Corrections {
    /// Where counters are wrong, what they say and what they should.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (WordIndex, u64, u64)> {
        self.0.iter().map(|wrong| (wrong.at, wrong.found, wrong.expected))
    }
}

/// All peers' activities, while none was at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rest(Vec<u64>);

/// Sums of what the lanes of live objects say.
#[derive(Debug, Clone)]
pub(crate) struct Sums(Vec<Count>);

impl Sums {
    pub(crate) fn new() -> Self {
        Self(vec![Count::default(); LABELS as usize])
    }

    /// Adds an object.
    pub(crate) fn add(&mut self, label: Label, bytes: u64) {
        let sum = &mut self.0[usize::from(label.number())];
        sum.bytes = sum.bytes.saturating_add(bytes);
        sum.objects += 1;
    }

    fn of(&self, label: Label) -> Count {
        self.0[usize::from(label.number())]
    }
}

impl<W: Words> Tally<'_, W> {
    /// Whether the slot's peer is, or died, in the middle of counting.
    pub(crate) fn is_counting(&self, slot: PeerSlot) -> bool {
        Self::is_at_work(self.activity(slot))
    }

    /// Notes that counters may be wrong. Of a dead peer that was in the middle of counting before
    /// it is [laid down](Self::lay_down): so the recount comes after what is done for it.
    pub(crate) fn note_death(&self) {
        let _ = self.update(self.layout.head(DEATHS), |deaths| Some(deaths.wrapping_add(1)));
    }

    /// Whether a death has been noted since the last recount: the counters may be too high.
    pub(crate) fn is_recount_due(&self) -> bool {
        self.deaths() != self.words.load(self.layout.head(RECOUNTED))
    }

    /// How many deaths have been noted.
    pub(crate) fn deaths(&self) -> u64 {
        self.words.load(self.layout.head(DEATHS))
    }

    /// Says that the deaths up to that one have been accounted for.
    pub(crate) fn set_recounted(&self, deaths: u64) {
        self.words.store(self.layout.head(RECOUNTED), deaths);
    }

    /// Makes `me` the one that recounts, unless a peer that is alive does.
    pub(crate) fn claim_recount(&self, me: PeerId, is_gone: impl Fn(PeerId) -> bool) -> bool {
        let at = self.layout.head(RECOUNTER);
        let found = self.words.load(at);
        let is_free = PeerId::of_word(found).is_none_or(is_gone);
        is_free && self.words.compare_exchange(at, found, me.word()).is_ok()
    }

    /// Ends that.
    pub(crate) fn release_recount(&self, me: PeerId) {
        let _ = self.words.compare_exchange(self.layout.head(RECOUNTER), me.word(), 0);
    }

    /// The activities of all peers, the first `used` slots', if none is at work.
    pub(crate) fn rest(&self, used: u16) -> Option<Rest> {
        let activities = (0..used.min(RECORDS)).map(|slot| {
            let activity = self.activity(PeerSlot(slot));
            (!Self::is_at_work(activity)).then_some(activity)
        });
        activities.collect::<Option<Vec<u64>>>().map(Rest)
    }

    /// Where the counters are not what the sums say.
    pub(crate) fn compare(&self, sums: &Sums) -> Corrections {
        let mut wrong = vec![];
        let mut expect = |at: WordIndex, stay: Option<u64>, expected: u64| {
            let found = self.words.load(at);
            let found = if stay.is_some() { found & !STAY_MASK } else { found };
            if found != expected {
                wrong.push(Correction { at, stay, found, expected });
            }
        };
        let mut heap = 0_u64;
        let mut tags = [0_u64; TAGS as usize];
        let mut peers = vec![0_u64; usize::from(RECORDS)];
        let stay_in =
            |slot| self.peer_bytes_word(slot).map_or(0, |at| self.words.load(at)) & STAY_MASK;
        for label in Label::all() {
            let sum = sums.of(label);
            let [bytes_at, objects_at] = self.label_words(label);
            expect(bytes_at, None, sum.bytes);
            expect(objects_at, None, sum.objects);
            let Some(owner) = self.owner(label) else { continue };
            heap = heap.saturating_add(sum.bytes);
            let tag = &mut tags[usize::from(owner.tag.0)];
            *tag = tag.saturating_add(sum.bytes);
            let slot = owner.peer.slot();
            if let Some(peer) = peers.get_mut(usize::from(slot.0))
                && stay_in(slot) == stay_bits(owner.peer)
            {
                *peer = peer.saturating_add(sum.bytes);
            }
        }
        expect(self.heap_bytes_word(), None, heap);
        for (tag, expected) in (0..=u8::MAX).zip(tags) {
            expect(self.tag_bytes_word(Tag(tag)), None, expected);
        }
        for (slot, expected) in (0..RECORDS).map(PeerSlot).zip(peers) {
            if let Some(at) = self.peer_bytes_word(slot) {
                expect(at, Some(stay_in(slot)), expected & !STAY_MASK);
            }
        }
        Corrections(wrong)
    }

    /// Copies everything but what counts: the copy has to be recounted.
    pub(crate) fn copy_to<C: Words>(&self, copy: &Tally<'_, C>) {
        let layout = self.layout;
        let head = [HEAP_QUOTA, PEER_QUOTA].map(|word| layout.head(word));
        let tags = (0..=u8::MAX).flat_map(|tag| (0..TAG_WORDS).map(move |n| layout.tag(tag, n)));
        let labels = Label::all().flat_map(|label| {
            [LABEL_OWNER, LABEL_PID].map(|word| layout.label(label.number(), word))
        });
        for at in head.into_iter().chain(tags).chain(labels) {
            copy.words.store(at, self.words.load(at));
        }
    }

    /// Corrects the counters by the differences.
    pub(crate) fn correct(&self, corrections: &Corrections) {
        for &Correction { at, stay, found, expected } in &corrections.0 {
            let _ = self.update(at, |word| {
                let (upper, counted, mask) = match stay {
                    Some(stay) if word & STAY_MASK != stay => return None,
                    Some(stay) => (stay, word & !STAY_MASK, !STAY_MASK),
                    None => (0, word, !0),
                };
                let corrected = if expected > found {
                    counted.saturating_add(expected - found)
                } else {
                    counted.saturating_sub(found - expected)
                };
                Some(upper | corrected & mask)
            });
        }
    }
}
