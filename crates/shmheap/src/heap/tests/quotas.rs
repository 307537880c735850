//! Quotas and labels where something is in the way: others' quotas, tables that are full, frees
//! that fail, counters that are wrong.

use std::alloc::Layout;
use std::ptr::NonNull;

use crate::labels::layout::LABELS;
use crate::labels::{Count, Label, Owner, Tag};
use crate::os::testing::{exit_status, fork, in_own_process};
use crate::peers::{PeerId, Surroundings};
use crate::segment::words::Words;
use crate::units::PeerSlot;
use crate::{Error, Heap, HeapOptions, Policy, Quota};

const POLICIES: [Policy; 2] = [Policy::FirstFit, Policy::Scalable];

fn labelled(policy: Policy) -> Heap {
    HeapOptions::new(8 << 20).policy(policy).labels().create_memfd().unwrap()
}

fn bytes(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

#[allow(unsafe_code)]
fn realloc(heap: &Heap, object: NonNull<u8>, size: usize) -> crate::Result<NonNull<u8>> {
    // SAFETY: nobody uses the objects of these tests.
    unsafe { heap.realloc(object, bytes(size)) }
}

fn bytes_of(heap: &Heap, tag: &str) -> u64 {
    let tags = heap.usage().unwrap().tags;
    tags.iter().find(|of| of.name == tag).map_or(0, |of| of.bytes)
}

fn is_exact(heap: &Heap) -> bool {
    let (before, report) = (heap.usage().unwrap(), heap.check());
    assert!(report.is_sound(), "{:?}", report.findings);
    assert!(heap.recount_labels().unwrap());
    before == heap.usage().unwrap()
}

#[test]
fn what_has_no_room_under_its_tag_is_moved_under_that_of_the_thread() {
    for policy in POLICIES {
        let heap = labelled(policy);
        let object = heap.with_tag("a", || heap.alloc(bytes(64)).unwrap()).unwrap();
        heap.set_quota(Quota::Tag("a"), Some(bytes_of(&heap, "a"))).unwrap();
        let moved = heap.with_tag("b", || realloc(&heap, object, 3000).unwrap()).unwrap();
        assert_eq!(bytes_of(&heap, "a"), 0, "{policy:?}");
        assert_eq!(bytes_of(&heap, "b"), heap.usable_size(moved).unwrap() as u64, "{policy:?}");
        let refused = heap.with_tag("a", || realloc(&heap, moved, 4000)).unwrap();
        assert!(refused.is_ok() || matches!(refused, Err(Error::QuotaExceeded { .. })));
        assert!(is_exact(&heap));
    }
}

/// Another process that makes an object larger does not go beyond its owner's quota.
#[test]
fn nobody_is_made_to_exceed_a_quota_by_others() {
    for policy in POLICIES {
        let heap = labelled(policy);
        let other = Heap::connect_fd(heap.to_fd().unwrap()).unwrap();
        heap.set_quota(Quota::Peer, Some(1 << 20)).unwrap();
        let object = heap.alloc(bytes(700_000)).unwrap();
        let there = other.resolve(heap.handle(object).unwrap()).unwrap();
        assert!(realloc(&other, there, 1_100_000).is_err());
        let usage = heap.usage().unwrap();
        assert!(usage.peers.iter().all(|peer| peer.bytes <= 1 << 20), "{policy:?}: {usage:?}");
        assert!(matches!(other.alloc(bytes(2 << 20)), Err(Error::QuotaExceeded { .. })));
    }
}

#[test]
fn what_a_tag_may_not_have_keeps_nothing_from_others() {
    let heap = labelled(Policy::Scalable);
    let labels = heap.shape.labels.as_ref().unwrap();
    let tally = heap.tally(labels);
    heap.set_quota(Quota::Tag("small"), Some(1000)).unwrap();
    let _scope = heap.tag_scope("small").unwrap();
    heap.alloc(bytes(100)).unwrap();
    let object = heap.blocks().find(|block| block.live).unwrap();
    let label = heap.label_at(object.offset_bytes).unwrap();
    let me = tally.owner(label).unwrap().peer;
    // Where the heap's counter would go up at first and then down, it would stop short of that.
    heap.gate().store(tally.heap_bytes_word(), u64::MAX - 5);
    tally.reserve(label, me, Count { bytes: 5000, objects: 1 }).unwrap_err();
    assert_eq!(tally.bytes_of(None), u64::MAX - 5);
}

#[test]
fn a_wrong_counter_without_a_quota_refuses_nobody() {
    for policy in POLICIES {
        let heap = labelled(policy);
        let labels = heap.shape.labels.as_ref().unwrap();
        let at = heap.tally(labels).heap_bytes_word();
        heap.gate().store(at, u64::MAX);
        heap.alloc(bytes(100)).unwrap();
        assert!(heap.recount_labels().unwrap());
        assert!(is_exact(&heap));
    }
}

#[test]
fn what_could_not_be_freed_keeps_its_label() {
    for policy in POLICIES {
        let heap = labelled(policy);
        let object = heap.with_tag("kept", || heap.alloc(bytes(100)).unwrap()).unwrap();
        let labels = heap.shape.labels.as_ref().unwrap();
        let slot = heap.me("test").unwrap();
        let fail = || Err(Error::TooManyThreads { limit: 1 });
        heap.free_labelled(labels, slot, object, fail).unwrap_err();
        assert_eq!(bytes_of(&heap, "kept"), heap.usable_size(object).unwrap() as u64);
        assert!(is_exact(&heap));
    }
}

/// More processes have come, left something for those after them, and gone than there are labels.
#[test]
fn labels_of_those_who_are_gone_are_united_when_there_are_no_others() {
    for policy in POLICIES {
        let heap = labelled(policy);
        let labels = heap.shape.labels.as_ref().unwrap();
        let tally = heap.tally(labels);
        for joins in 1..LABELS {
            // Of peers that never were.
            let owner = Owner { peer: PeerId::new(PeerSlot(7), joins), tag: Tag::NONE };
            let label = tally.claim(owner, 5, |_| false).unwrap();
            let object = heap.alloc_plainly(bytes(8)).unwrap();
            let (lane, size) = heap.lane_of(labels, object).unwrap();
            tally.reserve(label, owner.peer, Count { bytes: size, objects: 1 }).unwrap();
            tally.exchange(lane, Some(label));
        }
        let before = heap.usage().unwrap();
        let object = heap.with_tag("new", || heap.alloc(bytes(8)).unwrap()).unwrap();
        assert_eq!(bytes_of(&heap, "new"), heap.usable_size(object).unwrap() as u64);
        let after = heap.usage().unwrap();
        assert_eq!(after.objects, before.objects + 1, "{policy:?}");
        assert_eq!(after.peers.len(), 2, "this process, and one for all that are gone");
        assert!(heap.recount_labels().unwrap());
        assert!(is_exact(&heap));
    }
}

#[test]
fn threads_that_begin_at_once_have_one_label() {
    for _ in 0..if cfg!(miri) { 1 } else { 50 } {
        let heap = labelled(Policy::Scalable);
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    heap.me("test").unwrap();
                    start.wait();
                    heap.with_tag("all", || heap.alloc(bytes(8)).unwrap()).unwrap();
                });
            }
        });
        let labels = heap.shape.labels.as_ref().unwrap();
        let used = Label::all().filter(|&label| heap.tally(labels).owner(label).is_some()).count();
        assert_eq!(used, 1);
    }
}

/// What was to be done for a dead process comes before a recount.
#[test]
fn nothing_is_recounted_before_a_dead_process_is_adopted() {
    let name = "nothing_is_recounted_before_a_dead_process_is_adopted";
    in_own_process(module_path!(), name, || {
        for policy in POLICIES {
            let heap = labelled(policy);
            let labels = heap.shape.labels.as_ref().unwrap();
            let tally = heap.tally(labels);
            let child = fork(|| {
                tally.begin(heap.me("test").unwrap());
                0
            });
            assert_eq!(exit_status(child), 0);
            let used = heap.processes_used().unwrap();
            let slot = PeerSlot(1);
            assert!(tally.is_counting(slot) && !tally.is_recount_due());
            heap.note_miscount(slot);
            assert!(tally.is_recount_due() && tally.rest(used).is_none());
            assert!(!heap.recount_if_due(), "{policy:?}");
            assert!(Surroundings::adopt(&heap, slot));
            assert!(tally.rest(used).is_some() && heap.recount_if_due(), "{policy:?}");
        }
    });
}
