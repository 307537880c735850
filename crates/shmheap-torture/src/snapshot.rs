//! `Snapshot`: what a heap holds, in terms that do not depend on which heap it is; and whether it
//! is whole.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use shmheap::{Handle, Heap, Policy};

use crate::bytes;
use crate::patience::Patience;
use crate::scenario::Outcome;

/// Of a large object, as much is compared as is ever written.
const COMPARED_BYTES: u64 = 4096;
const DEATHS_PATIENCE: Duration = Duration::from_secs(10);

/// An object: its size, and a digest of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Object {
    bytes: u64,
    digest: u64,
}

/// All live objects of a heap, by their places behind the start of object space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    objects: BTreeMap<u64, Object>,
    /// The place of the object in the cell.
    in_cell: Option<u64>,
}

impl Snapshot {
    /// Has all dead peers adopted, audits the heap, and lists what is in it. Nobody may change the
    /// heap meanwhile. `cell` is the place of a word that is a cell.
    pub(crate) fn take(heap: &Heap, cell: u64) -> Result<Self> {
        heap.sweep()?;
        assert_whole(heap)?;
        let mut snapshot = Self::default();
        for block in heap.blocks().filter(|block| block.live) {
            let object = heap.resolve(block.handle)?;
            let place = bytes::place(heap, object);
            let count = block.bytes.min(COMPARED_BYTES) as usize / size_of::<u64>();
            let mut content = bytes::words(heap, object, count).iter();
            if place == cell {
                let word = content.next().context("no cell")?;
                // Relaxed: whoever wrote it is dead.
                let raw = word.load(Ordering::Relaxed);
                if raw != 0 {
                    let there = heap.resolve(Handle::from_raw(raw));
                    snapshot.in_cell = Some(bytes::place(heap, there.context("in the cell")?));
                }
            }
            let digest = content.fold(0xcbf2_9ce4_8422_2325_u64, |digest, word| {
                (digest ^ word.load(Ordering::Relaxed))
                    .wrapping_mul(0x0100_0000_01b3)
                    .rotate_left(29)
            });
            snapshot.objects.insert(place, Object { bytes: block.bytes, digest });
        }
        Ok(snapshot)
    }

    /// Whether this may be left by an operation that was cut between `before` and `after`.
    pub(crate) fn lies_between(&self, before: &Self, after: &Self, outcome: Outcome) -> bool {
        if self == before || self == after {
            return true;
        }
        let of_either = |(place, object): (&u64, &Object)| {
            before.objects.get(place) == Some(object) || after.objects.get(place) == Some(object)
        };
        // Content of what was made just now is its maker's to write.
        let is_in = |place: &u64| {
            let bytes = |of: &Self| of.objects.get(place).map(|object| object.bytes);
            let found = bytes(self);
            found.is_some() && (found == bytes(before) || found == bytes(after))
        };
        let in_both = before.objects.iter().filter(|(place, _)| after.objects.contains_key(place));
        match outcome {
            Outcome::One => false,
            Outcome::OneOrBoth => {
                before.objects.iter().all(|(place, object)| self.objects.get(place) == Some(object))
                    && self.objects.keys().all(is_in)
                    && after.objects.keys().all(|place| self.objects.contains_key(place))
            }
            Outcome::Each => {
                self.objects.iter().all(of_either)
                    && in_both.map(|(place, _)| place).all(|place| self.objects.contains_key(place))
            }
        }
    }

    /// How this differs from another, in a few words.
    pub(crate) fn difference(&self, other: &Self) -> String {
        let missing: Vec<_> = other
            .objects
            .iter()
            .filter(|(place, object)| self.objects.get(place) != Some(object))
            .take(4)
            .collect();
        let extra: Vec<_> = self
            .objects
            .iter()
            .filter(|(place, object)| other.objects.get(place) != Some(object))
            .take(4)
            .collect();
        format!(
            "lacks {missing:x?}, has {extra:x?} instead; cell {:x?}, not {:x?}",
            self.in_cell, other.in_cell
        )
    }
}

/// Waits until no more than so many peers of the heap are alive: those that have ended may seem so
/// for a moment, while somebody reads of them in /proc and so has hold of their memory.
pub(crate) fn await_deaths(heap: &Heap, alive: usize) -> Result<()> {
    let mut patience = Patience::new(DEATHS_PATIENCE);
    while heap.peers().iter().filter(|peer| peer.alive).count() > alive {
        ensure!(patience.wait(), "more than {alive} peers are alive");
    }
    Ok(())
}

