//! The registry against what it must not trust: other users of the same entries, forked children,
//! hostile bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

use super::{heaps, live};
use crate::os::testing::{exit_status, fork, in_own_process};
use crate::segment::format::{ROOTS_AT, SHARED_AT};
use crate::segment::fuse;
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Heap, HeapOptions, Policy, ShmArc, ShmBox};

fn refuse(_: &mut u64) -> crate::Result<()> {
    Err(Error::Closed { what: "the test" })
}

/// The words of the first chunk of a chain.
fn first_chunk(heap: &Heap, chain: WordIndex) -> crate::heap::Span {
    heap.span(heap.peek_at(chain).unwrap()).unwrap()
}

#[test]
fn who_gives_up_a_root_holds_nothing_of_the_next() {
    for heap in heaps() {
        for name in ["a", "b", "c", "d"] {
            heap.find_or_create::<u64>(name, |_| {}).unwrap();
            heap.remove_root(name).unwrap();
        }
        let before = live(&heap);
        // Often enough that each entry there is has been given up.
        for _ in 0..20 {
            let timeout = std::time::Duration::from_secs(1);
            heap.try_find_or_create("a", timeout, refuse).unwrap_err();
        }
        for name in ["a", "b", "c"] {
            heap.find_or_create::<u64>(name, |_| {}).unwrap();
        }
        for name in ["a", "b", "c"] {
            heap.remove_root(name).unwrap();
        }
        assert_eq!(live(&heap), before, "nobody holds them any more");
    }
}

#[test]
fn a_child_forked_while_a_root_is_made_leaves_it_to_its_parent() {
    in_own_process(
        module_path!(),
        "a_child_forked_while_a_root_is_made_leaves_it_to_its_parent",
        || {
            for heap in heaps() {
                for gives_up in [false, true] {
                    // The child comes out of the closure as its parent does; here it is told apart.
                    let parent = getpid();
                    let is_child = || getpid() != parent;
                    let root = heap.try_find_or_create::<u64>(
                        "a",
                        std::time::Duration::from_secs(100),
                        |value| {
                            *value = 5;
                            let child = fork_here();
                            if is_child() && gives_up {
                                return Err(Error::Closed { what: "the test" });
                            }
                            if let Some(child) = child {
                                assert_eq!(exit_status(child), 0);
                                assert_eq!(heap.roots().iter().filter(|r| r.is_made).count(), 0);
                            }
                            Ok(())
                        },
                    );
                    if is_child() {
                        let expected = match root.unwrap_err() {
                            Error::Inherited { .. } => !gives_up,
                            Error::Closed { .. } => gives_up,
                            _ => false,
                        };
                        exit_child(i32::from(!expected));
                    }
                    let root = root.unwrap();
                    assert_eq!((*root, *heap.find_root::<u64>("a").unwrap()), (5, 5));
                    heap.remove_root("a").unwrap();
                    heap.sweep_shared().unwrap();
                    assert_eq!(*root, 5);
                    let before = live(&heap);
                    drop(root);
                    assert_eq!(live(&heap), before - 1);
                }
            }
        },
    );
}

#[test]
fn the_name_of_a_root_whose_maker_died_can_be_given() {
    in_own_process(module_path!(), "the_name_of_a_root_whose_maker_died_can_be_given", || {
        for heap in heaps() {
            let object = ShmBox::new(&heap, 3_u64).unwrap().keep();
            let child = fork(|| {
                let _ = heap.find_or_create::<u64>("a", |_| {
                    kill_process(getpid(), Signal::KILL).unwrap();
                });
                0
            });
            assert_eq!(exit_status(child), -1);
            assert!(!heap.roots()[0].is_made);
            heap.set_root("a", object.cast()).unwrap();
            assert_eq!(heap.root_handle("a").unwrap(), object.cast());
        }
    });
}

