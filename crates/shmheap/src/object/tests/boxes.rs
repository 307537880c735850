//! Boxes and cells.

use super::{heaps, live};
use crate::object::killed::at_every_store;
use crate::os::testing::in_own_process;
use crate::segment::words::Words;
use std::alloc::Layout;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::{
    Error, Fingerprint, Handle, Heap, HeapOptions, OwnedCell, Policy, Shareable, ShmBox, ShmCell,
    ShmPtr,
};

#[test]
fn a_box_is_filled_handed_over_and_freed() {
    for heap in heaps() {
        let mailbox = ShmBox::<ShmCell<[u32; 3]>>::new_zeroed(&heap).unwrap();
        assert!(mailbox.take(&heap).unwrap().is_none());
        let mut letter = ShmBox::new(&heap, [1_u32, 2, 3]).unwrap();
        letter[2] = 5;
        let handle = letter.publish(&mailbox).unwrap();
        assert_eq!(mailbox.peek(&heap), Some(handle));
        let second = ShmBox::new(&heap, [7_u32; 3]).unwrap();
        let refused = second.publish(&mailbox).unwrap_err();
        assert!(matches!(refused.error, Error::Occupied { .. }));
        assert_eq!(*refused.value, [7; 3]);
        drop(refused);
        let letter = mailbox.take(&heap).unwrap().unwrap();
        assert_eq!(*letter, [1, 2, 5]);
        assert_eq!(live(&heap), 2);
        drop((letter, mailbox));
        assert_eq!(live(&heap), 0);
    }
}

#[test]
fn what_is_too_small_for_its_type_is_refused() {
    for heap in heaps() {
        let small = ShmBox::new(&heap, 1_u8).unwrap();
        let handle = ShmBox::handle(&small);
        let refused = heap.located::<[u64; 100]>(handle.cast()).unwrap_err();
        assert!(matches!(refused, Error::WrongType { .. }));
        drop(small);
        assert!(heap.located(handle).is_err());
    }
}

#[test]
fn a_letter_is_in_one_place_whoever_is_killed() {
    in_own_process(module_path!(), "a_letter_is_in_one_place_whoever_is_killed", || {
        let prepare = |heap: &Heap| {
            let cells = ShmBox::<[ShmCell<u64>; 2]>::new_zeroed(heap).unwrap().keep();
            // SAFETY: nobody frees it.
            let [first, _] = unsafe { heap.get(cells) }.unwrap();
            ShmBox::new(heap, 1_u64).unwrap().publish(first).unwrap();
            cells
        };
        // Passed on, and another put into its place.
        let operate = |heap: &Heap, cells: &crate::Handle<[ShmCell<u64>; 2]>| {
            // SAFETY: as above.
            let [first, second] = unsafe { heap.get(*cells) }.unwrap();
            first.take(heap).unwrap().unwrap().publish(second).unwrap();
            ShmBox::new(heap, 2_u64).unwrap().publish(first).unwrap();
        };
        let judge = |heap: &Heap, cells: &crate::Handle<[ShmCell<u64>; 2]>| {
            // SAFETY: as above.
            let cells = unsafe { heap.get(*cells) }.unwrap();
            let letters = cells.each_ref().map(|cell| cell.take(heap).unwrap());
            match letters.each_ref().map(|letter| letter.as_deref().copied()) {
                [Some(1), None] | [None, None] | [None, Some(1)] | [Some(2), Some(1)] => {}
                other => panic!("{other:?}"),
            }
            drop(letters);
            assert_eq!(live(heap), 1);
        };
        let stores = at_every_store(prepare, operate, judge);
        assert!(stores > 20, "{stores}");
    });
}

#[test]
fn a_pointer_leads_to_live_objects_only() {
    for heap in heaps() {
        let node = ShmBox::<[ShmPtr<u64>; 2]>::new_zeroed(&heap).unwrap();
        let target = ShmBox::new(&heap, 7_u64).unwrap();
        assert_eq!(node[0].get(&heap).unwrap(), None);
        node[0].set(&heap, ShmBox::handle(&target)).unwrap();
        assert_eq!(node[0].get(&heap).unwrap(), Some(ShmBox::handle(&target)));
        // The same distance from elsewhere leads elsewhere.
        let words: Handle<[AtomicI64; 2]> = ShmBox::handle(&node).cast();
        // SAFETY: the box lives as long, and is changed by atomics only.
        let words = unsafe { heap.get(words) }.unwrap();
        let distance = words[0].load(Ordering::Relaxed);
        for nonsense in [distance, i64::MIN, i64::MAX, 1, -1, 1 << 40] {
            words[1].store(nonsense, Ordering::Relaxed);
            assert!(node[1].get(&heap).is_err(), "{nonsense:#x}");
        }
        drop(target);
        assert!(node[0].get(&heap).is_err());
        node[0].set(&heap, Handle::NONE).unwrap();
        assert_eq!(node[0].get(&heap).unwrap(), None);
        // SAFETY: all bytes 0 are a null pointer.
        let outside: ShmPtr<u64> = unsafe { std::mem::zeroed() };
        assert!(outside.set(&heap, ShmBox::handle(&ShmBox::new(&heap, 1).unwrap())).is_err());
    }
}

