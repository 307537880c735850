//! The types as their users see them, in one process that is several peers.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

use super::{Place, at, made};
use crate::os::testing::{exit_status, fork, in_own_process};
use crate::segment::words::Words;
use crate::sync::readers::ENTRIES;
use crate::sync::word_of;
use crate::{
    Error, Handle, Heap, Result, Shareable, ShmCondvar, ShmMutex, ShmOnce, ShmPermits, ShmRwLock,
    ShmSemaphore,
};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

type Mutex = ShmMutex<[u64; 2]>;
type Lock = ShmRwLock<[u64; 2]>;

#[track_caller]
fn died<T>(outcome: Result<T>) {
    assert!(matches!(outcome.map(drop), Err(Error::OwnerDied { .. })));
}

#[track_caller]
fn timed_out<T>(outcome: Result<T>) {
    assert!(matches!(outcome.map(drop), Err(Error::TimedOut { .. })));
}

/// Panics without a word.
fn panicking(act: impl FnOnce()) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        act();
    }));
    assert!(outcome.is_err());
}

#[test]
fn threads_of_two_peers_count_under_the_mutex() {
    const TIMES: u64 = 2000;
    let place = Place::new();
    let (mutex, other) = (made::<Mutex>(&place.heap), place.peer());
    thread::scope(|scope| {
        for heap in [&place.heap, &place.heap, &other, &other] {
            scope.spawn(move || {
                for _ in 0..TIMES {
                    let mut pair = at::<Mutex>(heap, mutex).lock(heap).unwrap();
                    assert_eq!(pair[0], pair[1]);
                    pair[0] += 1;
                    pair[1] += 1;
                }
            });
        }
    });
    let mutex = at::<Mutex>(&place.heap, mutex);
    assert_eq!(*mutex.try_lock(&place.heap).unwrap().unwrap(), [4 * TIMES; 2]);
    assert_eq!(place.heap.gate().load(word_of(&place.heap, word(mutex)).unwrap()), 0);
}

/// The first word of an object.
#[allow(unsafe_code)]
fn word<T: Shareable>(object: &T) -> &std::sync::atomic::AtomicU64 {
    // SAFETY: every type of this layer begins with a word.
    unsafe { &*std::ptr::from_ref(object).cast() }
}

fn write_word<T: Shareable>(heap: &Heap, object: &T, value: u64) {
    heap.gate().store(word_of(heap, word(object)).unwrap(), value);
}

#[test]
fn who_has_the_mutex_keeps_others_and_itself_out() {
    let place = Place::new();
    let (handle, other) = (made::<Mutex>(&place.heap), place.peer());
    let here = at::<Mutex>(&place.heap, handle);
    let there = at::<Mutex>(&other, handle);
    let guard = here.lock(&place.heap).unwrap();
    assert!(there.try_lock(&other).unwrap().is_none());
    assert!(here.try_lock(&place.heap).unwrap().is_none());
    let start = Instant::now();
    timed_out(there.lock_timeout(&other, SHORT));
    assert!(start.elapsed() >= SHORT);
    timed_out(here.lock_timeout(&place.heap, SHORT));
    timed_out(here.lock_or_repair_timeout(&place.heap, SHORT, |_| unreachable!()));
    drop(guard);
    drop(there.lock_or_repair(&other, |_| unreachable!()).unwrap());
}

#[test]
fn a_peer_that_is_gone_leaves_the_mutex_in_doubt() {
    let place = Place::new();
    let heap = &place.heap;
    let handle = made::<Mutex>(heap);
    let leave_with_it = || {
        let other = place.peer();
        forget(at::<Mutex>(&other, handle).lock_or_repair(&other, |_| {}).unwrap());
    };
    leave_with_it();
    let mutex = at::<Mutex>(heap, handle);
    died(mutex.lock(heap));
    died(mutex.try_lock(heap));
    died(mutex.lock_timeout(heap, SHORT));
    let mut guard = mutex.lock_or_repair(heap, |pair| pair[0] = 5).unwrap();
    assert_eq!(*guard, [5, 0]);
    guard[1] = 5;
    drop(guard);
    drop(mutex.lock(heap).unwrap());
    leave_with_it();
    // Another peer in the same slot is not the one that died.
    let _successor = place.peer();
    died(mutex.lock(heap));
}

