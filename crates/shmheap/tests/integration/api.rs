//! Goal: every operation of a heap does what it says for valid and for invalid arguments, and an
//! invalid one leaves the heap as it was.
//!
//! Method: one process, one heap per test; after each refusal, audit and count.

use std::alloc::Layout;
use std::collections::BTreeSet;
use std::ptr::NonNull;

use proptest::prelude::*;
use shmheap::{Error, Granule, Handle, Heap, HeapOptions, NotLive, Policy};

use crate::support::bytes::{alloc, displaced, free, free_handle, layout, realloc};
use crate::support::first_fit;
use crate::support::random::{Random, seed};
use crate::support::{HeapName, assert_empty, assert_whole, bytes};

const LEN_BYTES: u64 = 64 << 10;

fn heap() -> Heap {
    first_fit(LEN_BYTES).create_memfd().unwrap()
}

const fn assert_send_and_sync<T: Send + Sync>() {}
const _: () = assert_send_and_sync::<Heap>();
const _: () = assert_send_and_sync::<Error>();

#[test]
fn an_object_of_size_0_is_an_object() {
    let heap = heap();
    let first = heap.alloc(Layout::new::<()>()).unwrap();
    let second = heap.alloc(Layout::new::<()>()).unwrap();
    assert_ne!(first, second);
    assert_eq!(heap.usable_size(first).unwrap(), 16);
    free(&heap, first).unwrap();
    free(&heap, second).unwrap();
    assert_empty(&heap);
}

#[test]
fn alignments_go_up_to_a_page() {
    for granule in [Granule::Eight, Granule::Sixteen] {
        let heap = first_fit(1 << 20).granule(granule).create_memfd().unwrap();
        assert!(heap.base().addr().get().is_multiple_of(4096));
        let mut objects = vec![];
        for align in (0..=12).map(|bits| 1 << bits) {
            alloc(&heap, 1).unwrap();
            let object = heap.alloc(layout(24, align)).unwrap();
            assert!(object.addr().get().is_multiple_of(align.max(granule.bytes()) as usize));
            objects.push(object);
        }
        assert_eq!(objects.iter().collect::<BTreeSet<_>>().len(), 13);
        let before = assert_whole(&heap);
        for align in [8192, 1 << 20, 1 << 62] {
            let error = heap.alloc(layout(1, align)).unwrap_err();
            assert!(
                matches!(error, Error::InvalidLayout { align_bytes, .. } if align_bytes == align),
                "{error}"
            );
            let error = realloc(&heap, objects[0], 1, align).unwrap_err();
            assert!(matches!(error, Error::InvalidLayout { .. }), "{error}");
        }
        assert_eq!(assert_whole(&heap).live_bytes, before.live_bytes);
    }
}

#[test]
fn sizes_that_no_heap_holds_are_refused() {
    let heap = heap();
    let whole = alloc(&heap, LEN_BYTES).unwrap();
    free(&heap, whole).unwrap();
    for size in [LEN_BYTES + 1, 1 << 40, 1 << 46, 1 << 62, isize::MAX as u64] {
        for align in [1, 4096] {
            let Ok(layout) = Layout::from_size_align(size as usize, align) else { continue };
            for result in [heap.alloc(layout), heap.alloc_zeroed(layout)] {
                let error = result.unwrap_err();
                assert!(matches!(error, Error::Full { .. }), "{error}");
                assert_eq!(error.errno(), libc::ENOMEM);
            }
        }
        assert_empty(&heap);
    }
    let object = alloc(&heap, 10).unwrap();
    let error = realloc(&heap, object, isize::MAX as u64, 1).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(heap.usable_size(object).unwrap(), 16);
}

#[test]
fn zeroed_objects_are_zero_in_dirty_memory() {
    let heap = heap();
    let dirty = alloc(&heap, LEN_BYTES).unwrap();
    bytes::stamp(dirty, LEN_BYTES, 1);
    free(&heap, dirty).unwrap();
    for size in [1, 15, 16, 17, 4095, 10_000] {
        let object = heap.alloc_zeroed(layout(size, 64)).unwrap();
        let usable = heap.usable_size(object).unwrap() as u64;
        assert!(usable >= size);
        assert!(bytes::content(&heap, object, usable).iter().all(|&byte| byte == 0), "{size}");
    }
}