/// A value that owns an object, as far as its type says.
#[derive(Debug)]
#[repr(C)]
struct Owner {
    cell: ShmCell<u64>,
}

// SAFETY: a cell and nothing else.
#[allow(unsafe_code)]
unsafe impl Shareable for Owner {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Owner", 16, 8);

    fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
        ShmCell::<u64>::owned_cells(visit);
    }
}

#[test]
fn a_cell_opened_as_one_of_owners_makes_no_owner_of_numbers() {
    let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
    let innocent = ShmBox::new(&heap, 5_u64).unwrap();
    let numbers = heap.find_or_create::<ShmCell<[u64; 2]>>("cell", |_| {}).unwrap();
    let forged = [ShmBox::handle(&innocent).to_raw(), heap.home_id()];
    ShmBox::new(&heap, forged).unwrap().publish(&numbers).unwrap();
    let owners = heap.find_root::<ShmCell<Owner>>("cell").unwrap();
    assert!(matches!(owners.take(&heap), Err(Error::WrongType { .. })));
    assert_eq!(*innocent, 5);
    ShmBox::<Owner>::new_zeroed(&heap).unwrap().publish(&owners).unwrap();
    assert!(owners.take(&heap).unwrap().is_some());
}

#[test]
fn a_cell_is_not_opened_as_one_of_values_of_another_size() {
    let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
    let _numbers = heap.find_or_create::<ShmCell<[u64; 8]>>("cell", |_| {}).unwrap();
    let refused = heap.find_root::<ShmCell<Owner>>("cell");
    assert!(matches!(refused, Err(Error::WrongType { .. })));
}

#[test]
fn plain_bytes_are_no_owner_where_one_was() {
    let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
    let owner = ShmBox::<Owner>::new_zeroed(&heap).unwrap();
    let was_at = ShmBox::handle(&owner).offset_bytes();
    let bytes = heap.usable_size(heap.resolve(ShmBox::handle(&owner).cast()).unwrap()).unwrap();
    drop(owner);
    let again = heap.alloc_unpublished(Layout::from_size_align(bytes, 8).unwrap()).unwrap();
    assert_eq!(again.handle().offset_bytes(), was_at, "the test needs the owner's place");
    let cell = heap.find_or_create::<ShmCell<[u64; 2]>>("cell", |_| {}).unwrap();
    ShmBox::<[u64; 2]>::from_plain(again).unwrap().publish(&cell).unwrap();
    let owners = heap.find_root::<ShmCell<Owner>>("cell").unwrap();
    assert!(matches!(owners.take(&heap), Err(Error::WrongType { .. })));
}

#[test]
fn a_cell_of_another_heap_is_left_as_it_is() {
    let [here, there] = [(); 2].map(|()| HeapOptions::new(1 << 20).create_memfd().unwrap());
    let theirs = ShmBox::<ShmCell<u64>>::new_zeroed(&there).unwrap();
    let refused = ShmBox::new(&here, 7_u64).unwrap().publish(&theirs).unwrap_err();
    assert!(matches!(refused.error, Error::InvalidCell { .. }));
    let span = there.span(ShmBox::handle(&theirs)).unwrap();
    let words = [0, 1].map(|number| there.gate().load(span.word(number)));
    assert_eq!(words, [0, 0], "not even its home");
    ShmBox::new(&there, 8_u64).unwrap().publish(&theirs).unwrap();
    assert_eq!(theirs.take(&there).unwrap().map(|value| *value), Some(8));
}

#[test]
fn a_cell_of_another_heap_is_refused_and_not_freed() {
    // Under first fit, as their objects have the same handles then.
    let options = HeapOptions::new(1 << 20).policy(Policy::FirstFit);
    let [here, there] = [(); 2].map(|()| options.create_memfd().unwrap());
    let mut ours = ShmBox::<ShmCell<u64>>::new_zeroed(&here).unwrap();
    let mut theirs = ShmBox::<ShmCell<u64>>::new_zeroed(&there).unwrap();
    let innocent = ShmBox::new(&here, 7_u64).unwrap();
    let letter = ShmBox::new(&there, 8_u64).unwrap();
    assert_eq!(ShmBox::handle(&innocent), ShmBox::handle(&letter));
    letter.publish(&theirs).unwrap();
    std::mem::swap(&mut *ours, &mut *theirs);
    assert!(matches!(ours.take(&here), Err(Error::Damaged { .. })));
    assert_eq!(ours.peek(&here), None);
    let letter = ShmBox::new(&here, 9_u64).unwrap();
    let refused = letter.publish(&ours).unwrap_err();
    assert!(matches!(refused.error, Error::Damaged { .. }));
    assert_eq!(*refused.value, 9);
    drop(ours);
    assert_eq!(*innocent, 7);
    // What came without a value is at home wherever it is used.
    ShmBox::new(&there, 10_u64).unwrap().publish(&theirs).unwrap();
    assert_eq!(*theirs.take(&there).unwrap().unwrap(), 10);
}
