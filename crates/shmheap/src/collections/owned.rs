//! What collections own is freed with the value that they are a part of, by whoever frees that and
//! whoever was killed before; and what a swap with another heap brought is not.

use crate::object::killed::at_every_store;
use crate::object::{OwnedCell, Shareable};
use crate::os::testing::in_own_process;
use crate::{
    Error, Fingerprint, Heap, HeapOptions, Policy, ShmArc, ShmBox, ShmMap, ShmMutex, ShmString,
    ShmVec,
};

/// A value that owns by way of each collection.
#[repr(C)]
struct Owner {
    map: ShmMap<u64, u64>,
    vec: ShmMutex<ShmVec<[u64; 3]>>,
    text: ShmMutex<ShmString>,
}

// SAFETY: the fields are shareable, and follow each other without a gap.
#[allow(unsafe_code)]
unsafe impl Shareable for Owner {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Owner", size_of::<Self>(), 8);

    fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
        let (vec, text) = (std::mem::offset_of!(Self, vec), std::mem::offset_of!(Self, text));
        ShmMap::<u64, u64>::owned_cells(visit);
        ShmMutex::<ShmVec<[u64; 3]>>::owned_cells(&mut |cell| visit(cell.within(vec)));
        ShmMutex::<ShmString>::owned_cells(&mut |cell| visit(cell.within(text)));
    }
}

/// Adds so much to each that all of them grow, some several times.
fn fill(heap: &Heap, owner: &ShmArc<'_, Owner>) {
    for number in 0..12 {
        // Of one shard, as far as that can be had with little ado.
        owner.map.insert(heap, number, number).unwrap();
        owner.vec.lock(heap).unwrap().push(heap, [number; 3]).unwrap();
        owner.text.lock(heap).unwrap().push_str(heap, "some text ").unwrap();
    }
}

fn live(heap: &Heap) -> u64 {
    heap.stats().live_objects
}

#[test]
fn what_collections_own_is_freed_whoever_is_killed() {
    in_own_process(module_path!(), "what_collections_own_is_freed_whoever_is_killed", || {
        let prepare = |heap: &Heap| {
            heap.find_or_create::<u64>("other", |_| {}).unwrap();
            let before = live(heap);
            heap.find_or_create::<Owner>("owner", |_| {}).unwrap();
            before
        };
        let operate = |heap: &Heap, _: &u64| {
            let owner = heap.find_root::<Owner>("owner").unwrap();
            fill(heap, &owner);
            heap.remove_root("owner").unwrap();
            drop(owner);
        };
        let judge = |heap: &Heap, before: &u64| {
            // By one that knows nothing of its type.
            let _ = heap.remove_root("owner");
            heap.sweep_shared().unwrap();
            assert_eq!(live(heap), *before);
        };
        let stores = at_every_store(prepare, operate, judge);
        assert!(stores > 400, "{stores}");
    });
}

/// Two heaps whose objects have the same handles, so that one's are live in the other.
fn twins() -> [Heap; 2] {
    let options = HeapOptions::new(4 << 20).policy(Policy::FirstFit);
    [(); 2].map(|()| options.create_memfd().unwrap())
}

#[test]
fn a_vector_of_another_heap_is_refused_and_not_freed() {
    let [here, there] = twins();
    let mut ours = ShmBox::<ShmVec<u64>>::new_zeroed(&here).unwrap();
    let mut theirs = ShmBox::<ShmVec<u64>>::new_zeroed(&there).unwrap();
    let innocent = ShmBox::new(&here, [7_u64; 4]).unwrap();
    for number in 0..4 {
        theirs.push(&there, number).unwrap();
    }
    std::mem::swap(&mut *ours, &mut *theirs);
    let damaged = |error| matches!(error, Error::Damaged { .. });
    assert!(ours.as_slice(&here).is_err_and(damaged));
    assert!(ours.push(&here, 1).is_err_and(damaged));
    assert!(ours.free(&here).is_err_and(damaged));
    assert_eq!(theirs.len(&there).unwrap(), 0);
    drop(ours);
    assert_eq!((live(&here), *innocent), (1, [7; 4]));
}

#[test]
fn a_map_of_another_heap_is_not_changed_nor_freed() {
    let [here, there] = twins();
    let mut ours = ShmBox::<ShmMap<u64, u64>>::new_zeroed(&here).unwrap();
    let mut theirs = ShmBox::<ShmMap<u64, u64>>::new_zeroed(&there).unwrap();
    // In each heap a map with the same entries: its tables have the same handles there.
    for number in 0..100 {
        ours.insert(&here, number, 1).unwrap();
        theirs.insert(&there, number, 2).unwrap();
    }
    let before = live(&here);
    std::mem::swap(&mut *ours, &mut *theirs);
    let damaged = |error| matches!(error, Error::Damaged { .. });
    assert!(ours.insert(&here, 5, 3).is_err_and(damaged));
    assert!(ours.free(&here).is_err_and(damaged));
    drop(ours);
    assert_eq!(live(&here), before - 1, "but for the map's own object");
}

#[test]
fn what_was_freed_belongs_to_no_heap() {
    let [here, there] = twins();
    let mut vec = (
        ShmBox::<ShmVec<u64>>::new_zeroed(&here).unwrap(),
        ShmBox::<ShmVec<u64>>::new_zeroed(&there).unwrap(),
    );
    vec.0.push(&here, 1).unwrap();
    vec.0.free(&here).unwrap();
    std::mem::swap(&mut *vec.0, &mut *vec.1);
    vec.1.push(&there, 2).unwrap();
    assert_eq!(vec.1.as_slice(&there).unwrap(), [2]);
    let mut map = (
        ShmBox::<ShmMap<u64, u64>>::new_zeroed(&here).unwrap(),
        ShmBox::<ShmMap<u64, u64>>::new_zeroed(&there).unwrap(),
    );
    map.0.insert(&here, 1, 1).unwrap();
    map.0.free(&here).unwrap();
    std::mem::swap(&mut *map.0, &mut *map.1);
    map.1.insert(&there, 2, 2).unwrap();
    assert_eq!(map.1.get(&there, &2).unwrap(), Some(2));
}