#[test]
fn a_panic_leaves_the_value_in_doubt_and_so_does_one_of_the_repair() {
    let place = Place::new();
    let heap = &place.heap;
    let mutex = at::<Mutex>(heap, made::<Mutex>(heap));
    let lock = at::<Lock>(heap, made::<Lock>(heap));
    panicking(|| {
        let _guard = mutex.lock(heap).unwrap();
        let _other = lock.write(heap).unwrap();
        resume_unwind(Box::new(()));
    });
    for _ in 0..2 {
        died(mutex.lock(heap));
        died(lock.read(heap));
        died(lock.write(heap));
        panicking(|| drop(mutex.lock_or_repair(heap, |_| resume_unwind(Box::new(())))));
        panicking(|| drop(lock.write_or_repair(heap, |_| resume_unwind(Box::new(())))));
    }
    drop(mutex.lock_or_repair(heap, |_| {}).unwrap());
    drop(lock.write_or_repair(heap, |_| {}).unwrap());
    drop((mutex.lock(heap).unwrap(), lock.write(heap).unwrap()));
    drop(lock.read(heap).unwrap());
    // A guard taken and dropped on the way of a panic is no casualty of it.
    struct OnTheWay<'a>(&'a Mutex, &'a Heap);
    impl Drop for OnTheWay<'_> {
        fn drop(&mut self) {
            self.0.lock(self.1).unwrap()[0] = 3;
        }
    }
    panicking(|| {
        let _on_the_way = OnTheWay(mutex, heap);
        resume_unwind(Box::new(()));
    });
    assert_eq!(mutex.lock(heap).unwrap()[0], 3);
}

#[test]
fn a_forked_child_gives_nothing_back_that_is_its_parents() {
    in_own_process(module_path!(), "a_forked_child_gives_nothing_back_that_is_its_parents", || {
        let place = Place::new();
        let heap = &place.heap;
        let mutex = at::<Mutex>(heap, made::<Mutex>(heap));
        let lock = at::<Lock>(heap, made::<Lock>(heap));
        let written = at::<Lock>(heap, made::<Lock>(heap));
        let permits = at::<ShmPermits<1>>(heap, made::<ShmPermits<1>>(heap));
        let held = (
            mutex.lock(heap).unwrap(),
            lock.read(heap).unwrap(),
            written.write(heap).unwrap(),
            permits.acquire(heap).unwrap(),
        );
        let held = std::cell::Cell::new(Some(held));
        let child = fork(|| {
            drop(held.take());
            timed_out(mutex.lock_timeout(heap, SHORT));
            timed_out(lock.write_timeout(heap, SHORT));
            timed_out(written.read_timeout(heap, SHORT));
            timed_out(permits.acquire_timeout(heap, SHORT));
            drop(lock.read(heap).unwrap());
            0
        });
        assert_eq!(exit_status(child), 0);
        assert!(mutex.try_lock(heap).unwrap().is_none());
        assert!(lock.try_write(heap).unwrap().is_none());
        drop(held.take());
        drop((mutex.try_lock(heap).unwrap().unwrap(), permits.try_acquire(heap).unwrap()));
        drop((lock.try_write(heap).unwrap().unwrap(), written.try_read(heap).unwrap()));
    });
}

