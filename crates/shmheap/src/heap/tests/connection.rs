//! A connection seen from inside: what it tells the engine, what it has checked, and what it gives
//! back when it ends.

use std::alloc::Layout;
use std::sync::atomic::Ordering;

use crate::first_fit::Surroundings;
use crate::first_fit::layout::Area;
use crate::heap::connection::{Host, unless_damaged};
use crate::os::testing::{NameGuard, exit_status, fork, in_own_process};
use crate::peers::{self, THREADS};
use crate::units::PeerSlot;
use crate::{Error, Heap, HeapOptions, Policy};

#[test]
fn who_connects_is_a_peer_at_once_and_none_after_the_end() {
    in_own_process(module_path!(), "who_connects_is_a_peer_at_once_and_none_after_the_end", || {
        for policy in [Policy::FirstFit, Policy::Scalable] {
            let guard = NameGuard::new();
            let name = guard.at().path().file_name().unwrap();
            let here = HeapOptions::new(1 << 20).policy(policy).create(name).unwrap();
            let other = Heap::connect(name).unwrap();
            assert_eq!(here.peers().len(), 2);
            let slot = other.me("test").unwrap();
            assert!(!Host(&here).is_dead(slot) && Host(&here).is_dead(PeerSlot(900)));
            let reader = Heap::connect_read_only(name).unwrap();
            assert_eq!((here.is_read_only(), reader.is_read_only()), (false, true));
            assert!(!Host(&reader).is_dead(slot) && Host(&reader).is_dead(PeerSlot(900)));
            // What it forgets is given back.
            std::mem::forget(other.alloc_unpublished(Layout::new::<u64>()).unwrap());
            assert_eq!(here.stats().live_objects, 1);
            let used = other.shape.threads.used(&other.words());
            assert!(used > 0);
            drop(other);
            assert_eq!((here.peers().len(), here.stats().live_objects), (1, 0));
            let owners = (0..used).map(|number| {
                let record = here.shape.threads.record(number.into()).unwrap();
                here.shape.threads.owner(&here.words(), record, &|_| Ok(())).unwrap()
            });
            assert!(owners.into_iter().all(|owner| owner.is_none()), "{policy:?}");
        }
    });
}

/// What storage this process has seen to, for records that others say are in use.
#[test]
fn what_is_about_to_be_touched_has_storage() {
    let heap = HeapOptions::new(1 << 20).create_memfd().unwrap();
    peers::Surroundings::reserve(&heap, 40).unwrap();
    assert_eq!(heap.verified_processes.load(Ordering::Relaxed), 40);
    heap.reserve_threads(THREADS).unwrap();
    assert_eq!(heap.verified_threads.load(Ordering::Relaxed), THREADS);
}

#[test]
fn growth_by_another_is_checked_before_it_is_used() {
    in_own_process(module_path!(), "growth_by_another_is_checked_before_it_is_used", || {
        let guard = NameGuard::new();
        let name = guard.at().path().file_name().unwrap();
        let options = HeapOptions::new(1 << 20).max_len(1 << 26).policy(Policy::FirstFit);
        let (here, other) = (options.create(name).unwrap(), Heap::connect(name).unwrap());
        let verified = || other.verified_len_bytes(Area::FIRST);
        let before = verified();
        here.grow(1 << 24).unwrap();
        let grown = here.len_bytes();
        assert!(grown > before);
        let granules = |bytes| bytes / here.shape.bytes(1);
        let ensure = |granules| Host(&other).ensure_storage(Area::FIRST, granules);
        ensure(granules(before)).unwrap();
        assert_eq!(verified(), before);
        ensure(granules(before) + 1).unwrap();
        assert!(verified() > before);
        // A cell may lie there.
        let last = other.space().at(grown - 8).cast();
        assert!(other.cell(last).is_ok());
        assert_eq!(verified(), grown);
        assert!(ensure(granules(1 << 27)).is_err());
        // The other areas have storage when they are needed.
        assert_eq!(other.verified_len_bytes(Area(3)), 0);
        Host(&other).ensure_head(Area(3)).unwrap();
        assert_eq!(other.verified_len_bytes(Area(3)), here.shape.bytes(1));
        Host(&other).ensure_records(Area(3), granules(grown)).unwrap();
        assert_eq!(other.verified_len_bytes(Area(3)), here.shape.bytes(1), "not grown for that");
    });
}

/// Of an adoption, damage ends only its part; whatever else went wrong ends all of it.
#[test]
fn only_damage_is_passed_over() {
    assert!(unless_damaged(Ok(())).is_ok());
    assert!(unless_damaged(Err(Error::Damaged { what: "a test" })).is_ok());
    assert!(unless_damaged(Err(Error::ReadOnly { action: "test" })).is_err());
}

/// What a thread has freed in slabs of others and had not looked at yet.
#[test]
fn the_last_frees_of_the_dead_are_hinted_at() {
    in_own_process(module_path!(), "the_last_frees_of_the_dead_are_hinted_at", || {
        let heap = HeapOptions::new(1 << 20).policy(Policy::Scalable).create_memfd().unwrap();
        let fill_a_slab = || {
            let object = || heap.alloc(Layout::from_size_align(32 << 10, 8).unwrap()).unwrap();
            [object(), object()].map(|object| heap.handle(object).unwrap())
        };
        // The slabs of a thread are nobody's once it has ended.
        let [freed, _kept] = std::thread::scope(|scope| scope.spawn(fill_a_slab).join().unwrap());
        let child = fork(|| {
            let object = heap.resolve(freed).unwrap();
            // SAFETY: nobody uses it.
            #[allow(unsafe_code)]
            unsafe { heap.free(object) }.unwrap();
            0
        });
        assert_eq!(exit_status(child), 0);
        assert_eq!((heap.sweep().unwrap(), heap.stats().live_objects), (1, 1));
        let report = heap.check();
        assert!(report.is_sound(), "{report:?}");
    });
}