#[test]
fn objects_lie_at_the_lowest_address_that_holds_them() {
    for granule in [Granule::Eight, Granule::Sixteen] {
        let unit = granule.bytes() as isize;
        let heap = first_fit(LEN_BYTES).granule(granule).create_memfd().unwrap();
        let [a, b, c] = [1, 2, 3].map(|_| alloc(&heap, 1).unwrap());
        assert_eq!([a, b, c], [0, 1, 2].map(|index| displaced(heap.base(), index * unit)));
        free(&heap, a).unwrap();
        assert_eq!(alloc(&heap, unit as u64 + 1).unwrap(), displaced(c, unit));
        assert_eq!(alloc(&heap, unit as u64).unwrap(), a);
        assert_whole(&heap);
    }
}

#[test]
fn realloc_stays_where_it_can() {
    let heap = heap();
    let object = alloc(&heap, 100).unwrap();
    bytes::stamp(object, 100, 1);
    assert_eq!(realloc(&heap, object, 5000, 1).unwrap(), object, "into the free block behind");
    assert_eq!(heap.usable_size(object).unwrap(), 5008);
    assert_eq!(realloc(&heap, object, 50, 1).unwrap(), object, "shorter");
    assert_eq!(heap.usable_size(object).unwrap(), 64);
    assert!(bytes::is_stamped(&heap, object, 50, 1));
    assert_eq!(realloc(&heap, object, 0, 1).unwrap(), object, "size 0 is one granule");
    assert_eq!(heap.usable_size(object).unwrap(), 16);
    assert_eq!(realloc(&heap, object, LEN_BYTES, 1).unwrap(), object, "the whole heap");
    free(&heap, object).unwrap();
    assert_empty(&heap);
}

#[test]
fn realloc_moves_where_it_must_and_keeps_the_content() {
    let heap = heap();
    let object = alloc(&heap, 100).unwrap();
    bytes::stamp(object, 100, 2);
    let wall = alloc(&heap, 1).unwrap();
    let moved = realloc(&heap, object, 1000, 1).unwrap();
    assert_ne!(moved, object);
    assert!(bytes::is_stamped(&heap, moved, 100, 2));
    assert!(matches!(heap.handle(object), Err(Error::InvalidPointer { .. })), "the old is free");

    let aligned = realloc(&heap, moved, 1000, 4096).unwrap();
    assert!(aligned.addr().get().is_multiple_of(4096));
    assert!(bytes::is_stamped(&heap, aligned, 100, 2));

    let error = realloc(&heap, wall, LEN_BYTES, 1).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    free(&heap, wall).unwrap();
    assert!(bytes::is_stamped(&heap, aligned, 100, 2));
    free(&heap, aligned).unwrap();
    assert_empty(&heap);
}

fn at_address(address: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::without_provenance_mut(address)).unwrap()
}

/// Pointers to where no object is, with the reason.
fn no_objects(heap: &Heap) -> Vec<(NonNull<u8>, NotLive)> {
    let live = alloc(heap, 100).unwrap();
    let freed = alloc(heap, 16).unwrap();
    let wall = alloc(heap, 16).unwrap();
    let joined = alloc(heap, 16).unwrap();
    free(heap, freed).unwrap();
    free(heap, joined).unwrap();
    let on_the_stack = 0_u128;
    vec![
        (freed, NotLive::Freed),
        (joined, NotLive::Freed),
        (displaced(joined, 16), NotLive::NoObject),
        (displaced(live, 16), NotLive::NoObject),
        (displaced(live, 8), NotLive::Misaligned),
        (displaced(wall, 1), NotLive::Misaligned),
        (displaced(heap.base(), -16), NotLive::Foreign),
        (displaced(heap.base(), LEN_BYTES as isize), NotLive::Foreign),
        (displaced(heap.base(), LEN_BYTES as isize - 16), NotLive::NoObject),
        (displaced(heap.base(), 1 << 40), NotLive::Foreign),
        (NonNull::from(&on_the_stack).cast(), NotLive::Foreign),
        (at_address(1), NotLive::Foreign),
        (at_address(usize::MAX), NotLive::Foreign),
    ]
}