#[test]
fn many_read_and_one_writes() {
    let place = Place::new();
    let (handle, other) = (made::<Lock>(&place.heap), place.peer());
    let here = at::<Lock>(&place.heap, handle);
    let there = at::<Lock>(&other, handle);
    let one = here.read(&place.heap).unwrap();
    let two = here.read(&place.heap).unwrap();
    let three = there.read(&other).unwrap();
    assert!(here.try_write(&place.heap).unwrap().is_none());
    timed_out(there.write_timeout(&other, SHORT));
    drop(there.try_read(&other).unwrap().expect("the writer that gave up keeps nobody out"));
    drop((one, three));
    assert!(there.try_write(&other).unwrap().is_none(), "one is left");
    drop(two);
    let writer = there.write(&other).unwrap();
    assert!(here.try_read(&place.heap).unwrap().is_none());
    timed_out(here.read_timeout(&place.heap, SHORT));
    assert!(here.try_write(&place.heap).unwrap().is_none());
    drop(writer);
    drop(here.read(&place.heap).unwrap());
}

#[test]
fn a_reader_that_is_gone_keeps_no_writer_and_no_place() {
    let place = Place::new();
    let handle = made::<Lock>(&place.heap);
    let lock = at::<Lock>(&place.heap, handle);
    let readers: Vec<_> = (0..ENTRIES).map(|_| place.peer()).collect();
    for reader in &readers {
        forget(at::<Lock>(reader, handle).read(reader).unwrap());
    }
    assert!(lock.try_read(&place.heap).unwrap().is_none(), "all places are taken");
    timed_out(lock.read_timeout(&place.heap, SHORT));
    timed_out(lock.write_timeout(&place.heap, SHORT));
    let mut readers = readers.into_iter();
    drop(readers.next());
    drop(lock.try_read(&place.heap).unwrap().unwrap());
    drop(readers);
    *lock.try_write(&place.heap).unwrap().unwrap() = [1, 1];
    let writer = place.peer();
    forget(at::<Lock>(&writer, handle).write(&writer).unwrap());
    drop(writer);
    died(lock.try_read(&place.heap));
    died(lock.write(&place.heap));
    drop(lock.write_or_repair(&place.heap, |_| {}).unwrap());
}

#[test]
fn readers_and_writers_of_two_peers_see_whole_values() {
    let place = Place::new();
    let (handle, other) = (made::<Lock>(&place.heap), place.peer());
    thread::scope(|scope| {
        for heap in [&place.heap, &other] {
            scope.spawn(move || {
                for _ in 0..500 {
                    let mut pair = at::<Lock>(heap, handle).write(heap).unwrap();
                    pair[0] += 1;
                    pair[1] = pair[0];
                }
            });
            for _ in 0..2 {
                scope.spawn(move || {
                    for _ in 0..500 {
                        let pair = at::<Lock>(heap, handle).read(heap).unwrap();
                        assert_eq!(pair[0], pair[1]);
                    }
                });
            }
        }
    });
    assert_eq!(*at::<Lock>(&other, handle).read(&other).unwrap(), [1000; 2]);
}

#[test]
fn a_condition_wakes_those_who_wait_and_times_out() {
    let place = Place::new();
    let (heap, other) = (&place.heap, place.peer());
    let (mutex, changed) = (made::<Mutex>(heap), made::<ShmCondvar>(heap));
    let here: (&Mutex, &ShmCondvar) = (at(heap, mutex), at(heap, changed));
    thread::scope(|scope| {
        let waiters = [(); 3].map(|()| {
            scope.spawn(|| {
                let (mutex, changed): (&Mutex, &ShmCondvar) =
                    (at(&other, mutex), at(&other, changed));
                let pair = mutex.lock(&other).unwrap();
                changed.wait_while(pair, |pair| pair[0] == 0).unwrap()[1] += 1;
                changed.notify_all(&other).unwrap();
            })
        });
        here.0.lock(heap).unwrap()[0] = 1;
        here.1.notify_one(heap).unwrap();
        here.1.notify_all(heap).unwrap();
        let pair = here.0.lock(heap).unwrap();
        let pair = here.1.wait_timeout_while(pair, LONG, |pair| pair[1] < 3).unwrap();
        drop(pair);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
    let pair = here.0.lock(heap).unwrap();
    let pair = here.1.wait_timeout(pair, Duration::from_millis(1)).unwrap();
    let pair = here.1.wait(pair).unwrap();
    timed_out(here.1.wait_timeout_while(pair, SHORT, |_| true));
    drop(here.0.try_lock(heap).unwrap().expect("given back"));
    let pair = here.0.lock(heap).unwrap();
    drop(here.1.wait_timeout_while(pair, Duration::MAX, |_| false).unwrap());
}

#[test]
fn permits_are_counted() {
    let place = Place::new();
    let (handle, other) = (made::<ShmSemaphore>(&place.heap), place.peer());
    let (here, heap) = (at::<ShmSemaphore>(&place.heap, handle), &place.heap);
    assert!(!here.try_acquire(heap).unwrap());
    timed_out(here.acquire_timeout(heap, SHORT));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| at::<ShmSemaphore>(&other, handle).acquire(&other).unwrap());
        }
        here.release(heap, 1).unwrap();
        here.release(heap, 3).unwrap();
    });
    assert_eq!(here.permits(heap).unwrap(), 1);
    let full = here.release(heap, u32::MAX);
    assert!(matches!(full, Err(Error::AtCapacity { limit: 0x7fff_ffff, .. })));
    here.release(heap, 0x7fff_fffe).unwrap();
    assert_eq!(here.permits(heap).unwrap(), 0x7fff_ffff);
    assert!(here.release(heap, 1).is_err());
    here.acquire(heap).unwrap();
}

