//! Goal: a handle names one object in its one life: whatever else comes to lie there, it is stale,
//! and what is no handle at all is refused.
//!
//! Method: objects of slabs and objects of whole units are freed and placed anew at the same
//! place, until just before their generations come again; slabs become slabs of another size; every
//! handle ever made is resolved again, by this connection, another, and an observer.

use shmheap::{Error, Handle, Heap, HeapOptions, Policy};

use crate::support::bytes::{alloc, free, free_handle};
use crate::support::random::{Random, seed};
use crate::support::{HeapName, POLICIES, assert_whole, scalable};

const LEN_BYTES: u64 = 4 << 20;
/// So many lives of an object of a slab can be told apart.
const LIVES: usize = 128;

#[track_caller]
fn assert_stale(heap: &Heap, handle: Handle) {
    let error = heap.resolve(handle).unwrap_err();
    assert!(matches!(error, Error::Stale { handle: of } if of == handle), "{error}");
}

/// A new object's handle.
fn make(heap: &Heap, size: u64) -> Handle {
    heap.handle(alloc(heap, size).unwrap()).unwrap()
}

#[test]
fn a_freed_object_has_a_stale_handle_also_when_another_lies_there() {
    let name = HeapName::new();
    let heap = scalable(LEN_BYTES).create(&name).unwrap();
    let peer = Heap::connect(&name).unwrap();
    let observer = Heap::connect_read_only(&name).unwrap();
    // The first is the only one of its slab, the second's slab is full but for it.
    let filler: Vec<_> = (0..1023).map(|_| make(&heap, 64)).collect();
    for size in [512 << 10, 64, 600_000, 3 << 20] {
        let mut old: Vec<Handle> = vec![];
        let mut places = vec![];
        for life in 0..LIVES {
            let object = alloc(&heap, size).unwrap();
            let handle = heap.handle(object).unwrap();
            assert_eq!(heap.resolve(handle).unwrap(), object);
            places.push(object);
            for connection in [&heap, &peer, &observer] {
                connection.resolve(handle).unwrap();
                let recent = old.iter().rev().take(3).chain(old.first());
                recent.for_each(|&stale| assert_stale(connection, stale));
            }
            // What another frees among many is not the next to serve again.
            if size == 64 || life % 2 == 0 {
                free(&heap, object).unwrap();
            } else {
                free_handle(&peer, handle).unwrap();
            }
            assert_stale(&heap, handle);
            old.push(handle);
        }
        old.iter().for_each(|&handle| assert_stale(&peer, handle));
        places.dedup();
        assert!(places.len() < LIVES / 2, "{size}: the same places served again and again");
        old.sort();
        old.dedup();
        assert_eq!(old.len(), LIVES, "no handle came twice");
    }
    for handle in filler {
        heap.resolve(handle).expect("what was not freed");
    }
}

#[test]
fn handles_of_a_slab_are_stale_in_the_next_one() {
    let heap = scalable(64 << 10).create_memfd().unwrap();
    let mut old: Vec<Handle> = vec![];
    // Each size starts objects at other places of the same unit, or at the same.
    for size in [64, 48, 128, 16, 64, 4096, 65_536, 32, 64, 16].into_iter().cycle().take(200) {
        let handles: Vec<_> = (0..10).map_while(|_| alloc(&heap, size).ok()).collect();
        let handles: Vec<_> =
            handles.into_iter().map(|object| heap.handle(object).unwrap()).collect();
        old.iter().for_each(|&stale| assert_stale(&heap, stale));
        for handle in handles {
            free_handle(&heap, handle).unwrap();
            old.push(handle);
        }
        old.drain(..old.len().saturating_sub(1000));
        heap.trim().unwrap();
    }
}

#[test]
fn handles_of_random_objects_are_live_or_stale_and_never_anothers() {
    let mut random = Random::new(seed());
    let heap = scalable(LEN_BYTES).create_memfd().unwrap();
    let (mut live, mut old): (Vec<Handle>, Vec<Handle>) = (vec![], vec![]);
    for _ in 0..20_000 {
        if live.len() < 50 || random.one_in(2) {
            // Places serve again after the whole of a slab: a handle stays old for long enough.
            live.extend(alloc(&heap, random.log_uniform(2000)).map(|at| heap.handle(at).unwrap()));
        } else {
            let handle = live.swap_remove(random.below(live.len() as u64) as usize);
            free_handle(&heap, handle).unwrap();
            old.push(handle);
        }
        if old.len() > 100 {
            old.swap_remove(random.below(100) as usize);
        }
        let any = |of: &[Handle], random: &mut Random| of[random.below(of.len() as u64) as usize];
        heap.resolve(any(&live, &mut random)).unwrap();
        if !old.is_empty() {
            assert_stale(&heap, any(&old, &mut random));
        }
    }
    assert_whole(&heap);
}

#[test]
fn first_fit_keeps_no_generations() {
    let heap = HeapOptions::new(4096).policy(Policy::FirstFit).create_memfd().unwrap();
    let handle = make(&heap, 64);
    free_handle(&heap, handle).unwrap();
    assert!(matches!(heap.resolve(handle), Err(Error::InvalidHandle { .. })));
    assert_eq!(make(&heap, 64), handle, "the later object has the same");
}

#[test]
fn numbers_that_are_no_handles_are_refused() {
    let mut random = Random::new(seed());
    for policy in POLICIES {
        let heap = HeapOptions::new(LEN_BYTES).policy(policy).create_memfd().unwrap();
        let base = heap.info().data_offset_bytes;
        let outside = [0, 1, base - 1, base - 16, base + LEN_BYTES, u64::MAX].into_iter();
        let nonsense = (0..10_000).map(|_| random.next()).filter(|raw| {
            let offset = raw & (u64::MAX >> 16);
            offset < base || offset >= base + LEN_BYTES
        });
        for raw in outside.chain(nonsense) {
            let error = heap.resolve(Handle::from_raw(raw)).unwrap_err();
            assert!(matches!(error, Error::InvalidHandle { .. }), "{raw:#x}: {error}");
        }
        assert!(matches!(heap.resolve(Handle::NONE), Err(Error::InvalidHandle { .. })));
        let handle = make(&heap, 100);
        let object = heap.resolve(handle).unwrap();
        for raw in (handle.to_raw() - 64..handle.to_raw() + 112).step_by(4) {
            let found = heap.resolve(Handle::from_raw(raw));
            assert!(found.is_err() || (raw == handle.to_raw() && found.unwrap() == object));
        }
        assert_whole(&heap);
    }
}

#[test]
fn handles_are_text_and_integers() {
    for policy in POLICIES {
        let heap = HeapOptions::new(LEN_BYTES).policy(policy).create_memfd().unwrap();
        let handle = make(&heap, 1);
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
}
