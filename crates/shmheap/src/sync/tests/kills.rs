//! Every operation, killed at each of its stores by the kernel; what the next process finds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{at, made};
use crate::object::killed::at_every_store;
use crate::os::testing::{exit_status, fork, in_own_process, leave_pid_namespace};
use crate::segment::words::Words;
use crate::sync::owned::ORPHANED;
use crate::{
    Error, Handle, Heap, HeapOptions, ShmCondvar, ShmMutex, ShmOnce, ShmPermits, ShmRwLock,
    ShmSemaphore,
};

/// Much longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

type Pair = [u64; 2];

/// Changes a value in the heap by a store that the process may be killed before.
fn put(heap: &Heap, place: &u64, value: u64) {
    heap.gate().store(heap.word_at(NonNull::from(place).cast()).unwrap(), value);
}

fn put_both(heap: &Heap, pair: &Pair, value: u64) {
    put(heap, &pair[0], value);
    put(heap, &pair[1], value);
}

/// What was seen, and how often.
#[derive(Default)]
struct Seen(RefCell<BTreeMap<String, u32>>);

impl Seen {
    fn add(&self, what: impl Into<String>) {
        *self.0.borrow_mut().entry(what.into()).or_default() += 1;
    }

    /// So often under each of the two policies.
    #[track_caller]
    fn is(&self, all: &[(&str, u32)]) {
        let seen = self.0.borrow();
        let seen: Vec<_> = seen.iter().map(|(what, &count)| (what.as_str(), count)).collect();
        let all: Vec<_> = all.iter().map(|&(what, count)| (what, 2 * count)).collect();
        assert_eq!(seen, all);
    }
}

