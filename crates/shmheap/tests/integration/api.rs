//! Goal: every operation of a heap does what it says for valid and for invalid arguments, and an
//! invalid one leaves the heap as it was.
//!
//! Method: one process, one heap per test and policy; after each refusal, audit and count.

use std::alloc::Layout;
use std::collections::BTreeSet;
use std::ptr::NonNull;

use shmheap::{Error, Granule, Handle, Heap, HeapOptions, NotLive, Policy};

use crate::support::bytes::{alloc, displaced, free, free_handle, layout, realloc};
use crate::support::{HeapName, POLICIES, assert_empty, assert_whole, bytes, first_fit, scalable};

const LEN_BYTES: u64 = 64 << 10;

/// As long as a test needs: a slab for each of some size classes, or some objects.
const fn len_bytes(policy: Policy) -> u64 {
    match policy {
        Policy::Scalable => 4 << 20,
        _ => LEN_BYTES,
    }
}

fn heap(policy: Policy) -> Heap {
    HeapOptions::new(len_bytes(policy)).policy(policy).create_memfd().unwrap()
}

const fn assert_send_and_sync<T: Send + Sync>() {}
const _: () = assert_send_and_sync::<Heap>();
const _: () = assert_send_and_sync::<Error>();

#[test]
fn an_object_of_size_0_is_an_object() {
    for policy in POLICIES {
        let heap = heap(policy);
        let first = heap.alloc(Layout::new::<()>()).unwrap();
        let second = heap.alloc(Layout::new::<()>()).unwrap();
        assert_ne!(first, second);
        assert_eq!(heap.usable_size(first).unwrap(), 16);
        free(&heap, first).unwrap();
        free(&heap, second).unwrap();
        assert_empty(&heap);
    }
}

