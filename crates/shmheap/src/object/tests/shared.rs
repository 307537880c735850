//! Shared values and roots.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{heaps, live};
use crate::object::killed::at_every_store;
use crate::os::testing::{exit_status, fork, in_own_process};
use crate::{Error, Handle, Heap, ShmArc, ShmBox, ShmWeak};

/// Objects that the registry itself has: the first chunk of a chain, and what was added.
fn of_registry(heap: &Heap) -> u64 {
    drop(ShmArc::new(heap, 0_u64).unwrap());
    live(heap)
}

#[test]
fn a_value_lives_as_long_as_it_is_held() {
    for heap in heaps() {
        let own = of_registry(&heap);
        let first = ShmArc::new(&heap, AtomicU64::new(5)).unwrap();
        let weak = ShmArc::downgrade(&first);
        assert_eq!(live(&heap), own + 1);
        let second = weak.upgrade(&heap).unwrap().unwrap();
        let clone = second.clone();
        drop((first, second));
        assert_eq!(clone.fetch_add(1, Ordering::Relaxed), 5);
        assert_eq!(weak.upgrade(&heap).unwrap().unwrap().load(Ordering::Relaxed), 6);
        drop(clone);
        assert!(weak.upgrade(&heap).unwrap().is_none());
        assert_eq!(live(&heap), own);
        // The entry's next use is another.
        let next = ShmArc::new(&heap, AtomicU64::new(9)).unwrap();
        assert!(weak.upgrade(&heap).unwrap().is_none());
        drop(next);
    }
}

#[test]
fn there_is_room_for_any_number_of_values_and_holders() {
    for heap in heaps() {
        let one = ShmArc::new(&heap, 1_u64).unwrap();
        let weak = ShmArc::downgrade(&one);
        let all: Vec<_> = (0..500).map(|_| weak.upgrade(&heap).unwrap().unwrap()).collect();
        let others: Vec<_> = (0..500_u64).map(|n| ShmArc::new(&heap, n).unwrap()).collect();
        assert!(others.iter().zip(0..).all(|(other, n)| **other == n));
        drop(one);
        assert!(all.iter().all(|one| **one == 1));
        let with_all = live(&heap);
        drop((all, others));
        assert_eq!(live(&heap), with_all - 501);
        let before = live(&heap);
        let others: Vec<_> = (0..500_u64).map(|n| ShmArc::new(&heap, n).unwrap()).collect();
        assert_eq!(live(&heap), before + 500, "entries are used again");
        drop(others);
    }
}

#[test]
fn weak_ones_of_nonsense_find_nothing() {
    for heap in heaps() {
        let one = ShmArc::new(&heap, [1_u64; 2]).unwrap();
        let [entry, incarnation] = {
            let weak = ShmBox::new(&heap, ShmArc::downgrade(&one)).unwrap();
            *heap_words(&heap, ShmBox::handle(&weak))
        };
        for (entry, incarnation) in [
            (entry, incarnation + 1),
            (entry + 1, incarnation),
            (entry + 32, incarnation),
            (u64::MAX, 0),
            (1, 0),
            (0, incarnation),
        ] {
            let weak = ShmBox::new(&heap, [entry, incarnation]).unwrap();
            let weak: Handle<ShmWeak<[u64; 2]>> = ShmBox::handle(&weak).cast();
            // SAFETY: the box lives as long, and nobody changes it.
            let found = unsafe { heap.get(weak) }.unwrap().upgrade(&heap);
            assert!(found.unwrap().is_none(), "{entry:#x} {incarnation}");
        }
    }
}

fn heap_words<T>(heap: &Heap, handle: Handle<T>) -> &[u64; 2] {
    // SAFETY: the caller's box lives as long.
    unsafe { heap.get(handle.cast()) }.unwrap()
}

#[test]
fn a_root_is_made_once_found_and_removed() {
    for heap in heaps() {
        assert!(matches!(heap.find_root::<u64>("a"), Err(Error::NoRoot { .. })));
        let root = heap.find_or_create::<u64>("a", |value| *value = 7).unwrap();
        let again = heap.find_or_create::<u64>("a", |_| panic!("it is there")).unwrap();
        assert_eq!((*root, *again), (7, 7));
        assert!(matches!(heap.find_or_create::<i64>("a", |_| {}), Err(Error::WrongType { .. })));
        for name in ["b", "ab", "a ", &"n".repeat(120)] {
            heap.find_or_create::<u64>(name, |value| *value = name.len() as u64).unwrap();
            assert_eq!(*heap.find_root::<u64>(name).unwrap(), name.len() as u64);
        }
        for name in ["", "a\0", &"n".repeat(121)] {
            assert!(matches!(
                heap.find_root::<u64>(name),
                Err(Error::NoRoot { .. } | Error::InvalidName { .. })
            ));
            let refused = heap.find_or_create::<u64>(name, |_| {});
            assert!(matches!(refused, Err(Error::InvalidName { .. })));
        }
        let roots = heap.roots();
        assert_eq!(roots.len(), 5);
        assert!(roots.iter().all(|root| root.is_made && heap.resolve(root.handle).is_ok()));
        let before = live(&heap);
        heap.remove_root("a").unwrap();
        assert!(matches!(heap.remove_root("a"), Err(Error::NoRoot { .. })));
        assert_eq!((*again, live(&heap)), (7, before), "it is held");
        drop((root, again));
        assert_eq!(live(&heap), before - 1);
        assert_eq!(*heap.find_or_create::<u64>("a", |value| *value = 8).unwrap(), 8);
    }
}

