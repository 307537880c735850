//! Labels, whoever is killed or stopped at any store to them, and whatever stands in them.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::ptr::NonNull;

use rustix::process::{Signal, WaitOptions, kill_process, waitpid};

use crate::labels::{Count, Label, Sums};
use crate::os::testing::{alone, exit_status, fork, in_own_process, is_alone};
use crate::segment::fuse;
use crate::segment::words::Words;
use crate::units::{Offset, WORD_BYTES, WordIndex};
use crate::{Error, Heap, HeapOptions, Policy, Quota};

const POLICIES: [Policy; 2] = [Policy::FirstFit, Policy::Scalable];
/// What [`exit_status`] says of a killed child.
const KILLED: i32 = -1;
/// No object of the tests is larger.
const OBJECT_BYTES_MAX: u64 = 1 << 20;

fn labelled(policy: Policy) -> Heap {
    HeapOptions::new(8 << 20).policy(policy).labels().create_memfd().unwrap()
}

fn bytes(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

#[allow(unsafe_code)]
fn free(heap: &Heap, object: NonNull<u8>) -> crate::Result<()> {
    // SAFETY: nobody uses the objects of these tests.
    unsafe { heap.free(object) }
}

#[allow(unsafe_code)]
fn realloc(heap: &Heap, object: NonNull<u8>, size: usize) -> crate::Result<NonNull<u8>> {
    // SAFETY: as above.
    unsafe { heap.realloc(object, bytes(size)) }
}

/// What the lanes of all live objects say, and how many objects have no label.
fn sums(heap: &Heap) -> (Sums, u64) {
    let (mut sums, mut unlabelled) = (Sums::new(), 0);
    for block in heap.blocks().filter(|block| block.live) {
        match block.label.and_then(|label| Label::of_number(label.number.into())) {
            Some(label) => sums.add(label, block.bytes),
            None => unlabelled += 1,
        }
    }
    (sums, unlabelled)
}

/// How much each counter that is wrong says too much.
fn surplus(heap: &Heap) -> BTreeMap<u64, u64> {
    let labels = heap.shape.labels.as_ref().unwrap();
    let wrong = heap.tally(labels).compare(&sums(heap).0);
    let surplus = wrong.iter().map(|(at, found, expected)| {
        assert!(found > expected, "a counter is too low: {found} where there are {expected}");
        (at.0, found - expected)
    });
    surplus.collect()
}

#[track_caller]
fn assert_exact(heap: &Heap) {
    assert_eq!(surplus(heap), BTreeMap::new());
    let report = heap.check();
    assert!(report.is_sound(), "{:?}", report.findings);
}

/// Kills `operate` at each of its stores to labels and ledger. Returns at how many.
fn at_every_store<S>(prepare: impl Fn(&Heap) -> S, operate: impl Fn(&Heap, &S)) -> [u64; 2] {
    POLICIES.map(|policy| {
        let mut was_too_high = false;
        for stores in 0.. {
            let heap = labelled(policy);
            let prepared = prepare(&heap);
            let child = fork(|| {
                heap.me("test").unwrap();
                fuse::light(stores);
                operate(&heap, &prepared);
                0
            });
            let status = exit_status(child);
            let before = surplus(&heap);
            was_too_high |= !before.is_empty();
            assert!(before.values().all(|&more| more <= OBJECT_BYTES_MAX), "{stores}: {before:?}");
            assert!(sums(&heap).1 <= 1, "killed at store {stores}");
            heap.sweep().unwrap();
            assert!(!heap.usage().unwrap().is_recount_due, "killed at store {stores}");
            assert_exact(&heap);
            match status {
                KILLED => {}
                0 => {
                    assert!(was_too_high, "some kill hits the middle of counting");
                    return stores;
                }
                _ => panic!("killed at store {stores}: it ends with {status}"),
            }
        }
        unreachable!("the operation ends")
    })
}

#[test]
fn killed_at_any_store_of_alloc_free_and_realloc_the_counts_are_right_after_a_recount() {
    let name = "killed_at_any_store_of_alloc_free_and_realloc_the_counts_are_right_after_a_recount";
    in_own_process(module_path!(), name, || {
        let prepare =
            |heap: &Heap| [100, 300_000, 900_000].map(|size| heap.alloc(bytes(size)).unwrap());
        let stores = at_every_store(prepare, |heap, [small, large, huge]| {
            let tagged = heap.with_tag("test", || heap.alloc(bytes(100)).unwrap()).unwrap();
            // In place, where the policy and the place allow it, and moved.
            let grown = realloc(heap, *huge, 960_000).unwrap();
            let shrunk = realloc(heap, grown, 600_000).unwrap();
            let moved = realloc(heap, tagged, 5000).unwrap();
            free(heap, *small).unwrap();
            free(heap, *large).unwrap();
            free(heap, moved).unwrap();
            free(heap, shrunk).unwrap();
        });
        assert!(stores.iter().all(|&stores| stores > 60), "{stores:?}");
    });
}

#[test]
fn killed_at_any_store_of_a_hand_over_the_counts_are_right_after_a_recount() {
    let name = "killed_at_any_store_of_a_hand_over_the_counts_are_right_after_a_recount";
    in_own_process(module_path!(), name, || {
        let prepare = |heap: &Heap| heap.alloc_zeroed(bytes(8)).unwrap().cast::<u64>();
        #[allow(unsafe_code)]
        let stores = at_every_store(prepare, |heap, &cell| {
            drop(heap.alloc_unpublished(bytes(50)).unwrap());
            let object = heap.alloc_unpublished(bytes(70_000)).unwrap();
            // SAFETY: the cell is an object of its own, zeroed, and nothing else.
            unsafe { object.publish(cell) }.unwrap();
            // SAFETY: as above.
            let taken = unsafe { heap.take(cell) }.unwrap().unwrap();
            free(heap, taken.keep()).unwrap();
        });
        assert!(stores.iter().all(|&stores| stores > 40), "{stores:?}");
    });
}

#[test]
fn nothing_is_recounted_while_a_stopped_process_is_at_work() {
    let name = "nothing_is_recounted_while_a_stopped_process_is_at_work";
    in_own_process(module_path!(), name, || {
        for (policy, stores) in
            POLICIES.into_iter().flat_map(|policy| (1..12).map(move |n| (policy, n)))
        {
            let heap = labelled(policy);
            let object = heap.alloc(bytes(100)).unwrap();
            let child = fork(|| {
                heap.me("test").unwrap();
                fuse::light_to_stop(stores);
                free(&heap, object).unwrap();
                free(&heap, heap.alloc(bytes(200)).unwrap()).unwrap();
                0
            });
            let stopped = waitpid(Some(child), WaitOptions::UNTRACED).unwrap().unwrap().1;
            assert!(stopped.stopped());
            let labels = heap.shape.labels.as_ref().unwrap();
            let is_at_work = heap.tally(labels).rest(2).is_none();
            assert_eq!(heap.recount_labels().unwrap(), !is_at_work, "stopped at {stores}");
            surplus(&heap);
            kill_process(child, Signal::CONT).unwrap();
            assert_eq!(exit_status(child), 0);
            assert!(heap.recount_labels().unwrap());
            assert_exact(&heap);
            assert_eq!(heap.usage().unwrap().objects, 0);
        }
    });
}

#[test]
fn a_quota_is_met_again_once_the_dead_are_accounted_for() {
    let name = "a_quota_is_met_again_once_the_dead_are_accounted_for";
    in_own_process(module_path!(), name, || {
        for policy in POLICIES {
            let heap = labelled(policy);
            heap.set_quota(Quota::Heap, Some(100_000)).unwrap();
            // Killed with all counters up, and before the object is made; or with an unpublished
            // object.
            for (stores, is_unpublished) in [(8, false), (u64::MAX - 1, true)] {
                let child = fork(|| {
                    heap.me("test").unwrap();
                    fuse::light(stores);
                    if is_unpublished {
                        std::mem::forget(heap.alloc_unpublished(bytes(60_000)).unwrap());
                        std::process::abort();
                    }
                    let _ = heap.alloc(bytes(60_000));
                    0
                });
                assert_ne!(exit_status(child), 0);
                assert!(heap.usage().unwrap().bytes >= 60_000, "it is counted");
                free(&heap, heap.alloc(bytes(60_000)).unwrap()).unwrap();
                assert_exact(&heap);
            }
        }
    });
}

#[test]
fn the_next_process_in_a_slot_begins_at_nothing() {
    in_own_process(module_path!(), "the_next_process_in_a_slot_begins_at_nothing", || {
        for policy in POLICIES {
            let heap = labelled(policy);
            heap.set_quota(Quota::Peer, Some(10_000)).unwrap();
            let cell = heap.alloc_zeroed(bytes(8)).unwrap();
            let at = heap.word_at(cell).unwrap();
            let leave = |size: usize| {
                let child = fork(|| {
                    let object = heap.alloc(bytes(size)).unwrap();
                    heap.gate().store(at, heap.handle(object).unwrap().to_raw());
                    std::process::abort();
                });
                assert_ne!(exit_status(child), 0);
                heap.sweep().unwrap();
                heap.resolve(crate::Handle::from_raw(heap.gate().load(at))).unwrap()
            };
            let (first, second) = (leave(9000), leave(8000));
            let usage = heap.usage().unwrap();
            let dead: Vec<_> = usage.peers.iter().filter(|peer| !peer.alive).collect();
            assert_eq!((dead.len(), dead[0].slot), (2, dead[1].slot), "of one slot: {usage:?}");
            assert_ne!(dead[0].stay, dead[1].stay);
            let child = fork(|| {
                let own = heap.alloc(bytes(6000)).unwrap();
                free(&heap, first).unwrap();
                // What another one in the slot had is none of its.
                assert!(matches!(heap.alloc(bytes(6000)), Err(Error::QuotaExceeded { .. })));
                free(&heap, own).unwrap();
                free(&heap, heap.alloc(bytes(6000)).unwrap()).unwrap();
                free(&heap, second).unwrap();
                0
            });
            assert_eq!(exit_status(child), 0);
            assert_exact(&heap);
            free(&heap, cell).unwrap();
            assert_eq!(heap.usage().unwrap().objects, 0);
        }
    });
}

#[test]
fn labels_of_the_dead_are_used_again_when_there_are_no_others() {
    let heap = labelled(Policy::Scalable);
    let labels = heap.shape.labels.as_ref().unwrap();
    let tally = heap.tally(labels);
    // Of peers that never were.
    let owner = |joins| crate::labels::Owner {
        peer: crate::peers::PeerId::new(crate::units::PeerSlot(7), joins),
        tag: crate::labels::Tag::NONE,
    };
    let claim = |joins, is_gone: bool| tally.claim(owner(joins), 5, |_| is_gone);
    for joins in 1..crate::labels::layout::LABELS {
        assert_eq!(claim(joins, false).unwrap().number(), joins as u16);
    }
    assert_eq!(claim(9000, false), None, "all others live");
    assert_eq!(claim(3, false).unwrap().number(), 3, "it has one");
    let busy = Label::of_number(1).unwrap();
    let me = owner(1).peer;
    tally.reserve(busy, me, Count { bytes: 8, objects: 1 }).unwrap();
    assert_eq!(claim(9000, true).unwrap().number(), 2, "the first counts something");
}

/// Whatever stands in the tables and lanes, nothing panics, and what is allocated is.
#[test]
fn any_bytes_in_the_records_of_labels_are_borne() {
    for policy in POLICIES {
        for seed in 0..if cfg!(miri) { 2 } else { 60_u64 } {
            let heap = labelled(policy);
            let labels = heap.shape.labels.as_ref().unwrap();
            let objects: Vec<_> = (1..20).map(|n| heap.alloc(bytes(n * 40)).unwrap()).collect();
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                match state % 5 {
                    0 => u64::MAX,
                    1 => state % 7,
                    2 => 0,
                    _ => state,
                }
            };
            let tables = labels.tables();
            let lanes = tables.end..tables.end + 64 * WORD_BYTES;
            for at in (tables.start..lanes.end).step_by(WORD_BYTES as usize) {
                if seed % 3 == 0 || random() % 3 == 0 {
                    heap.gate().store(Offset(at).word(), random());
                }
            }
            let report = heap.check();
            assert!(report.findings.iter().all(|finding| finding.rule == "labels"), "{report:?}");
            let _ = (heap.usage(), heap.recount_labels().unwrap(), heap.tag_name(200));
            for block in heap.blocks() {
                if let Some(label) = block.label {
                    let _ = (heap.tag_name(label.tag), heap.is_owner_alive(label));
                }
            }
            let _ = heap.with_tag("some", || heap.alloc(bytes(100)));
            let _ = heap.set_quota(Quota::Tag("other"), Some(5));
            for (number, object) in objects.into_iter().enumerate() {
                let object = realloc(&heap, object, number * 300).unwrap_or(object);
                free(&heap, object).unwrap();
            }
            let stats = heap.stats();
            assert!(stats.live_objects <= 1, "{stats:?}");
        }
    }
}

