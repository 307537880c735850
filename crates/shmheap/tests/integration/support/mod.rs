//! What the tests share: names that are cleaned up, random numbers, processes, object bytes.

pub(crate) mod bytes;
pub(crate) mod channels;
pub(crate) mod process;
pub(crate) mod random;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use shmheap::{Heap, HeapOptions, Policy, Stats};

/// A name in POSIX shared memory that nothing else uses, gone with the test, however that ends.
#[derive(Debug)]
pub(crate) struct HeapName(String);

impl HeapName {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(format!("/shmheap-test-{}-{number}", std::process::id()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The file that stands for the name.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/dev/shm").join(&self.0[1..])
    }
}

impl AsRef<OsStr> for HeapName {
    fn as_ref(&self) -> &OsStr {
        self.0.as_ref()
    }
}

impl Drop for HeapName {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_dir(self.path());
    }
}

/// Every policy, for tests of what all heaps have in common.
pub(crate) const POLICIES: [Policy; 2] = [Policy::FirstFit, Policy::Scalable];

/// Asserts that nobody lost or invented a byte: the audit is sound, and the counters, the walk over
/// the blocks and the audit agree. Nothing may change the heap meanwhile.
#[track_caller]
pub(crate) fn assert_whole(heap: &Heap) -> Stats {
    // The audit finishes what a killed process left half done.
    let report = heap.check();
    let stats = heap.stats();
    assert!(report.is_sound(), "{:#?}", report.findings);
    assert!(report.stood_still);
    let (mut count, mut live, mut live_bytes, mut free_bytes, mut largest) = (0, 0, 0, 0, 0);
    for block in heap.blocks() {
        count += 1;
        if block.live {
            live += 1;
            live_bytes += block.bytes;
        } else {
            free_bytes += block.bytes;
            largest = largest.max(block.bytes);
        }
    }
    assert_eq!(live_bytes + free_bytes + stats.tail_bytes, stats.len_bytes, "they fill the heap");
    assert_eq!(
        (stats.live_objects, stats.live_bytes, stats.free_bytes),
        (live, live_bytes, free_bytes)
    );
    assert_eq!(
        (report.live_objects, report.live_bytes, report.free_bytes),
        (live, live_bytes, free_bytes)
    );
    assert_eq!((report.tail_bytes, report.blocks), (stats.tail_bytes, count), "audit");
    assert_counted(heap);
    match heap.info().policy {
        // A free object of a slab may be larger than the longest run of free units.
        Policy::Scalable => assert!(stats.largest_free_bytes <= largest),
        _ => assert_eq!((stats.largest_free_bytes, stats.tail_bytes), (largest, 0)),
    }
    stats
}

/// Asserts that what is counted is what the labels of all objects come to, if they have any.
#[track_caller]
fn assert_counted(heap: &Heap) {
    let Some(usage) = heap.usage() else { return };
    let mut of_tag = vec![(0, 0); usage.tags.len()];
    for block in heap.blocks() {
        if let Some(label) = block.label {
            let (bytes, objects) = &mut of_tag[usize::from(label.tag)];
            (*bytes, *objects) = (*bytes + block.bytes, *objects + 1);
        }
    }
    let counted: Vec<_> = usage.tags.iter().map(|tag| (tag.bytes, tag.objects)).collect();
    assert_eq!(counted, of_tag);
    let sum = of_tag.iter().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    assert_eq!((usage.bytes, usage.objects), sum);
    let of_peers = usage.peers.iter().map(|peer| peer.objects).sum::<u64>();
    assert_eq!((of_peers, usage.is_recount_due), (sum.1, false));
}

/// Asserts that the heap is one free block, once this thread has let go what it has in hand.
#[track_caller]
pub(crate) fn assert_empty(heap: &Heap) {
    if !heap.is_read_only() {
        heap.trim().unwrap();
    }
    let stats = assert_whole(heap);
    let some: Vec<_> = heap.blocks().take(10).collect();
    assert_eq!(stats.live_objects, 0, "{some:?}");
    assert_eq!((some.len(), stats.free_bytes), (1, stats.len_bytes), "{some:?}");
}

/// A heap to be made under a policy.
pub(crate) fn heap_of(policy: Policy, len_bytes: u64) -> HeapOptions {
    HeapOptions::new(len_bytes).policy(policy)
}

/// A heap to be made whose objects are placed by first fit.
pub(crate) fn first_fit(len_bytes: u64) -> HeapOptions {
    HeapOptions::new(len_bytes).policy(Policy::FirstFit)
}

/// Runs a test on a small heap of each policy.
pub(crate) fn for_each_policy(test: impl Fn(HeapOptions)) {
    for (policy, len_bytes) in [(Policy::FirstFit, 64 << 10), (Policy::Scalable, 4 << 20)] {
        test(HeapOptions::new(len_bytes).policy(policy));
    }
}

/// A heap to be made whose threads own slabs.
pub(crate) fn scalable(len_bytes: u64) -> HeapOptions {
    HeapOptions::new(len_bytes).policy(Policy::Scalable)
}
