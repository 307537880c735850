//! A forked process that is killed at a store of an operation: at each of them, one by one.
//!
//! ```text
//!   for k = 0, 1, 2, ...
//!     make a heap    child: k stores and exchanges of the operation, then SIGKILL
//!                    parent: waits, sweeps, judges what is left
//!   until the child comes to its end
//! ```
//!
//! Counted are the stores to object space and to the ledger (`segment::fuse`); those of the engine
//! have tests of their own. A test that uses this runs in a process of its own
//! ([`in_own_process`](crate::os::testing::in_own_process)).

use crate::os::testing::{exit_status, fork};
use crate::segment::fuse;
use crate::{Heap, HeapOptions, Policy};

/// More than any operation under test stores.
const STORES_MAX: u64 = 100_000;
/// What [`exit_status`] says of a killed child.
const KILLED: i32 = -1;

/// Kills `operate` at each of its stores, under both policies, in a heap that `prepare` has filled,
/// and has `judge` look at each outcome. The killed process is adopted by then. Returns at how many
/// stores in all.
pub(crate) fn at_every_store<S>(
    prepare: impl Fn(&Heap) -> S,
    operate: impl Fn(&Heap, &S),
    judge: impl Fn(&Heap, &S),
) -> u64 {
    let policies = [Policy::FirstFit, Policy::Scalable];
    policies.map(|policy| at_every_store_of(policy, &prepare, &operate, &judge)).iter().sum()
}

fn at_every_store_of<S>(
    policy: Policy,
    prepare: impl Fn(&Heap) -> S,
    operate: impl Fn(&Heap, &S),
    judge: impl Fn(&Heap, &S),
) -> u64 {
    for stores in 0..STORES_MAX {
        let heap = HeapOptions::new(8 << 20).policy(policy).create_memfd().unwrap();
        let prepared = prepare(&heap);
        let child = fork(|| {
            fuse::light(stores);
            operate(&heap, &prepared);
            0
        });
        let status = exit_status(child);
        heap.sweep().unwrap();
        judge(&heap, &prepared);
        let report = heap.check();
        assert!(report.is_sound(), "killed at store {stores}: {:?}", report.findings);
        match status {
            KILLED => {}
            0 => return stores,
            _ => panic!("killed at store {stores}: it ends with {status}"),
        }
    }
    panic!("the operation does not end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::in_own_process;
    use crate::segment::words::Words;
    use std::alloc::Layout;
    use std::cell::Cell;

    #[test]
    fn a_process_is_killed_before_each_of_its_stores() {
        in_own_process(module_path!(), "a_process_is_killed_before_each_of_its_stores", || {
            let seen = Cell::new((0, 0, 0));
            let prepare = |heap: &Heap| {
                let object = heap.alloc_zeroed(Layout::new::<[u64; 4]>()).unwrap();
                heap.span(heap.handle(object).unwrap()).unwrap()
            };
            let operate = |heap: &Heap, span: &crate::heap::Span| {
                heap.gate().store(span.word(0), 1);
                heap.gate().compare_exchange(span.word(1), 0, 1).unwrap();
                heap.gate().store(span.word(9999), 1);
                heap.gate().store(span.word(2), 1);
            };
            let judge = |heap: &Heap, span: &crate::heap::Span| {
                let stored = [0, 1, 2].map(|number| heap.gate().load(span.word(number)));
                let (mut none, mut some, mut all) = seen.get();
                match stored {
                    [0, 0, 0] => none += 1,
                    [1, 0, 0] | [1, 1, 0] => some += 1,
                    [1, 1, 1] => all += 1,
                    _ => panic!("{stored:?}"),
                }
                seen.set((none, some, all));
            };
            assert_eq!(at_every_store(prepare, operate, judge), 2 * 4);
            assert_eq!(seen.get(), (2, 2 * 3, 2), "the third store goes nowhere");
        });
    }
}