#[test]
fn so_many_at_once_and_the_gone_do_not_count() {
    let place = Place::new();
    let (handle, other) = (made::<ShmPermits<2>>(&place.heap), place.peer());
    let (here, heap) = (at::<ShmPermits<2>>(&place.heap, handle), &place.heap);
    let one = here.acquire(heap).unwrap();
    forget(at::<ShmPermits<2>>(&other, handle).acquire(&other).unwrap());
    assert!(here.try_acquire(heap).unwrap().is_none());
    timed_out(here.acquire_timeout(heap, SHORT));
    drop(other);
    let two = here.try_acquire(heap).unwrap().unwrap();
    assert_eq!((one.number(), two.number()), (0, 1));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| here.acquire(heap).unwrap().number());
        drop(one);
        assert_eq!(waiter.join().unwrap(), 0);
    });
    let none = at::<ShmPermits<0>>(heap, made::<u64>(heap));
    assert!(none.try_acquire(heap).unwrap().is_none());
}

#[test]
fn once_is_once_for_all_who_ask_and_again_after_a_panic() {
    let place = Place::new();
    let (handle, other) = (made::<ShmOnce>(&place.heap), place.peer());
    let (here, heap) = (at::<ShmOnce>(&place.heap, handle), &place.heap);
    let mut times = 0;
    panicking(|| here.call_once(heap, || resume_unwind(Box::new(()))).unwrap());
    assert!(!here.is_done(heap).unwrap());
    here.call_once(heap, || {
        times += 1;
        let there = at::<ShmOnce>(&other, handle);
        timed_out(there.call_once_timeout(&other, SHORT, || unreachable!()));
        timed_out(here.call_once_timeout(heap, SHORT, || unreachable!()));
    })
    .unwrap();
    here.call_once(heap, || times += 1).unwrap();
    at::<ShmOnce>(&other, handle).call_once(&other, || times += 1).unwrap();
    assert_eq!(times, 1);
}