#[test]
fn the_environment_names_the_tag_of_a_process() {
    let test = "the_environment_names_the_tag_of_a_process";
    if !is_alone(test) {
        let run = |tag: &str| alone(module_path!(), test).env("SHMHEAP_TAG", tag).output().unwrap();
        for tag in ["worker", "", &"x".repeat(60)] {
            let output = run(tag);
            assert!(output.status.success(), "{output:?}");
        }
        return;
    }
    // What can be no tag counts as none.
    let tag = std::env::var("SHMHEAP_TAG").unwrap();
    let tag = if tag.len() > 48 { String::new() } else { tag };
    let heap = labelled(Policy::Scalable);
    let tag_of = |object: NonNull<u8>| {
        let handle = heap.handle(object).unwrap();
        let block = heap.blocks().find(|block| block.live && block.handle == handle).unwrap();
        heap.tag_name(block.label.unwrap().tag)
    };
    assert_eq!(tag_of(heap.alloc(bytes(8)).unwrap()), tag);
    heap.set_thread_tag(Some("thread")).unwrap();
    assert_eq!(tag_of(heap.alloc(bytes(8)).unwrap()), "thread");
    let outer = heap.tag_scope("outer").unwrap();
    let inner = heap.tag_scope("").unwrap();
    assert_eq!(tag_of(heap.alloc(bytes(8)).unwrap()), "");
    drop(outer);
    assert_eq!(tag_of(heap.alloc(bytes(8)).unwrap()), "");
    drop(inner);
    assert_eq!(tag_of(heap.alloc(bytes(8)).unwrap()), "thread");
    heap.set_thread_tag(None).unwrap();
    assert_eq!(tag_of(heap.alloc(bytes(8)).unwrap()), tag);
}

