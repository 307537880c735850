//! Labels as users see them: quotas that hold under threads, counts that are the sum over all
//! objects, and who has what, dead or alive.

use std::sync::atomic::{AtomicU64, Ordering};

use shmheap::{Error, Heap, HeapOptions, Quota, ShmBox, ShmMap};

use crate::support::bytes::{alloc, free, layout, realloc};
use crate::support::process::{Role, Worker, wait_until};
use crate::support::random::{Random, seed};
use crate::support::{HeapName, POLICIES, assert_empty, assert_whole, for_each_policy, heap_of};

const QUOTA_BYTES: u64 = 100_000;

/// Every thread counts what it has only after it was allocated, and no more before it is freed: so
/// the sum is never more than what is.
#[test]
fn threads_at_the_limit_never_exceed_a_quota() {
    let seed = seed();
    for policy in POLICIES {
        for quota in [Quota::Heap, Quota::Peer, Quota::Tag("hammer")] {
            let heap = heap_of(policy, 128 << 20).labels().create_memfd().unwrap();
            heap.set_quota(quota, Some(QUOTA_BYTES)).unwrap();
            let (held, refused) = (AtomicU64::new(0), AtomicU64::new(0));
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let (heap, held, refused) = (&heap, &held, &refused);
                    scope.spawn(move || hammer(heap, Random::new(seed ^ thread), held, refused));
                }
            });
            assert!(refused.into_inner() > 0, "they have met the limit");
            // A scope does not wait for what threads do at their end.
            wait_until("all hands are empty", || heap.stats().owners.is_empty());
            let usage = heap.usage().unwrap();
            assert_eq!((usage.bytes, usage.objects), (0, 0), "{quota:?}");
            // All of it can be had.
            let _tag = heap.tag_scope("hammer").unwrap();
            while alloc(&heap, 1000).is_ok() {}
            assert!(heap.usage().unwrap().bytes > QUOTA_BYTES - 1024);
            assert_whole(&heap);
        }
    }
}

fn hammer(heap: &Heap, mut random: Random, held: &AtomicU64, refused: &AtomicU64) {
    let _tag = heap.tag_scope("hammer").unwrap();
    let mut own = vec![];
    for step in 0..3000 {
        match alloc(heap, random.log_uniform(20_000)) {
            Ok(object) => {
                let bytes = heap.usable_size(object).unwrap() as u64;
                own.push((object, bytes));
                let sum = held.fetch_add(bytes, Ordering::SeqCst) + bytes;
                assert!(sum <= QUOTA_BYTES, "{sum} bytes are held");
            }
            Err(Error::QuotaExceeded { used_bytes, requested_bytes, quota_bytes, .. }) => {
                assert!(used_bytes <= quota_bytes && used_bytes + requested_bytes > quota_bytes);
                refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => panic!("{error}"),
        }
        if step % 100 == 0 {
            let usage = heap.usage().unwrap();
            let of_tag = usage.tags.iter().map(|tag| (tag.bytes, tag.quota_bytes));
            for (bytes, quota_bytes) in of_tag.chain([(usage.bytes, usage.quota_bytes)]) {
                assert!(quota_bytes.is_none_or(|quota_bytes| bytes <= quota_bytes), "{usage:?}");
            }
        }
        while own.len() > 20 || (random.one_in(2) && !own.is_empty()) {
            let (object, bytes) = own.swap_remove(random.below(own.len() as u64) as usize);
            held.fetch_sub(bytes, Ordering::SeqCst);
            free(heap, object).unwrap();
        }
    }
    for (object, bytes) in own {
        held.fetch_sub(bytes, Ordering::SeqCst);
        free(heap, object).unwrap();
    }
}

#[test]
fn an_object_that_two_free_at_once_is_counted_down_once() {
    for policy in POLICIES {
        let heap = heap_of(policy, 8 << 20).labels().create_memfd().unwrap();
        let others = (0..100).map(|_| alloc(&heap, 100).unwrap().addr()).collect::<Vec<_>>();
        let objects: Vec<_> = (0..3000).map(|n| alloc(&heap, n % 900).unwrap().addr()).collect();
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    for &address in &objects {
                        let object = heap.base().with_addr(address);
                        let _ = free(&heap, object);
                    }
                });
            }
        });
        wait_until("all hands are empty", || heap.stats().owners.len() <= 1);
        let usage = heap.usage().unwrap();
        assert_eq!(usage.objects, others.len() as u64, "{policy:?}");
        assert!(heap.check().is_sound());
    }
}

#[test]
fn what_is_allocated_inside_is_counted_under_the_tag_of_the_thread() {
    for_each_policy(|options| {
        let heap = options.max_len(16 << 20).labels().create_memfd().unwrap();
        let map = heap
            .with_tag("cache", || {
                let map = ShmBox::<ShmMap<u64, u64>>::new_zeroed(&heap).unwrap();
                for number in 0..500_u64 {
                    map.insert(&heap, number, number).unwrap();
                }
                map
            })
            .unwrap();
        let usage = heap.usage().unwrap();
        let tags: Vec<_> = usage.tags.iter().map(|tag| tag.name.as_str()).collect();
        assert_eq!(tags, ["", "cache"]);
        assert_eq!((usage.tags[0].objects, usage.tags[1].bytes), (0, usage.bytes));
        assert!(usage.bytes > 8000);
        drop(map);
        assert_whole(&heap);
    });
}