#[test]
fn a_root_that_cannot_be_made_is_given_up() {
    for heap in heaps() {
        heap.find_or_create::<u64>("other", |_| {}).unwrap();
        let before = live(&heap);
        let timeout = Duration::from_secs(1);
        let refuse = |_: &mut u64| Err(Error::Closed { what: "the test" });
        let refused = heap.try_find_or_create("a", timeout, refuse);
        assert!(matches!(refused, Err(Error::Closed { .. })));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            heap.find_or_create::<u64>("a", |_| panic!("on purpose")).map(drop)
        }));
        assert!(panicked.is_err());
        assert_eq!((live(&heap), heap.roots().len()), (before, 1));
        assert_eq!(*heap.find_or_create::<u64>("a", |value| *value = 1).unwrap(), 1);
    }
}

#[test]
fn ordinary_objects_have_names_and_stay() {
    for heap in heaps() {
        let object = ShmBox::new(&heap, 3_u64).unwrap().keep();
        heap.set_root("a", object.cast()).unwrap();
        assert!(matches!(heap.set_root("a", object.cast()), Err(Error::RootExists { .. })));
        assert_eq!(heap.root_handle("a").unwrap(), object.cast());
        assert!(matches!(heap.find_root::<u64>("a"), Err(Error::WrongType { .. })));
        assert_eq!(heap.remove_root("a").unwrap(), object.cast());
        // SAFETY: nobody frees it meanwhile.
        assert_eq!(unsafe { heap.get(object) }.unwrap(), &3);
        // SAFETY: nobody uses it any more.
        unsafe { heap.free_typed(object) }.unwrap();
        assert!(heap.set_root("a", object.cast()).is_err(), "it is not live");
    }
}

#[test]
fn of_many_that_want_a_name_one_makes_it() {
    for heap in heaps() {
        for round in 0..200 {
            let made = AtomicU64::new(0);
            let name = format!("root-{round}");
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let root = heap.find_or_create::<u64>(&name, |value| {
                            made.fetch_add(1, Ordering::Relaxed);
                            *value = 11;
                        });
                        assert_eq!(*root.unwrap(), 11);
                    });
                }
            });
            assert_eq!(made.load(Ordering::Relaxed), 1);
            let named = heap.roots().iter().filter(|root| root.name == name).count();
            assert_eq!(named, 1);
        }
    }
}