/// A living process makes a root for as long as it likes: nobody takes it from there.
#[test]
fn a_root_in_the_making_is_its_makers() {
    in_own_process(module_path!(), "a_root_in_the_making_is_its_makers", || {
        for heap in heaps() {
            let object = ShmBox::new(&heap, 3_u64).unwrap().keep();
            let flags = ShmBox::<[AtomicU64; 2]>::new_zeroed(&heap).unwrap();
            let wait_for = |flag: &AtomicU64| {
                while flag.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
            };
            let guard = Guard(fork(|| {
                let root = heap.find_or_create::<u64>("a", |value| {
                    flags[0].store(1, Ordering::SeqCst);
                    wait_for(&flags[1]);
                    *value = 5;
                });
                i32::from(*root.unwrap() != 5)
            }));
            wait_for(&flags[0]);
            heap.sweep_shared().unwrap();
            let values: Vec<_> = (0..100).map(|n: u64| ShmArc::new(&heap, n).unwrap()).collect();
            drop(values);
            let refused = heap.set_root("a", object.cast());
            assert!(matches!(refused, Err(Error::RootExists { .. })));
            assert!(matches!(heap.remove_root("a"), Err(Error::Occupied { .. })));
            assert!(matches!(heap.root_handle("a"), Err(Error::NoRoot { .. })));
            let timeout = std::time::Duration::from_millis(1);
            let refused = heap.try_find_or_create("a", timeout, refuse);
            assert!(matches!(refused, Err(Error::TimedOut { .. })));
            flags[1].store(1, Ordering::SeqCst);
            assert_eq!(exit_status(guard.0), 0);
            std::mem::forget(guard);
            assert_eq!(*heap.find_root::<u64>("a").unwrap(), 5);
        }
    });
}

/// Also where a chunk of the registry is on its way into its cell, and further holders are.
#[test]
fn who_is_stopped_at_any_store_keeps_nobody_waiting() {
    in_own_process(module_path!(), "who_is_stopped_at_any_store_keeps_nobody_waiting", || {
        let mut stops = 0;
        for policy in [Policy::FirstFit, Policy::Scalable] {
            while is_stopped_at(policy, stops) {
                stops += 1;
            }
            assert!(stops > 100, "{stops}");
            stops = 0;
        }
    });
}

/// Stops a process that uses a new registry before that store; whether there is one.
fn is_stopped_at(policy: Policy, store: u64) -> bool {
    let heap = HeapOptions::new(8 << 20).policy(policy).create_memfd().unwrap();
    let guard = Guard(fork(|| {
        fuse::light_to_stop(store);
        use_registry(&heap, "child");
        0
    }));
    let child = guard.0;
    let (_, status) = waitpid(Some(child), WaitOptions::UNTRACED).unwrap().unwrap();
    if !status.stopped() {
        assert_eq!(status.exit_status(), Some(0));
        std::mem::forget(guard);
        return false;
    }
    use_registry(&heap, "parent");
    // Sent on or killed, it does no harm.
    let is_sent_on = store.is_multiple_of(2);
    kill_process(child, if is_sent_on { Signal::CONT } else { Signal::KILL }).unwrap();
    assert_eq!(exit_status(child), if is_sent_on { 0 } else { -1 });
    std::mem::forget(guard);
    heap.sweep().unwrap();
    heap.sweep_shared().unwrap();
    use_registry(&heap, "parent");
    assert!(heap.roots().iter().all(|root| root.name == "child" && root.is_made));
    let report = heap.check();
    assert!(report.is_sound(), "stopped at store {store}: {:?}", report.findings);
    let small = |block: &crate::Block| block.live && block.bytes < 512;
    assert_eq!(heap.blocks().filter(small).count(), heap.roots().len(), "store {store}");
    true
}

/// Needs a chunk of each chain, another, and further holders.
fn use_registry(heap: &Heap, name: &str) {
    let root = heap.find_or_create::<u64>(name, |value| *value = 5).unwrap();
    let values: Vec<_> = (0..4).map(|n: u64| ShmArc::new(heap, n).unwrap()).collect();
    let weak = ShmArc::downgrade(&values[3]);
    let holders: Vec<_> = (0..8).map(|_| weak.upgrade(heap).unwrap().unwrap()).collect();
    assert!(holders.iter().all(|value| **value == 3) && *root == 5);
    heap.remove_root(name).unwrap();
}