#[test]
fn a_larger_object_is_counted_as_one() {
    for_each_policy(|options| {
        let heap = options.max_len(16 << 20).labels().create_memfd().unwrap();
        heap.set_quota(Quota::Heap, Some(2 << 20)).unwrap();
        let mut object = alloc(&heap, 10).unwrap();
        for size in [100, 90, 5000, 600_000, 700_000, 650_000, 300] {
            object = realloc(&heap, object, size, 1).unwrap();
            let usage = heap.usage().unwrap();
            assert_eq!((usage.objects, usage.bytes), (1, heap.usable_size(object).unwrap() as u64));
        }
        let refused = realloc(&heap, object, 3 << 20, 1).unwrap_err();
        assert!(matches!(refused, Error::QuotaExceeded { .. }), "{refused}");
        assert_eq!(refused.errno(), libc::EDQUOT);
        let refused = alloc(&heap, 1 << 60).unwrap_err();
        assert!(matches!(refused, Error::Full { .. }), "{refused}");
        free(&heap, object).unwrap();
        assert_eq!(heap.usage().unwrap().bytes, 0);
        assert_empty(&heap);
    });
}

#[test]
fn what_a_dead_process_has_left_says_so() {
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = heap_of(policy, 4 << 20).labels().create(&name).unwrap();
        let mut worker = Worker::start("labels::worker", &[name.as_str()]);
        assert_eq!(worker.hear(), "done");
        let usage = heap.usage().unwrap();
        let of_worker = usage.peers.iter().find(|peer| peer.objects == 3).unwrap();
        assert!(of_worker.alive && of_worker.pid != std::process::id(), "{usage:?}");
        let label = heap.blocks().find_map(|block| block.label).unwrap();
        assert!(heap.is_owner_alive(label));
        assert_eq!((label.slot, label.stay), (of_worker.slot, of_worker.stay));
        drop(worker);
        let observer = Heap::connect_read_only(&name).unwrap();
        for heap in [&heap, &observer] {
            let usage = heap.usage().unwrap();
            let dead: Vec<_> = usage.peers.iter().filter(|peer| !peer.alive).collect();
            assert_eq!((dead.len(), dead[0].objects), (1, 3), "{usage:?}");
            assert!(!heap.is_owner_alive(label));
            let block = heap.blocks().find(|block| block.label.is_some()).unwrap();
            assert_eq!(heap.tag_name(block.label.unwrap().tag), "leaked");
        }
        assert!(matches!(observer.set_quota(Quota::Heap, None), Err(Error::ReadOnly { .. })));
        assert!(matches!(observer.recount_labels(), Err(Error::ReadOnly { .. })));
        assert_whole(&heap);
    }
}

#[test]
fn a_snapshot_has_the_labels_of_its_objects() {
    for_each_policy(|options| {
        let heap = options.max_len(16 << 20).labels().create_memfd().unwrap();
        heap.set_quota(Quota::Tag("cache"), Some(3 << 20)).unwrap();
        let objects: Vec<_> = [20, 500, 70_000, 900_000]
            .map(|size| heap.with_tag("cache", || alloc(&heap, size)).unwrap().unwrap())
            .to_vec();
        alloc(&heap, 40).unwrap();
        free(&heap, objects[1]).unwrap();
        let name = HeapName::new();
        heap.snapshot(&name).unwrap();
        let copy = Heap::connect(&name).unwrap();
        let (here, there) = (heap.usage().unwrap(), copy.usage().unwrap());
        assert_eq!(here.tags, there.tags);
        assert_eq!((here.bytes, here.objects), (there.bytes, there.objects));
        let labels = |heap: &Heap| {
            heap.blocks().filter(|block| block.live).map(|block| block.label).collect::<Vec<_>>()
        };
        assert_eq!(labels(&heap), labels(&copy));
        assert!(there.peers.iter().all(|peer| !peer.alive), "{there:?}");
        let refused = copy.with_tag("cache", || alloc(&copy, 3 << 20)).unwrap().unwrap_err();
        assert!(matches!(refused, Error::QuotaExceeded { .. }), "{refused}");
        for block in copy.blocks().filter(|block| block.live).collect::<Vec<_>>() {
            free(&copy, copy.resolve(block.handle).unwrap()).unwrap();
        }
        assert_empty(&copy);
    });
}

#[test]
fn worker() {
    let Some(mut role) = Role::of("labels::worker") else { return };
    let heap = Heap::connect(role.argument(0)).unwrap();
    let _tag = heap.tag_scope("leaked").unwrap();
    for size in [10, 1000, 100_000] {
        alloc(&heap, size).unwrap();
    }
    role.say("done");
    role.hear();
}

#[test]
fn a_heap_without_labels_takes_tags_and_refuses_quotas() {
    for_each_policy(|options| {
        let heap = options.create_memfd().unwrap();
        heap.with_tag("parser", || alloc(&heap, 100)).unwrap().unwrap();
        assert_eq!((heap.usage(), heap.info().has_labels), (None, false));
        let refused = heap.set_quota(Quota::Heap, Some(5)).unwrap_err();
        assert!(matches!(refused, Error::NotLabelled), "{refused}");
        assert!(matches!(heap.recount_labels(), Err(Error::NotLabelled)));
        assert!(heap.blocks().all(|block| block.label.is_none()));
    });
}

#[test]
fn names_that_cannot_be_tags_are_refused() {
    for options in [HeapOptions::new(1 << 20), HeapOptions::new(1 << 20).labels()] {
        let heap = options.create_memfd().unwrap();
        for name in ["x".repeat(49), "a\nb".to_owned()] {
            let refused = heap.tag_scope(&name).unwrap_err();
            assert!(matches!(refused, Error::InvalidTag { .. }), "{refused}");
        }
        heap.with_tag(&"x".repeat(48), || heap.alloc(layout(1, 1))).unwrap().unwrap();
    }
}