#[test]
fn values_come_and_go_under_many_hands() {
    for heap in heaps() {
        let own = of_registry(&heap);
        let rounds = if cfg!(miri) { 20 } else { 3000 };
        let current = ShmBox::<[AtomicU64; 2]>::new_zeroed(&heap).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 0..rounds {
                        let value = ShmArc::new(&heap, [round; 4]).unwrap();
                        let weak = ShmArc::downgrade(&value);
                        std::thread::scope(|inner| {
                            let other = inner.spawn(|| weak.upgrade(&heap).unwrap());
                            drop(value);
                            if let Some(value) = other.join().unwrap() {
                                assert_eq!(*value, [round; 4]);
                            }
                        });
                        assert!(weak.upgrade(&heap).unwrap().is_none());
                        current[0].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        drop(current);
        // Chunks of the chain may have been added.
        assert!(live(&heap) <= own + 3, "{}", live(&heap));
    }
}

#[test]
fn a_dead_process_holds_nothing() {
    in_own_process(module_path!(), "a_dead_process_holds_nothing", || {
        for heap in heaps() {
            let own = of_registry(&heap);
            let mailbox = ShmBox::<[u64; 2]>::new_zeroed(&heap).unwrap();
            let weak: Handle<ShmWeak<u64>> = ShmBox::handle(&mailbox).cast();
            let child = fork(|| {
                let value = ShmArc::new(&heap, 4_u64).unwrap();
                let handle: Handle<[AtomicU64; 2]> = ShmBox::handle(&mailbox).cast();
                // SAFETY: the parent's box lives as long, and is changed as atomics.
                let [first, second] = unsafe { heap.get(handle) }.unwrap();
                let copy = ShmBox::new(&heap, ShmArc::downgrade(&value)).unwrap();
                let [entry, incarnation] = *heap_words(&heap, ShmBox::handle(&copy));
                first.store(entry, Ordering::SeqCst);
                second.store(incarnation, Ordering::SeqCst);
                drop(copy);
                std::mem::forget(value);
                0
            });
            assert_eq!(exit_status(child), 0);
            assert_eq!(live(&heap), own + 2);
            heap.sweep_shared().unwrap();
            assert_eq!(live(&heap), own + 1);
            // SAFETY: the box lives as long, and nobody changes it any more.
            assert!(unsafe { heap.get(weak) }.unwrap().upgrade(&heap).unwrap().is_none());
        }
    });
}

#[test]
fn a_child_leaves_what_its_parent_holds() {
    in_own_process(module_path!(), "a_child_leaves_what_its_parent_holds", || {
        for heap in heaps() {
            let mut value = Some(ShmArc::new(&heap, 4_u64).unwrap());
            let weak = ShmArc::downgrade(value.as_ref().unwrap());
            let child = fork(|| {
                // The last that this process has of it.
                drop(value.take());
                let own = weak.upgrade(&heap).unwrap().unwrap();
                i32::from(*own != 4)
            });
            assert_eq!(exit_status(child), 0);
            heap.sweep_shared().unwrap();
            assert_eq!(**value.as_ref().unwrap(), 4);
            assert!(weak.upgrade(&heap).unwrap().is_some());
        }
    });
}

/// What is left when a process is killed at any store: sharing a value, finding it again, letting
/// go of it.
#[test]
fn a_shared_value_is_freed_whoever_is_killed() {
    in_own_process(module_path!(), "a_shared_value_is_freed_whoever_is_killed", || {
        let prepare = |heap: &Heap| {
            let own = of_registry(heap);
            let kept = ShmArc::new(heap, 8_u64).unwrap();
            let weak = ShmArc::downgrade(&kept);
            // It must outlive this closure, and the heap it is in.
            std::mem::forget(kept);
            (own, weak)
        };
        let operate = |heap: &Heap, (_, weak): &(u64, ShmWeak<u64>)| {
            let found = weak.upgrade(heap).unwrap().unwrap();
            let value = ShmArc::new(heap, *found).unwrap();
            let again = ShmArc::downgrade(&value).upgrade(heap).unwrap().unwrap();
            drop((value, again, found));
        };
        let judge = |heap: &Heap, (own, weak): &(u64, ShmWeak<u64>)| {
            heap.sweep_shared().unwrap();
            assert_eq!(**weak.upgrade(heap).unwrap().as_ref().unwrap(), 8);
            assert_eq!(live(heap), own + 1);
            drop(ShmArc::new(heap, 1_u64).unwrap());
            assert_eq!(live(heap), own + 1);
        };
        let stores = at_every_store(prepare, operate, judge);
        assert!(stores > 50, "{stores}");
    });
}

#[test]
fn a_root_is_there_or_not_whoever_is_killed() {
    in_own_process(module_path!(), "a_root_is_there_or_not_whoever_is_killed", || {
        let prepare = |heap: &Heap| {
            heap.find_or_create::<u64>("first", |value| *value = 1).unwrap();
            let object = ShmBox::new(heap, 6_u64).unwrap().keep();
            (live(heap), object)
        };
        let operate = |heap: &Heap, (_, object): &(u64, Handle<u64>)| {
            let second = heap.find_or_create::<u64>("second", |value| *value = 2).unwrap();
            heap.set_root("object", object.cast()).unwrap();
            heap.remove_root("second").unwrap();
            drop(second);
            heap.remove_root("first").unwrap();
            heap.remove_root("object").unwrap();
        };
        let judge = |heap: &Heap, (before, object): &(u64, Handle<u64>)| {
            let second = match heap.find_root::<u64>("second") {
                Err(Error::OwnerDied { .. }) => heap.find_root::<u64>("second"),
                found => found,
            };
            let second = match second {
                Ok(second) => u64::from(*second == 2),
                Err(Error::NoRoot { .. }) => 0,
                Err(error) => panic!("{error}"),
            };
            let first = heap.find_root::<u64>("first").map(|first| *first);
            heap.sweep_shared().unwrap();
            assert_eq!(live(heap), before + second - u64::from(first.is_err()));
            if let Ok(handle) = heap.root_handle("object") {
                assert_eq!(handle, object.cast());
            }
            // Whatever is left, all of it can be made again.
            let again = heap.find_or_create::<u64>("second", |value| *value = 2).unwrap();
            assert_eq!(*again, 2);
        };
        let stores = at_every_store(prepare, operate, judge);
        assert!(stores > 100, "{stores}");
    });
}