#[test]
fn an_object_of_another_heap_and_an_observer_are_refused() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let (heap, foreign) = (&place.heap, &elsewhere.heap);
    let observer = Heap::connect_read_only(place.name.at().label()).unwrap();
    let objects: [Handle; 6] = [
        made::<Mutex>(heap),
        made::<Lock>(heap),
        made::<ShmCondvar>(heap),
        made::<ShmSemaphore>(heap),
        made::<ShmPermits<1>>(heap),
        made::<ShmOnce>(heap),
    ];
    let outcomes = |seen: &Heap, with: &Heap| -> Vec<Error> {
        let [mutex, lock, condvar, semaphore, permits, once] = objects;
        [
            at::<Mutex>(seen, mutex).lock(with).map(drop),
            at::<Mutex>(seen, mutex).try_lock(with).map(drop),
            at::<Lock>(seen, lock).read(with).map(drop),
            at::<Lock>(seen, lock).write_or_repair(with, |_| {}).map(drop),
            at::<ShmCondvar>(seen, condvar).notify_one(with),
            at::<ShmSemaphore>(seen, semaphore).acquire(with),
            at::<ShmSemaphore>(seen, semaphore).release(with, 1),
            at::<ShmPermits<1>>(seen, permits).acquire(with).map(drop),
            at::<ShmOnce>(seen, once).call_once(with, || {}),
        ]
        .map(Result::unwrap_err)
        .into()
    };
    for error in outcomes(heap, foreign) {
        assert!(matches!(error, Error::InvalidPointer { .. }), "{error}");
    }
    for error in outcomes(&observer, &observer) {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    }
    let once = at::<ShmOnce>(&observer, objects[5]);
    assert!(!once.is_done(&observer).unwrap());
    at::<ShmOnce>(heap, objects[5]).call_once(heap, || {}).unwrap();
    once.call_once(&observer, || unreachable!()).unwrap();
    let guard = at::<Mutex>(heap, objects[0]).lock(heap).unwrap();
    let of_foreign = at::<ShmCondvar>(foreign, made::<ShmCondvar>(foreign));
    assert!(matches!(of_foreign.wait(guard), Err(Error::InvalidPointer { .. })));
    drop(at::<Mutex>(heap, objects[0]).try_lock(heap).unwrap().expect("given back"));
}

#[test]
fn whatever_the_words_hold_nothing_panics_or_waits_too_long() {
    let place = Place::new();
    let heap = &place.heap;
    let time = Duration::from_millis(2);
    let hostile = [u64::MAX, 1, 0xffff, 1 << 16, 1 << 63, 0x7_0000, 0xffff_ffff, 1 << 32 | 2, 6];
    let mutex = at::<Mutex>(heap, made::<Mutex>(heap));
    let lock = at::<Lock>(heap, made::<Lock>(heap));
    let changed = at::<ShmCondvar>(heap, made::<ShmCondvar>(heap));
    let semaphore = at::<ShmSemaphore>(heap, made::<ShmSemaphore>(heap));
    let permits = at::<ShmPermits<2>>(heap, made::<ShmPermits<2>>(heap));
    let once = at::<ShmOnce>(heap, made::<ShmOnce>(heap));
    let me = crate::peers::Roll::me(heap).unwrap().word();
    for value in hostile.into_iter().chain([me, me | 0xffff_0000]) {
        write_word(heap, mutex, value);
        let _ = mutex.lock_timeout(heap, time);
        if let Ok(guard) = mutex.lock_or_repair_timeout(heap, time, |_| {}) {
            write_word(heap, mutex, !value);
            drop(guard);
        }
        for number in 0..2 + ENTRIES {
            let first = word_of(heap, word(lock)).unwrap();
            heap.gate().store(first, 0);
            heap.gate().store(first + number, value);
            let _ = lock.read_timeout(heap, time);
            let _ = lock.write_timeout(heap, time);
            if let Ok(guard) = lock.try_read(heap) {
                heap.gate().store(first + number, !value);
                drop(guard);
            }
            heap.gate().store(first + number, 0);
        }
        write_word(heap, changed, value);
        write_word(heap, mutex, 0);
        drop(changed.wait_timeout(mutex.lock(heap).unwrap(), time).unwrap());
        changed.notify_one(heap).unwrap();
        changed.notify_all(heap).unwrap();
        write_word(heap, semaphore, value);
        let _ = semaphore.acquire_timeout(heap, time);
        let _ = semaphore.release(heap, u32::MAX);
        let _ = semaphore.release(heap, 1);
        let first = word_of(heap, word(permits)).unwrap();
        for number in 0..3 {
            heap.gate().store(first + number, value);
        }
        let _ = permits.acquire_timeout(heap, time);
        write_word(heap, once, value);
        let _ = once.call_once_timeout(heap, time, || write_word(heap, once, !value));
    }
}