/// An error unless nobody has lost or invented a byte: the audit is sound, and the counters, the
/// walk over the blocks and the audit agree.
fn assert_whole(heap: &Heap) -> Result<()> {
    // The audit finishes what a killed process left half done.
    let report = heap.check();
    let stats = heap.stats();
    ensure!(report.is_sound(), "not sound: {:?}", report.findings);
    ensure!(report.stood_still && !report.recovery_pending, "something is still under way");
    ensure!(stats.peers_dead == 0, "{} dead peers are not swept", stats.peers_dead);
    let (mut live, mut live_bytes, mut free_bytes) = (0, 0, 0);
    for block in heap.blocks() {
        if block.live {
            live += 1;
            live_bytes += block.bytes;
        } else {
            free_bytes += block.bytes;
        }
    }
    let walked = (live, live_bytes, free_bytes);
    let counted = (stats.live_objects, stats.live_bytes, stats.free_bytes);
    let audited = (report.live_objects, report.live_bytes, report.free_bytes);
    ensure!(walked == counted && walked == audited, "{walked:?}, {counted:?}, {audited:?}");
    let all = live_bytes + free_bytes + stats.tail_bytes;
    ensure!(all == stats.len_bytes, "{all} of {} bytes are left", stats.len_bytes);
    Ok(())
}

/// Frees all that lives in a heap; an error unless that makes it one free block.
pub(crate) fn assert_empties(heap: &Heap) -> Result<()> {
    for block in heap.blocks().filter(|block| block.live).collect::<Vec<_>>() {
        bytes::free(heap, heap.resolve(block.handle)?)?;
    }
    if heap.info().policy == Policy::Scalable {
        heap.trim()?;
    }
    assert_whole(heap)?;
    let blocks = heap.blocks().count();
    ensure!(blocks == 1, "an empty heap has {blocks} blocks");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(objects: &[(u64, u64, u64)]) -> Snapshot {
        let objects = objects.iter();
        let objects = objects.map(|&(place, bytes, digest)| (place, Object { bytes, digest }));
        Snapshot { objects: objects.collect(), in_cell: None }
    }

    #[test]
    fn one_object_more_is_before_or_after_and_nothing_else() {
        let (before, after) = (snapshot(&[(0, 16, 1)]), snapshot(&[(0, 16, 1), (16, 32, 2)]));
        for outcome in [Outcome::One, Outcome::OneOrBoth, Outcome::Each] {
            assert!(before.lies_between(&before, &after, outcome));
            assert!(after.lies_between(&before, &after, outcome));
            for wrong in [
                snapshot(&[]),
                snapshot(&[(0, 16, 9)]),
                snapshot(&[(16, 32, 2)]),
                snapshot(&[(0, 16, 1), (16, 48, 2)]),
                snapshot(&[(0, 16, 1), (48, 32, 2)]),
            ] {
                assert!(!wrong.lies_between(&before, &after, outcome), "{outcome:?}, {wrong:?}");
            }
        }
    }

    #[test]
    fn while_an_object_moves_both_may_be_there_and_the_new_one_unwritten() {
        let (before, after) = (snapshot(&[(0, 16, 1)]), snapshot(&[(16, 32, 1)]));
        let both = snapshot(&[(0, 16, 1), (16, 32, 7)]);
        assert!(both.lies_between(&before, &after, Outcome::OneOrBoth));
        assert!(!both.lies_between(&before, &after, Outcome::One));
        let neither = snapshot(&[]);
        assert!(!neither.lies_between(&before, &after, Outcome::OneOrBoth));
        let old_one_spoilt = snapshot(&[(0, 16, 2), (16, 32, 1)]);
        assert!(!old_one_spoilt.lies_between(&before, &after, Outcome::OneOrBoth));
    }

    #[test]
    fn of_many_that_are_freed_any_may_be_left() {
        let before = snapshot(&[(0, 16, 1), (16, 16, 2), (32, 16, 3)]);
        let after = snapshot(&[(32, 16, 3)]);
        assert!(snapshot(&[(16, 16, 2), (32, 16, 3)]).lies_between(&before, &after, Outcome::Each));
        assert!(!snapshot(&[(0, 16, 1)]).lies_between(&before, &after, Outcome::Each));
    }
}