/// Locks a mutex that a killed process may have left, and says how that was.
fn inspect(heap: &Heap, mutex: &ShmMutex<Pair>) -> String {
    match mutex.lock_timeout(heap, LONG) {
        Ok(pair) => {
            assert_eq!(pair[0], pair[1], "nobody sees half a change unawares");
            return format!("sound {pair:?}");
        }
        Err(Error::OwnerDied { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    let refused = mutex.try_lock(heap);
    assert!(matches!(refused, Err(Error::OwnerDied { .. })), "all are told");
    let mut found = [9; 2];
    let repaired = mutex.lock_or_repair_timeout(heap, LONG, |pair| {
        found = *pair;
        *pair = [7; 2];
    });
    drop(repaired.unwrap());
    assert_eq!(*mutex.lock_timeout(heap, LONG).unwrap(), [7; 2]);
    format!("in doubt {found:?}")
}

#[test]
fn a_mutex_whose_owner_is_killed_is_in_doubt_and_else_sound() {
    in_own_process(
        module_path!(),
        "a_mutex_whose_owner_is_killed_is_in_doubt_and_else_sound",
        || {
            let seen = Seen::default();
            at_every_store(
                made::<ShmMutex<Pair>>,
                |heap, &mutex| {
                    let pair = at::<ShmMutex<Pair>>(heap, mutex).lock(heap).unwrap();
                    put_both(heap, &pair, 1);
                },
                |heap, &mutex| seen.add(inspect(heap, at(heap, mutex))),
            );
            seen.is(&[
                ("in doubt [0, 0]", 1),
                ("in doubt [1, 0]", 1),
                ("in doubt [1, 1]", 1),
                ("sound [0, 0]", 1),
                ("sound [1, 1]", 1),
            ]);
        },
    );
}

/// The first process of a PID namespace of its own has the same number as that of any other.
#[test]
fn an_owner_in_another_pid_namespace_is_as_any_other() {
    let test = "an_owner_in_another_pid_namespace_is_as_any_other";
    in_own_process(module_path!(), test, || {
        let heap = HeapOptions::new(4 << 20).create_memfd().unwrap();
        let mutex = at::<ShmMutex<Pair>>(&heap, made::<ShmMutex<Pair>>(&heap));
        if !leave_pid_namespace() {
            return println!("skipped: unshare(CLONE_NEWPID) is not permitted");
        }
        let owner = fork(|| {
            let _guard = mutex.lock(&heap).unwrap();
            loop {
                std::thread::park();
            }
        });
        while mutex.try_lock(&heap).unwrap().is_some() {
            std::thread::yield_now();
        }
        let waiting = mutex.lock_timeout(&heap, Duration::from_millis(20));
        assert!(matches!(waiting, Err(Error::TimedOut { .. })), "it lives");
        kill_process(owner, Signal::KILL).unwrap();
        assert_eq!(inspect(&heap, mutex), "in doubt [0, 0]");
        assert_eq!(exit_status(owner), -1);
    });
}

#[test]
fn a_repair_that_is_killed_is_done_again() {
    in_own_process(module_path!(), "a_repair_that_is_killed_is_done_again", || {
        let seen = Seen::default();
        at_every_store(
            |heap| {
                let mutex = made::<ShmMutex<Pair>>(heap);
                let word = heap.word_at(heap.resolve(mutex).unwrap()).unwrap();
                heap.gate().store(word, ORPHANED);
                mutex
            },
            |heap, &mutex| {
                let mutex = at::<ShmMutex<Pair>>(heap, mutex);
                drop(mutex.lock_or_repair(heap, |pair| put_both(heap, pair, 1)).unwrap());
            },
            |heap, &mutex| seen.add(inspect(heap, at(heap, mutex))),
        );
        // Before it has the mutex, in the repair, and when it is sound and not given back yet.
        let [none, half, all] = ["in doubt [0, 0]", "in doubt [1, 0]", "in doubt [1, 1]"];
        seen.is(&[(none, 3), (half, 1), (all, 2), ("sound [1, 1]", 1)]);
    });
}

#[test]
fn a_writer_is_missed_only_where_it_has_written_and_a_reader_never() {
    in_own_process(
        module_path!(),
        "a_writer_is_missed_only_where_it_has_written_and_a_reader_never",
        || {
            let seen = Seen::default();
            at_every_store(
                made::<ShmRwLock<Pair>>,
                |heap, &lock| {
                    let lock = at::<ShmRwLock<Pair>>(heap, lock);
                    let pair = lock.write(heap).unwrap();
                    put_both(heap, &pair, 1);
                    drop(pair);
                    let (first, second) = (lock.read(heap).unwrap(), lock.read(heap).unwrap());
                    drop(first);
                    drop(second);
                },
                |heap, &lock| {
                    let lock = at::<ShmRwLock<Pair>>(heap, lock);
                    match lock.write_timeout(heap, LONG) {
                        Ok(pair) => {
                            assert_eq!(pair[0], pair[1], "nobody sees half a change unawares");
                            seen.add(format!("sound {:?}", *pair));
                        }
                        Err(Error::OwnerDied { .. }) => {
                            assert!(matches!(lock.try_read(heap), Err(Error::OwnerDied { .. })));
                            let repair = |pair: &mut Pair| {
                                seen.add(format!("in doubt {pair:?}"));
                                *pair = [7; 2];
                            };
                            drop(lock.write_or_repair_timeout(heap, LONG, repair).unwrap());
                        }
                        Err(error) => panic!("{error}"),
                    }
                    let pair = lock.read_timeout(heap, LONG).unwrap();
                    assert_eq!(pair[0], pair[1]);
                },
            );
            seen.is(&[
                ("in doubt [0, 0]", 1),
                ("in doubt [1, 0]", 1),
                ("in doubt [1, 1]", 1),
                ("sound [0, 0]", 2),
                ("sound [1, 1]", 6),
            ]);
        },
    );
}

#[test]
fn what_is_done_once_is_done_by_the_next_if_its_doer_is_killed() {
    in_own_process(
        module_path!(),
        "what_is_done_once_is_done_by_the_next_if_its_doer_is_killed",
        || {
            let seen = Seen::default();
            at_every_store(
                |heap| (made::<ShmOnce>(heap), made::<Pair>(heap)),
                |heap, &(once, pair)| {
                    let act = || put_both(heap, at(heap, pair), 1);
                    at::<ShmOnce>(heap, once).call_once(heap, act).unwrap();
                },
                |heap, &(once, pair)| {
                    let once = at::<ShmOnce>(heap, once);
                    let was_done = once.is_done(heap).unwrap();
                    let act = || put_both(heap, at(heap, pair), 2);
                    once.call_once_timeout(heap, LONG, act).unwrap();
                    assert!(once.is_done(heap).unwrap());
                    seen.add(format!("{was_done} {:?}", at::<Pair>(heap, pair)));
                },
            );
            seen.is(&[("false [2, 2]", 4), ("true [1, 1]", 1)]);
        },
    );
}

#[test]
fn permits_of_the_dead_come_back_and_counts_stay_what_they_were() {
    in_own_process(
        module_path!(),
        "permits_of_the_dead_come_back_and_counts_stay_what_they_were",
        || {
            let seen = Seen::default();
            at_every_store(
                |heap| {
                    let count = made::<ShmSemaphore>(heap);
                    at::<ShmSemaphore>(heap, count).release(heap, 3).unwrap();
                    (count, made::<ShmPermits<2>>(heap))
                },
                |heap, &(count, permits)| {
                    let permits = at::<ShmPermits<2>>(heap, permits);
                    let (one, two) =
                        (permits.acquire(heap).unwrap(), permits.acquire(heap).unwrap());
                    assert_ne!(one.number(), two.number());
                    let count = at::<ShmSemaphore>(heap, count);
                    count.acquire(heap).unwrap();
                    count.acquire(heap).unwrap();
                    count.release(heap, 1).unwrap();
                },
                |heap, &(count, permits)| {
                    let permits = at::<ShmPermits<2>>(heap, permits);
                    let both = [(); 2].map(|()| permits.acquire_timeout(heap, LONG).unwrap());
                    assert!(permits.try_acquire(heap).unwrap().is_none());
                    drop(both);
                    let count = at::<ShmSemaphore>(heap, count);
                    let mut taken = 0;
                    while count.try_acquire(heap).unwrap() {
                        taken += 1;
                    }
                    assert_eq!(count.permits(heap).unwrap(), 0);
                    seen.add(format!("{taken}"));
                },
            );
            seen.is(&[("1", 1), ("2", 4), ("3", 3)]);
        },
    );
}

/// A pair, and the condition that its first number is not 0 any more.
fn meeting(heap: &Heap) -> (Handle, Handle) {
    (made::<ShmMutex<Pair>>(heap), made::<ShmCondvar>(heap))
}

fn of(heap: &Heap, (pair, changed): (Handle, Handle)) -> (&ShmMutex<Pair>, &ShmCondvar) {
    (at(heap, pair), at(heap, changed))
}

/// A process that waits, repairs what others leave, and ends well once it has seen a change.
fn waiter(heap: &Heap, meeting: (Handle, Handle)) -> Pid {
    fork(|| {
        let (mutex, changed) = of(heap, meeting);
        loop {
            let pair = mutex.lock_or_repair_timeout(heap, LONG, |pair| pair[1] = pair[0]).unwrap();
            match changed.wait_timeout_while(pair, LONG, |pair| pair[0] == 0) {
                Ok(_) => return 0,
                Err(Error::OwnerDied { .. }) => {}
                Err(_) => return 1,
            }
        }
    })
}

#[test]
fn whoever_waits_gets_on_wherever_the_one_who_notifies_is_killed() {
    in_own_process(
        module_path!(),
        "whoever_waits_gets_on_wherever_the_one_who_notifies_is_killed",
        || {
            at_every_store(
                |heap| {
                    let meeting = meeting(heap);
                    (meeting, [(); 2].map(|()| waiter(heap, meeting)))
                },
                |heap, &(meeting, _)| {
                    let (mutex, changed) = of(heap, meeting);
                    let pair = mutex.lock(heap).unwrap();
                    put_both(heap, &pair, 1);
                    drop(pair);
                    changed.notify_one(heap).unwrap();
                },
                |heap, &(meeting, waiters)| {
                    let (mutex, _) = of(heap, meeting);
                    // Nobody is told: they find out.
                    let mut pair =
                        mutex.lock_or_repair_timeout(heap, LONG, |pair| *pair = [0; 2]).unwrap();
                    *pair = [2; 2];
                    drop(pair);
                    assert_eq!(waiters.map(exit_status), [0; 2]);
                },
            );
        },
    );
}

#[test]
fn whoever_waits_gets_on_wherever_another_who_waits_is_killed() {
    in_own_process(
        module_path!(),
        "whoever_waits_gets_on_wherever_another_who_waits_is_killed",
        || {
            at_every_store(
                |heap| {
                    let meeting = meeting(heap);
                    (meeting, waiter(heap, meeting))
                },
                |heap, &(meeting, _)| {
                    let (mutex, changed) = of(heap, meeting);
                    let pair = mutex.lock(heap).unwrap();
                    let pair = changed.wait_timeout(pair, Duration::from_millis(1)).unwrap();
                    put_both(heap, &pair, 0);
                },
                |heap, &(meeting, waiter)| {
                    let (mutex, changed) = of(heap, meeting);
                    let mut pair =
                        mutex.lock_or_repair_timeout(heap, LONG, |pair| *pair = [0; 2]).unwrap();
                    *pair = [2; 2];
                    drop(pair);
                    changed.notify_one(heap).unwrap();
                    assert_eq!(exit_status(waiter), 0);
                },
            );
        },
    );
}
