//! What is said of unpublished objects, and of the rooms that blocks are in.

use std::alloc::Layout;

use crate::os::testing::{exit_status, fork, in_own_process};
use crate::segment::words::Words;
use crate::{Heap, HeapOptions, Policy, Site};

const POLICIES: [Policy; 2] = [Policy::FirstFit, Policy::Scalable];

fn new_heap(policy: Policy) -> Heap {
    HeapOptions::new(1 << 20).policy(policy).create_memfd().unwrap()
}

/// The heap once more, for who only looks.
fn observer(heap: &Heap) -> Heap {
    let path = {
        use std::os::fd::AsRawFd;
        let fd = heap.to_fd().unwrap();
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let again = std::fs::File::open(path).unwrap();
        std::os::fd::OwnedFd::from(again)
    };
    Heap::connect_fd(path).unwrap()
}

#[test]
fn what_the_dead_had_in_hand_is_told_until_it_is_swept() {
    let test = "what_the_dead_had_in_hand_is_told_until_it_is_swept";
    in_own_process(module_path!(), test, || {
        for policy in POLICIES {
            let heap = new_heap(policy);
            let own = heap.alloc_unpublished(Layout::new::<[u8; 40]>()).unwrap();
            let child = fork(|| {
                let object = heap.alloc_unpublished(Layout::new::<[u8; 100]>()).unwrap();
                // Killed with it in hand.
                std::mem::forget(object);
                i32::from(heap.in_hand().len() != 2)
            });
            assert_eq!(exit_status(child), 0, "{policy:?}");
            let found = observer(&heap).in_hand();
            assert_eq!(found.len(), 2, "{policy:?}: {found:?}");
            assert!(found.iter().any(|object| object.handle == own.handle() && object.alive));
            let dead = found.iter().find(|object| !object.alive).unwrap();
            assert!(heap.resolve(dead.handle).is_ok());
            assert_eq!(heap.sweep().unwrap(), 1);
            let left: Vec<_> = heap.in_hand().iter().map(|object| object.handle).collect();
            assert_eq!(left, [own.handle()], "{policy:?}");
        }
    });
}

#[test]
fn an_object_on_its_way_is_in_one_hand_or_none() {
    for policy in POLICIES {
        let heap = new_heap(policy);
        let cell = heap.alloc_zeroed(Layout::new::<u64>()).unwrap().cast();
        let object = heap.alloc_unpublished(Layout::new::<u64>()).unwrap();
        // SAFETY: the cell is an object of its own, zeroed, and nothing else.
        #[allow(unsafe_code)]
        let handle = unsafe { object.publish(cell) }.unwrap();
        assert!(heap.in_hand().is_empty());
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let taken = unsafe { heap.take(cell) }.unwrap().unwrap();
        assert_eq!(heap.in_hand().iter().map(|found| found.handle).collect::<Vec<_>>(), [handle]);
        drop(taken);
        assert!(heap.in_hand().is_empty());
    }
}

#[test]
fn hostile_entries_are_read_as_numbers() {
    for policy in POLICIES {
        let heap = new_heap(policy);
        let object = heap.alloc_unpublished(Layout::new::<u64>()).unwrap();
        let threads = heap.shape.threads;
        let records: Vec<_> = heap.thread_records().collect();
        for state in 0..8 {
            for cell in [0, 7, heap.shape.data_offset.0, !7, u64::MAX] {
                for entry in records.iter().flat_map(|&record| threads.entries(record)) {
                    let at = threads.entry_word(entry);
                    heap.words().store(at + 1, cell);
                    heap.words().store(at, u64::MAX << 3 | state);
                }
                let _ = heap.in_hand();
            }
        }
        std::mem::forget(object);
        for entry in records.iter().flat_map(|&record| threads.entries(record)) {
            heap.ledger().clear(entry);
        }
        assert!(heap.in_hand().is_empty());
    }
}

#[test]
fn blocks_tell_what_they_are_a_part_of() {
    let heap = new_heap(Policy::Scalable);
    let small = heap.alloc(Layout::new::<[u8; 100]>()).unwrap();
    let large = heap.alloc(Layout::from_size_align(600_000, 8).unwrap()).unwrap();
    let [small, large] = [small, large].map(|object| heap.handle(object).unwrap());
    let site = |handle| heap.blocks().find(|block| block.handle == handle).unwrap().site;
    assert_eq!(site(small), Site::Slab { owner: Some(0) });
    assert_eq!(site(large), Site::Units);
    assert!(heap.blocks().any(|block| block.site == Site::Units && !block.live));
    let row = new_heap(Policy::FirstFit);
    row.alloc(Layout::new::<u64>()).unwrap();
    assert!(row.blocks().all(|block| block.site == Site::Row));
}
