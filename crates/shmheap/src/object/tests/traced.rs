//! Which objects are found by typed references.

use std::alloc::Layout;
use std::collections::HashMap;

use super::heaps;
use crate::os::testing::{exit_status, fork, in_own_process};
use crate::segment::words::Words;
use crate::{Handle, Heap, Reached, ShmArc, ShmBox, ShmCell, ShmMutex, ShmVec};

fn traced(heap: &Heap) -> HashMap<Handle, Reached> {
    heap.traced().into_iter().collect()
}

#[test]
fn roots_and_what_they_own_are_found() {
    for heap in heaps() {
        assert!(heap.traced().is_empty());
        let cell = heap.find_or_create::<ShmCell<u64>>("cell", |_| {}).unwrap();
        let list = heap.find_or_create::<ShmMutex<ShmVec<u64>>>("list", |_| {}).unwrap();
        for number in 0..100 {
            list.lock(&heap).unwrap().push(&heap, number).unwrap();
        }
        let value = ShmBox::new(&heap, 5_u64).unwrap();
        let handle = ShmBox::handle(&value).cast();
        assert_eq!(traced(&heap).get(&handle), None, "it is still in hand");
        value.publish(&cell).unwrap();
        let found = traced(&heap);
        assert_eq!(found.get(&handle), Some(&Reached::Owned));
        for name in ["cell", "list"] {
            assert_eq!(found[&heap.root_handle(name).unwrap()], Reached::Root);
        }
        // Everything that lives: nothing here is known by a number alone.
        for block in heap.blocks().filter(|block| block.live) {
            assert!(found.contains_key(&block.handle), "{block:?}");
        }
        let plain = heap.alloc(Layout::new::<u64>()).unwrap();
        let plain = heap.handle(plain).unwrap();
        assert_eq!(traced(&heap).get(&plain), None);
        heap.set_root("plain", plain).unwrap();
        assert_eq!(traced(&heap)[&plain], Reached::Root);
    }
}

#[test]
fn a_value_that_is_held_and_owned_is_held() {
    for heap in heaps() {
        let root = heap.find_or_create::<ShmCell<u64>>("cell", |_| {}).unwrap();
        let held = ShmArc::new(&heap, 1_u64).unwrap();
        // As damage would: the root's cell is found first.
        let cell = heap.word_at(std::ptr::NonNull::from(&*root).cast()).unwrap();
        let handle = ShmArc::handle(&held).cast();
        heap.gate().store(cell + 1, heap.home_id());
        heap.gate().store(cell, handle.to_raw());
        assert_eq!(traced(&heap)[&handle], Reached::Held);
        heap.gate().store(cell, 0);
    }
}

#[test]
fn what_only_the_dead_hold_is_abandoned() {
    in_own_process(module_path!(), "what_only_the_dead_hold_is_abandoned", || {
        for heap in heaps() {
            let own = ShmArc::new(&heap, 1_u64).unwrap();
            let child = fork(|| {
                std::mem::forget(ShmArc::new(&heap, 2_u64).unwrap());
                0
            });
            assert_eq!(exit_status(child), 0);
            let count = |how| traced(&heap).values().filter(|&&found| found == how).count();
            assert_eq!((count(Reached::Held), count(Reached::Abandoned)), (1, 1));
            heap.sweep_shared().unwrap();
            assert_eq!((count(Reached::Held), count(Reached::Abandoned)), (1, 0));
            drop(own);
        }
    });
}

#[test]
fn a_chain_that_bites_its_tail_ends() {
    for heap in heaps() {
        let cell = heap.find_or_create::<ShmVec<u64>>("list", |_| {}).unwrap();
        let object = heap.span(heap.root_handle("list").unwrap()).unwrap();
        for number in 0..object.words {
            heap.gate().store(object.word(number), heap.root_handle("list").unwrap().to_raw());
        }
        assert!(!heap.traced().is_empty());
        for number in 0..object.words {
            heap.gate().store(object.word(number), u64::MAX << 3);
        }
        assert!(!heap.traced().is_empty());
        for number in 0..object.words {
            heap.gate().store(object.word(number), 0);
        }
        drop(cell);
    }
}
