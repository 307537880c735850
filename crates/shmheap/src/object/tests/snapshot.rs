//! What types own, in copies of a heap: cells as they come out when objects come and go while their
//! heap is copied.

use std::path::{Path, PathBuf};

use super::live;
use crate::segment::words::Words;
use crate::{Error, Handle, Heap, HeapOptions, Policy, ShmArc, ShmBox, ShmCell, ShmMutex, ShmVec};

const POLICIES: [Policy; 2] = [Policy::FirstFit, Policy::Scalable];

fn copied(heap: &Heap, directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    heap.snapshot_file(&path).unwrap();
    path
}

/// An object that was there, and of which a cell may still have the handle.
fn gone(heap: &Heap) -> Handle {
    let object = ShmBox::new(heap, 5_u64).unwrap();
    ShmBox::handle(&object).cast()
}

fn set(heap: &Heap, cell: &ShmCell<u64>, object: Handle) {
    let at = heap.word_at(std::ptr::NonNull::from(cell).cast()).unwrap();
    heap.gate().store(at, object.to_raw());
    heap.gate().store(at + 1, heap.home_id());
}

#[test]
fn a_cell_has_nothing_in_the_copy_that_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    for policy in POLICIES {
        let heap = HeapOptions::new(1 << 20).policy(policy).create_memfd().unwrap();
        let cells = heap.find_or_create::<[ShmCell<u64>; 3]>("cells", |_| {}).unwrap();
        ShmBox::new(&heap, 7_u64).unwrap().publish(&cells[1]).unwrap();
        set(&heap, &cells[0], gone(&heap));
        let path = copied(&heap, directory.path(), &format!("{policy:?}"));
        set(&heap, &cells[0], Handle::NONE);
        let copy = Heap::connect_file(path).unwrap();
        let cells = copy.find_root::<[ShmCell<u64>; 3]>("cells").unwrap();
        // Of the same size: it gets the place of what was gone.
        let _strangers: Vec<_> = (0..100).map(|_| ShmBox::new(&copy, 9_u64).unwrap()).collect();
        assert!(cells[0].take(&copy).unwrap().is_none(), "{policy:?}");
        assert_eq!(cells[1].take(&copy).unwrap().map(|it| *it), Some(7), "{policy:?}");
    }
}

#[test]
fn an_object_on_its_way_from_cell_to_cell_is_in_one_of_the_copy() {
    let directory = tempfile::tempdir().unwrap();
    for policy in POLICIES {
        let heap = HeapOptions::new(1 << 20).policy(policy).create_memfd().unwrap();
        let cells = heap.find_or_create::<[ShmCell<u64>; 3]>("cells", |_| {}).unwrap();
        let object = ShmBox::new(&heap, 7_u64).unwrap().publish(&cells[0]).unwrap();
        set(&heap, &cells[2], object.cast());
        let path = copied(&heap, directory.path(), &format!("{policy:?}"));
        set(&heap, &cells[2], Handle::NONE);
        let copy = Heap::connect_file(path).unwrap();
        let cells = copy.find_root::<[ShmCell<u64>; 3]>("cells").unwrap();
        let taken: Vec<_> =
            cells.iter().filter_map(|cell| cell.take(&copy).unwrap()).map(|it| *it).collect();
        assert_eq!(taken, [7], "{policy:?}");
    }
}

#[test]
fn names_of_what_is_not_there_are_free_in_the_copy() {
    let directory = tempfile::tempdir().unwrap();
    for policy in POLICIES {
        let heap = HeapOptions::new(1 << 20).policy(policy).create_memfd().unwrap();
        let kept = ShmBox::new(&heap, 6_u64).unwrap().keep();
        heap.set_root("kept", kept.cast()).unwrap();
        let object = ShmBox::new(&heap, 5_u64).unwrap();
        heap.set_root("lost", ShmBox::handle(&object).cast()).unwrap();
        drop(object);
        let copy = Heap::connect_file(copied(&heap, directory.path(), &format!("{policy:?}")));
        let copy = copy.unwrap();
        let names: Vec<_> = copy.roots().into_iter().map(|root| root.name).collect();
        assert_eq!(names, ["kept"], "{policy:?}");
        copy.find_or_create::<u64>("lost", |_| {}).unwrap();
    }
}

#[test]
fn further_holders_are_copied_and_are_nobody_in_the_copy() {
    let directory = tempfile::tempdir().unwrap();
    let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
    let shared = ShmArc::new(&heap, 5_u64).unwrap();
    // More than an entry has room for: the others are in an object of their own.
    let more: Vec<_> = (0..20).map(|_| ShmArc::downgrade(&shared).upgrade(&heap)).collect();
    let copy = Heap::connect_file(copied(&heap, directory.path(), "whole")).unwrap();
    assert_eq!(live(&copy), live(&heap));
    copy.sweep_shared().unwrap();
    assert_eq!(live(&copy), live(&heap) - 1);
    drop(more);
}

#[test]
fn copies_of_one_heap_are_two_heaps() {
    let directory = tempfile::tempdir().unwrap();
    let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
    let list = heap.find_or_create::<ShmMutex<ShmVec<u64>>>("list", |_| {}).unwrap();
    list.lock(&heap).unwrap().push(&heap, 1).unwrap();
    let cell = heap.find_or_create::<ShmCell<u64>>("cell", |_| {}).unwrap();
    ShmBox::new(&heap, 7_u64).unwrap().publish(&cell).unwrap();
    let [one, two] =
        ["one", "two"].map(|name| Heap::connect_file(copied(&heap, directory.path(), name)));
    let (one, two) = (one.unwrap(), two.unwrap());
    let cell_of_one = one.find_root::<ShmCell<u64>>("cell").unwrap();
    for other in [&two, &heap] {
        assert!(matches!(cell_of_one.take(other), Err(Error::Damaged { .. })));
    }
    assert_eq!(cell_of_one.take(&one).unwrap().map(|it| *it), Some(7));
    let list = one.find_root::<ShmMutex<ShmVec<u64>>>("list").unwrap();
    assert_eq!(list.lock(&one).unwrap().len(&one).unwrap(), 1);
}