/// One entry serves roots of different names in turn; who asks for one of them gets no other.
#[test]
fn a_handle_is_that_of_the_name() {
    for heap in heaps() {
        let [first, second] = [1_u64, 2].map(|n| ShmBox::new(&heap, n).unwrap().keep().cast());
        let found = AtomicU64::new(0);
        let enough = if cfg!(miri) { 20 } else { 5000 };
        std::thread::scope(|scope| {
            let looker = scope.spawn(|| {
                while found.load(Ordering::Relaxed) < enough {
                    if let Ok(handle) = heap.root_handle("first") {
                        assert_eq!(handle, first);
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                    for root in heap.roots() {
                        let expected = if root.name == "first" { first } else { second };
                        assert_eq!(root.handle, expected, "{}", root.name);
                    }
                }
            });
            while found.load(Ordering::Relaxed) < enough && !looker.is_finished() {
                for (name, handle) in [("first", first), ("second", second)] {
                    heap.set_root(name, handle).unwrap();
                    heap.remove_root(name).unwrap();
                }
            }
            looker.join().unwrap();
        });
    }
}

/// The same for who holds what he finds, and for values that are freed with their names.
#[test]
fn a_root_that_is_found_is_that_of_the_name() {
    for heap in heaps() {
        let found = AtomicU64::new(0);
        let enough = if cfg!(miri) { 20 } else { 5000 };
        std::thread::scope(|scope| {
            let looker = scope.spawn(|| {
                while found.load(Ordering::Relaxed) < enough {
                    if let Ok(root) = heap.find_root::<u64>("first") {
                        assert_eq!(*root, 1);
                        found.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            while found.load(Ordering::Relaxed) < enough && !looker.is_finished() {
                for (name, value) in [("first", 1), ("second", 2)] {
                    drop(heap.find_or_create::<u64>(name, |root| *root = value).unwrap());
                    heap.remove_root(name).unwrap();
                }
            }
            looker.join().unwrap();
        });
    }
}

/// What stands where chunks and further holders are looked for: no object, a small one, a circle.
#[test]
fn hostile_chains_end() {
    for heap in heaps() {
        let small = ShmBox::new(&heap, 1_u64).unwrap();
        let held = ShmArc::new(&heap, 1_u64).unwrap();
        let weak = ShmArc::downgrade(&held);
        // Until there are further holders, and no free entry.
        let holders: Vec<_> = (0..100).map(|_| weak.upgrade(&heap).unwrap().unwrap()).collect();
        let values: Vec<_> = (0..4).map(|n| ShmArc::new(&heap, n).unwrap()).collect();
        let (words, chunk) = (heap.gate(), first_chunk(&heap, SHARED_AT));
        let own = heap.peek_at(SHARED_AT).unwrap().to_raw();
        let nonsense = [8, 1, u64::MAX, ShmBox::handle(&small).to_raw()];
        // Word 7 of the first entry, and the first word of what is there.
        let more = chunk.word(32 + 7);
        let further = heap.span(heap.peek_at(more).unwrap()).unwrap();
        let further_handle = words.load(more);
        for (at, values) in [
            (chunk.word(0), [&nonsense[..], &[own]].concat()),
            (SHARED_AT, nonsense.to_vec()),
            (more, nonsense.to_vec()),
            (further.word(0), [&nonsense[..], &[further_handle]].concat()),
        ] {
            let before = words.load(at);
            for value in values {
                words.store(at, value);
                let made: Vec<_> = (0..100).map(|n: u64| ShmArc::new(&heap, n)).collect();
                let held: Vec<_> = (0..100).map(|_| weak.upgrade(&heap)).collect();
                let failed = made.iter().any(Result::is_err) || held.iter().any(Result::is_err);
                assert!(failed || at == SHARED_AT, "{value:#x} at {}", at.0);
                heap.sweep_shared().unwrap();
                drop((made, held));
                words.store(at, before);
            }
        }
        drop((holders, values, held, small));
        words.store(ROOTS_AT, 8);
        assert!(heap.roots().is_empty());
        let refused = heap.find_or_create::<u64>("a", |_| {});
        assert!(matches!(refused, Err(Error::Damaged { .. })));
        assert!(matches!(heap.remove_root("a"), Err(Error::NoRoot { .. })));
    }
}

/// Kills a child that waits for a test which has failed.
struct Guard(Pid);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
        let _ = waitpid(Some(self.0), WaitOptions::empty());
    }
}

/// Forks in the middle of a closure; `None` in the child.
fn fork_here() -> Option<Pid> {
    // SAFETY: the only other thread waits for this one and holds no lock that the child could need.
    Pid::from_raw(unsafe { libc::fork() })
}

fn exit_child(status: i32) -> ! {
    // SAFETY: ends the child without running what the parent registered for its own end.
    unsafe { libc::_exit(status) }
}