#[test]
fn alignments_go_up_to_a_page_by_first_fit() {
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
fn alignments_go_up_to_a_huge_page_in_slabs() {
    let heap = scalable(64 << 20).create_memfd().unwrap();
    let mut objects = vec![];
    for align in (0..=21).map(|bits| 1_u64 << bits) {
        for size in [1, 24, 5000, 100_000, 600_000, align, 3 * align / 2] {
            let object = heap.alloc(layout(size, align)).unwrap();
            assert!(object.addr().get().is_multiple_of(align as usize), "{size} {align}");
            assert!(heap.usable_size(object).unwrap() as u64 >= size);
            objects.push(object);
        }
        let moved = realloc(&heap, objects.pop().unwrap(), 70_000, align).unwrap();
        assert!(moved.addr().get().is_multiple_of(align as usize), "{align}");
        free(&heap, moved).unwrap();
    }
    let before = assert_whole(&heap);
    for align in [4 << 20, 1 << 30, 1 << 62] {
        let errors = [
            heap.alloc(layout(1, align)).unwrap_err(),
            realloc(&heap, objects[0], 1, align).unwrap_err(),
        ];
        for error in errors {
            let named =
                matches!(&error, Error::InvalidLayout { align_bytes, .. } if *align_bytes == align);
            assert!(named, "{error}");
        }
    }
    assert_eq!(assert_whole(&heap).live_bytes, before.live_bytes);
    for object in objects {
        free(&heap, object).unwrap();
    }
    assert_empty(&heap);
}

#[test]
fn sizes_that_no_heap_holds_are_refused() {
    for policy in POLICIES {
        let (heap, len_bytes) = (heap(policy), len_bytes(policy));
        let whole = alloc(&heap, len_bytes).unwrap();
        free(&heap, whole).unwrap();
        for size in [len_bytes + 1, 1 << 40, 1 << 46, 1 << 62, isize::MAX as u64] {
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
}

#[test]
fn zeroed_objects_are_zero_in_dirty_memory() {
    for policy in POLICIES {
        let (heap, len_bytes) = (heap(policy), len_bytes(policy));
        let dirty = alloc(&heap, len_bytes).unwrap();
        bytes::stamp(dirty, len_bytes, 1);
        free(&heap, dirty).unwrap();
        for size in [1, 15, 16, 17, 4095, 10_000, 40_000] {
            let object = heap.alloc_zeroed(layout(size, 64)).unwrap();
            let usable = heap.usable_size(object).unwrap() as u64;
            assert!(usable >= size);
            assert!(bytes::content(&heap, object, usable).iter().all(|&byte| byte == 0), "{size}");
        }
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
fn realloc_stays_where_it_can_by_first_fit() {
    let heap = heap(Policy::FirstFit);
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
fn realloc_stays_where_it_can_in_slabs() {
    let heap = heap(Policy::Scalable);
    let small = alloc(&heap, 1000).unwrap();
    bytes::stamp(small, 1000, 1);
    for size in [1024, 600, 512, 1000] {
        assert_eq!(realloc(&heap, small, size, 1).unwrap(), small, "half of it is used");
    }
    let moved = realloc(&heap, small, 100, 1).unwrap();
    assert_ne!(moved, small, "a smaller class is worth the move");
    assert!(bytes::is_stamped(&heap, moved, 100, 1));
    free(&heap, moved).unwrap();

    let large = alloc(&heap, 600_000).unwrap();
    bytes::stamp(large, 600_000, 2);
    for size in [1 << 20, 600_000, 3 << 20, 900_000, 2 << 20] {
        assert_eq!(realloc(&heap, large, size, 1).unwrap(), large, "units come and go behind it");
        assert_eq!(heap.usable_size(large).unwrap() as u64, size.next_multiple_of(64 << 10));
        assert_whole(&heap);
    }
    assert!(bytes::is_stamped(&heap, large, 600_000, 2));
    let wall = alloc(&heap, 600_000).unwrap();
    let error = realloc(&heap, large, 3 << 20, 1).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(bytes::is_stamped(&heap, large, 600_000, 2));
    let small = realloc(&heap, large, 5000, 1).unwrap();
    assert!(bytes::is_stamped(&heap, small, 5000, 2));
    for object in [wall, small] {
        free(&heap, object).unwrap();
    }
    assert_empty(&heap);
}

#[test]
fn realloc_moves_where_it_must_and_keeps_the_content() {
    for policy in POLICIES {
        let heap = heap(policy);
        let object = alloc(&heap, 100).unwrap();
        bytes::stamp(object, 100, 2);
        let wall = alloc(&heap, 1).unwrap();
        let moved = realloc(&heap, object, 1000, 1).unwrap();
        assert_ne!(moved, object);
        assert!(bytes::is_stamped(&heap, moved, 100, 2));
        assert!(
            matches!(heap.handle(object), Err(Error::InvalidPointer { .. })),
            "the old is free"
        );

        let aligned = realloc(&heap, moved, 1000, 4096).unwrap();
        assert!(aligned.addr().get().is_multiple_of(4096));
        assert!(bytes::is_stamped(&heap, aligned, 100, 2));

        let error = realloc(&heap, wall, len_bytes(policy), 1).unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{error}");
        free(&heap, wall).unwrap();
        assert!(bytes::is_stamped(&heap, aligned, 100, 2));
        free(&heap, aligned).unwrap();
        assert_empty(&heap);
    }
}

fn at_address(address: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::without_provenance_mut(address)).unwrap()
}

/// Pointers to where no object is, with the reasons that each policy may give.
fn no_objects(heap: &Heap) -> Vec<(NonNull<u8>, &'static [NotLive])> {
    use NotLive::{Foreign, Freed, Misaligned, NoObject};
    let len_bytes = heap.info().len_bytes as isize;
    let live = alloc(heap, 100).unwrap();
    let freed = alloc(heap, 16).unwrap();
    let wall = alloc(heap, 16).unwrap();
    let joined = alloc(heap, 16).unwrap();
    free(heap, freed).unwrap();
    free(heap, joined).unwrap();
    let on_the_stack = 0_u128;
    let odd: &[NotLive] = match heap.info().policy {
        // Slabs know no granule.
        Policy::Scalable => &[NoObject],
        _ => &[Misaligned],
    };
    // In slabs there are free objects and free units where by first fit there is nothing.
    let nothing: &[NotLive] = match heap.info().policy {
        Policy::Scalable => &[Freed],
        _ => &[NoObject],
    };
    vec![
        (freed, &[Freed]),
        (joined, &[Freed]),
        (displaced(joined, 16), nothing),
        (displaced(live, 16), &[NoObject]),
        (displaced(live, 8), odd),
        (displaced(wall, 1), odd),
        (displaced(heap.base(), -16), &[Foreign]),
        (displaced(heap.base(), len_bytes), &[Foreign]),
        (displaced(heap.base(), len_bytes - 16), nothing),
        (displaced(heap.base(), 1 << 40), &[Foreign]),
        // Above any heap it may also be named by its last bits.
        (NonNull::from(&on_the_stack).cast(), &[Foreign, Misaligned]),
        (at_address(1), &[Foreign, Misaligned]),
        (at_address(usize::MAX), &[Foreign, Misaligned]),
    ]
}

#[test]
fn pointers_to_no_object_are_refused_everywhere() {
    for policy in POLICIES {
        let heap = heap(policy);
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
                assert!(expected.contains(&why), "{policy:?} {pointer:?}: {why}, not {expected:?}");
                assert_eq!(address, pointer.addr().get());
            }
        }
        let after = assert_whole(&heap);
        assert_eq!(
            (after.live_objects, after.live_bytes),
            (before.live_objects, before.live_bytes)
        );
    }
}

#[test]
fn handles_of_no_object_are_refused() {
    for policy in POLICIES {
        let heap = heap(policy);
        let (base, len_bytes) = (heap.info().data_offset_bytes, heap.info().len_bytes);
        for (pointer, expected) in no_objects(&heap) {
            let start = heap.base().addr().get();
            let offset = pointer.addr().get().wrapping_sub(start) as u64;
            if offset > 2 * len_bytes {
                continue;
            }
            let error = heap.resolve(Handle::from_raw(base + offset)).unwrap_err();
            match error {
                Error::InvalidHandle { why, .. } => assert!(expected.contains(&why), "{why}"),
                Error::Stale { .. } => assert_eq!(policy, Policy::Scalable),
                error => panic!("{error}"),
            }
        }
        let object = alloc(&heap, 1).unwrap();
        let handle = heap.handle(object).unwrap();
        assert_eq!(heap.resolve(handle).unwrap(), object);
        free(&heap, object).unwrap();
        assert!(heap.resolve(handle).is_err(), "stale");
        assert_whole(&heap);
    }
}

#[test]
fn objects_of_another_heap_are_foreign() {
    for policy in POLICIES {
        let (ours, theirs) = (heap(policy), heap(policy));
        let object = alloc(&theirs, 1).unwrap();
        let error = free(&ours, object).unwrap_err();
        assert!(matches!(error, Error::InvalidPointer { .. }), "{error}");
        assert_eq!(assert_whole(&theirs).live_objects, 1);
    }
}

#[test]
fn a_heap_tells_what_it_is() {
    // Lengths are rounded up to the granule, or to 64 KiB.
    let expected = [(Policy::FirstFit, 1008, 100_000), (Policy::Scalable, 64 << 10, 128 << 10)];
    for (policy, len_bytes, max_len_bytes) in expected {
        let name = HeapName::new();
        let options = HeapOptions::new(1000).max_len(99_999).policy(policy);
        let heap = options.create(&name).unwrap();
        let info = heap.info();
        assert_eq!((info.len_bytes, info.max_len_bytes), (len_bytes, max_len_bytes));
        assert_eq!((info.granule(), info.policy), (Granule::Sixteen, policy));
        assert!(info.data_offset_bytes.is_multiple_of(4096));
        assert_ne!(info.id, self::heap(policy).info().id);
        assert_eq!(Heap::connect(&name).unwrap().info(), info);
        let peers = heap.peers();
        assert_eq!(peers.len(), 1);
        assert!(peers[0].is_self && peers[0].alive);
        assert_eq!(peers[0].pid, std::process::id());
        let program = std::env::args().next().unwrap();
        assert!(program.starts_with(peers[0].command.split(' ').next().unwrap()));
        assert!(format!("{heap:?}").contains(name.as_str()));
    }
    assert_eq!(HeapOptions::new(1).create_memfd().unwrap().info().policy, Policy::Scalable);
}

#[test]
fn options_that_no_heap_can_have_are_refused() {
    let refused = |options: HeapOptions, option: &str| {
        let error = options.create_memfd().unwrap_err();
        let named = matches!(&error, Error::InvalidOption { option: o, .. } if *o == option);
        assert!(named, "{option}: {error}");
        assert_eq!(error.errno(), libc::EINVAL);
    };
    refused(scalable(0), "len");
    refused(scalable((1 << 46) + 1), "len");
    refused(scalable(1 << 20).max_len(1 << 19), "max_len");
    refused(scalable(4096).max_len(u64::MAX), "max_len");
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
    let heap = scalable(1).create_memfd().unwrap();
    for size in [64 << 10, 1, 600] {
        let object = alloc(&heap, size).unwrap();
        let error = alloc(&heap, 64 << 10).unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{error}");
        free(&heap, object).unwrap();
        assert_empty(&heap);
    }
}

#[test]
fn errors_say_what_to_do() {
    const FULL_ADVICE: &str = "; free objects, or make it with a larger max_len: \
                               under the scalable policy each thread takes 64 KiB for each \
                               size class it uses";
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
                .to_owned()
                + FULL_ADVICE,
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
    let slabs = scalable(1).create_memfd().unwrap();
    let handle = slabs.handle(alloc(&slabs, 1).unwrap()).unwrap();
    free_handle(&slabs, handle).unwrap();
    let stale = (
        slabs.resolve(handle).unwrap_err(),
        format!("handle {handle} is stale: its object was freed; drop the handle"),
    );
    let full = (
        alloc(&slabs, 65_537).unwrap_err(),
        "the heap is full: no free range of 65537 bytes \
         (65536 bytes free of 65536, limit 65536)"
            .to_owned()
            + FULL_ADVICE,
    );
    for (error, text) in texts.into_iter().chain([stale, full]) {
        assert_eq!(error.to_string(), text);
    }
}