#[test]
fn pointers_to_no_object_are_refused_everywhere() {
    let heap = heap();
    let pointers = no_objects(&heap);
    let before = assert_whole(&heap);
    for (pointer, expected) in pointers {
        let errors = [
            free(&heap, pointer).unwrap_err(),
            realloc(&heap, pointer, 200, 1).unwrap_err(),
            heap.handle(pointer).unwrap_err(),
            heap.usable_size(pointer).unwrap_err(),
        ];
        for error in errors {
            let Error::InvalidPointer { address, why } = error else { panic!("{error}") };
            // Above any heap it may also be named by its last bits.
            assert!(
                why == expected || (expected == NotLive::Foreign && why == NotLive::Misaligned),
                "{pointer:?}: {why}, not {expected}"
            );
            assert_eq!(address, pointer.addr().get());
        }
    }
    let after = assert_whole(&heap);
    assert_eq!((after.live_objects, after.live_bytes), (before.live_objects, before.live_bytes));
}

#[test]
fn handles_of_no_object_are_refused() {
    let heap = heap();
    let base = heap.info().data_offset_bytes;
    for (pointer, expected) in no_objects(&heap) {
        let Some(offset) = pointer.addr().get().checked_sub(heap.base().addr().get()) else {
            continue;
        };
        if offset as u64 > 2 * LEN_BYTES {
            continue;
        }
        let handle = Handle::from_raw(base + offset as u64);
        let error = heap.resolve(handle).unwrap_err();
        assert!(
            matches!(&error, Error::InvalidHandle { why, .. } if *why == expected),
            "{error}, not {expected}"
        );
    }
    let mut random = Random::new(seed());
    let nonsense = (0..10_000).map(|_| random.next()).chain([0, 1, base - 1, base - 16, u64::MAX]);
    for raw in nonsense.filter(|&raw| raw < base || raw >= base + LEN_BYTES) {
        let error = heap.resolve(Handle::from_raw(raw)).unwrap_err();
        assert!(matches!(error, Error::InvalidHandle { .. }), "{raw:#x}: {error}");
    }
    assert!(matches!(heap.resolve(Handle::NONE), Err(Error::InvalidHandle { .. })));
    let object = alloc(&heap, 1).unwrap();
    let handle = heap.handle(object).unwrap();
    assert_eq!(heap.resolve(handle).unwrap(), object);
    free_handle(&heap, handle).unwrap();
    assert!(matches!(heap.resolve(handle), Err(Error::InvalidHandle { .. })), "stale");
    assert_whole(&heap);
}

#[test]
fn objects_of_another_heap_are_foreign() {
    let (ours, theirs) = (heap(), heap());
    let object = alloc(&theirs, 1).unwrap();
    let error = free(&ours, object).unwrap_err();
    assert!(matches!(error, Error::InvalidPointer { .. }), "{error}");
    assert_eq!(assert_whole(&theirs).live_objects, 1);
}

#[test]
fn a_heap_tells_what_it_is() {
    let name = HeapName::new();
    let heap = first_fit(1000).max_len(99_999).create(&name).unwrap();
    let info = heap.info();
    assert_eq!((info.len_bytes, info.max_len_bytes), (1008, 100_000));
    assert_eq!((info.granule(), info.policy), (Granule::Sixteen, Policy::FirstFit));
    assert!(info.data_offset_bytes.is_multiple_of(4096));
    assert_ne!(info.id, self::heap().info().id);
    assert_eq!(Heap::connect(&name).unwrap().info(), info);
    let peers = heap.peers();
    assert_eq!(peers.len(), 1);
    assert!(peers[0].is_self && peers[0].alive);
    assert_eq!(peers[0].pid, std::process::id());
    let program = std::env::args().next().unwrap();
    assert!(program.starts_with(peers[0].command.split(' ').next().unwrap()));
    assert!(format!("{heap:?}").contains(name.as_str()));
}