#[test]
fn a_tag_has_one_place_whoever_brings_its_name() {
    let heap = labelled(Policy::Scalable);
    let labels = heap.shape.labels.as_ref().unwrap();
    let names: Vec<String> = (0..255).map(|number| format!("tag {number}")).collect();
    let place_all = || names.iter().map(|name| heap.tally(labels).tag(name)).collect::<Vec<_>>();
    let placed: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(place_all)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(placed.iter().all(|tags| *tags == placed[0]));
    for (name, tag) in names.iter().zip(&placed[0]) {
        assert_eq!(heap.tally(labels).tag_name(tag.unwrap()), *name);
    }
    let full = heap.tag_scope("one more").unwrap_err();
    assert!(matches!(full, Error::TooManyTags { limit: 255 }), "{full}");
    assert!(heap.tag_scope("tag 7").is_ok());
    // Killed behind the exchange, before the name: whoever comes next writes it.
    let at = WordIndex(Offset(labels.tables().start).word().0 + 64 + 16);
    (1..8).for_each(|word| heap.gate().store(at + word, 0));
    assert_eq!(heap.tag_name(1), "");
    let first = placed[0].iter().position(|tag| tag.unwrap().0 == 1).unwrap();
    drop(heap.tag_scope(&names[first]).unwrap());
    assert_eq!(heap.tag_name(1), names[first]);
}
