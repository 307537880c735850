//! Goal: whatever is done in whatever order, every object keeps its content until it is freed, and
//! the heap counts right.
//!
//! Method: random rows of operations in one process, by proptest, which shortens a row that fails;
//! random operations by many threads. Every object is written full and compared before it is
//! freed.

use std::ptr::NonNull;

use proptest::prelude::*;
use shmheap::{HeapOptions, Policy};

use crate::support::bytes::{self, alloc, free, layout, realloc};
use crate::support::process::wait_until;
use crate::support::random::{Random, seed};
use crate::support::{POLICIES, assert_empty, assert_whole};

#[test]
fn threads_share_a_heap() {
    let seed = seed();
    for (policy, has_labels) in POLICIES.into_iter().flat_map(|it| [(it, false), (it, true)]) {
        let options = HeapOptions::new(64 << 10).max_len(64 << 20).policy(policy);
        let heap = with_labels(has_labels, options).create_memfd().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let heap = &heap;
                scope.spawn(move || {
                    let mut random = Random::new(seed ^ thread);
                    let mut held = vec![];
                    for sequence in 0..10_000 {
                        let (size, stamp) = (random.log_uniform(2000), thread << 32 | sequence);
                        let object = alloc(heap, size).unwrap();
                        bytes::stamp(object, size, stamp);
                        held.push((object, size, stamp));
                        while held.len() > 50 || (sequence == 9_999 && !held.is_empty()) {
                            let index = random.below(held.len() as u64) as usize;
                            let (object, size, stamp) = held.swap_remove(index);
                            assert!(bytes::is_stamped(heap, object, size, stamp));
                            free(heap, object).unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(heap.peers().len(), 1, "threads are one process");
        // A scope does not wait for what threads do at their end.
        wait_until("all hands are empty", || heap.stats().owners.is_empty());
        assert_empty(&heap);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Alloc { size: u64, align_bits: u32 },
    Free { which: usize },
    Realloc { which: usize, size: u64 },
}

/// Sizes up to `most`, small ones more often.
fn size(most: u64) -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..600_u64, 1 => 0..most]
}

fn step(size_max: u64, align_bits: u32) -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (size(size_max), 0..align_bits)
            .prop_map(|(size, align_bits)| Step::Alloc { size, align_bits }),
        2 => any::<usize>().prop_map(|which| Step::Free { which }),
        1 => (any::<usize>(), size(size_max))
            .prop_map(|(which, size)| Step::Realloc { which, size }),
    ]
}

/// Does all steps in a heap that may become full.
fn run(options: HeapOptions, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let heap = options.create_memfd().unwrap();
    let mut held: Vec<(NonNull<u8>, u64, u64)> = vec![];
    for (stamp, step) in (0..).zip(steps) {
        match step {
            Step::Alloc { size, align_bits } => {
                if let Ok(object) = heap.alloc(layout(size, 1 << align_bits)) {
                    prop_assert!(object.addr().get().is_multiple_of(1 << align_bits));
                    bytes::stamp(object, size, stamp);
                    held.push((object, size, stamp));
                }
            }
            Step::Free { which } if !held.is_empty() => {
                let (object, size, stamp) = held.swap_remove(which % held.len());
                prop_assert!(bytes::is_stamped(&heap, object, size, stamp));
                free(&heap, object).unwrap();
            }
            Step::Realloc { which, size } if !held.is_empty() => {
                let index = which % held.len();
                let (object, old_size, old_stamp) = held[index];
                if let Ok(moved) = realloc(&heap, object, size, 1) {
                    let kept = size.min(old_size);
                    prop_assert!(bytes::is_stamped(&heap, moved, kept, old_stamp));
                    bytes::stamp(moved, size, stamp);
                    held[index] = (moved, size, stamp);
                }
            }
            Step::Free { .. } | Step::Realloc { .. } => {}
        }
        prop_assert_eq!(heap.stats().live_objects as usize, held.len());
        if let Some(usage) = heap.usage() {
            prop_assert_eq!(
                (usage.objects, usage.bytes),
                (held.len() as u64, heap.stats().live_bytes)
            );
        }
    }
    assert_whole(&heap);
    for (object, size, stamp) in held {
        prop_assert!(bytes::is_stamped(&heap, object, size, stamp));
        free(&heap, object).unwrap();
    }
    assert_empty(&heap);
    Ok(())
}

fn with_labels(has_labels: bool, options: HeapOptions) -> HeapOptions {
    if has_labels { options.labels() } else { options }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn any_row_of_operations_keeps_content_and_count_by_first_fit(
        steps in proptest::collection::vec(step(600, 10), 1..200),
        has_labels in any::<bool>(),
    ) {
        run(with_labels(has_labels, HeapOptions::new(16 << 10).policy(Policy::FirstFit)), steps)?;
    }

    #[test]
    fn any_row_of_operations_keeps_content_and_count_in_slabs(
        steps in proptest::collection::vec(step(700_000, 17), 1..200),
        is_short in any::<bool>(),
        has_labels in any::<bool>(),
    ) {
        let most = if is_short { 1 << 20 } else { 8 << 20 };
        let options = HeapOptions::new(64 << 10).max_len(most).policy(Policy::Scalable);
        run(with_labels(has_labels, options), steps)?;
    }
}