#[test]
fn options_that_no_heap_can_have_are_refused() {
    let refused = |options: HeapOptions, option: &str| {
        let error = options.create_memfd().unwrap_err();
        let named = matches!(&error, Error::InvalidOption { option: o, .. } if *o == option);
        assert!(named, "{option}: {error}");
        assert_eq!(error.errno(), libc::EINVAL);
    };
    refused(first_fit(0), "len");
    refused(first_fit(u64::MAX), "len");
    refused(first_fit((1 << 46) + 1), "len");
    refused(first_fit(4096).max_len(4000), "max_len");
    refused(first_fit(4096).max_len(u64::MAX), "max_len");
    refused(first_fit(4096).mode(0o7777), "mode");
    assert!(matches!(Granule::from_bytes(32), Err(Error::InvalidOption { .. })));
}

#[test]
fn the_smallest_heap_holds_one_object() {
    for granule in [Granule::Eight, Granule::Sixteen] {
        let heap = first_fit(1).granule(granule).create_memfd().unwrap();
        let object = alloc(&heap, granule.bytes()).unwrap();
        assert!(matches!(alloc(&heap, 1), Err(Error::Full { .. })));
        free(&heap, object).unwrap();
        assert_empty(&heap);
    }
}

#[test]
fn threads_share_a_heap() {
    let heap = first_fit(LEN_BYTES).max_len(64 << 20).create_memfd().unwrap();
    let seed = seed();
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
    assert_empty(&heap);
    assert_eq!(heap.peers().len(), 1, "threads are one process");
}

#[test]
fn errors_say_what_to_do() {
    let heap = first_fit(160).create_memfd().unwrap();
    let object = alloc(&heap, 1).unwrap();
    let handle = heap.handle(object).unwrap();
    free(&heap, object).unwrap();
    let texts = [
        (
            Heap::connect("/no-such-heap").unwrap_err(),
            "there is no heap '/no-such-heap' (`shmheap ls` lists those there are)".to_owned(),
        ),
        (
            Heap::connect("/a/b").unwrap_err(),
            "\"/a/b\" cannot name a heap: it has a '/' after its start; \
             name a file with the functions for files"
                .to_owned(),
        ),
        (
            alloc(&heap, 161).unwrap_err(),
            "the heap is full: no free range of 176 bytes (160 bytes free of 160, limit 160)"
                .to_owned(),
        ),
        (
            heap.resolve(handle).unwrap_err(),
            format!("handle {handle} names no live object of this heap: it was freed already"),
        ),
        (
            free(&heap, object).unwrap_err(),
            format!("{object:?} is not a live object of this heap: it was freed already"),
        ),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn handles_are_text_and_integers() {
    let heap = heap();
    let handle = heap.handle(alloc(&heap, 1).unwrap()).unwrap();
    assert_eq!(handle.to_string().parse(), Ok(handle));
    assert_eq!(Handle::from_raw(u64::from(handle)), handle);
    assert_eq!(size_of::<Handle>(), 8);
    #[cfg(feature = "serde")]
    {
        let text = serde_json::to_string(&handle).unwrap();
        assert_eq!(text, handle.to_raw().to_string());
        assert_eq!(serde_json::from_str::<Handle>(&text).unwrap(), handle);
        assert!(serde_json::to_value(heap.stats()).unwrap()["live_objects"] == 1);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Alloc { size: u64, align_bits: u32 },
    Free { which: usize },
    Realloc { which: usize, size: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..600_u64, 0..10_u32)
            .prop_map(|(size, align_bits)| Step::Alloc { size, align_bits }),
        2 => any::<usize>().prop_map(|which| Step::Free { which }),
        1 => (any::<usize>(), 0..600_u64).prop_map(|(which, size)| Step::Realloc { which, size }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_row_of_operations_keeps_content_and_count(
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let heap = first_fit(16 << 10).create_memfd().unwrap();
        let mut held: Vec<(NonNull<u8>, u64, u64)> = vec![];
        for (stamp, step) in (0..).zip(steps) {
            match step {
                Step::Alloc { size, align_bits } => {
                    if let Ok(object) = heap.alloc(layout(size, 1 << align_bits)) {
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
        }
        assert_whole(&heap);
    }
}
