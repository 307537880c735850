//! Goal: locks of a heap are given back by whoever is killed, and what was half changed is not used
//! unawares.
//!
//! Method: processes count under a mutex, each in a place of its own and all in one, and are killed
//! at random moments with SIGKILL. Whoever is let in finds that the parts are the whole, or is told
//! to repair it; in the end every count that a process knows to be done is there, and for each kill
//! one more at the most.
//!
//! `SHMHEAP_KILLS=n` sets the number of kills.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use shmheap::{Error, Handle, Heap, ShmMutex, ShmRwLock};

use crate::support::process::{Role, Worker, wait_until};
use crate::support::random::{Random, seed, setting};
use crate::support::{HeapName, bytes, scalable};

const WORKERS: usize = 4;
const KILLS: u64 = 60;
/// Counts between two kills at the most.
const COUNTS_MAX: u64 = 400;
const SHORT: Duration = Duration::from_millis(30);

/// The whole, and the part of each worker.
type Counts = [u64; 1 + WORKERS];

fn add(counts: &mut Counts, worker: usize) {
    counts[0] += 1;
    counts[1 + worker] += 1;
}

fn repair(counts: &mut Counts) {
    counts[0] = counts[1..].iter().sum();
}

fn assert_sound(counts: &Counts) {
    assert_eq!(counts[0], counts[1..].iter().sum::<u64>(), "half a change: {counts:?}");
}

#[test]
fn counter() {
    let Some(me) = Role::of("sync::counter") else { return };
    let heap = Heap::connect(me.argument(0)).unwrap();
    let mutex = bytes::object::<ShmMutex<Counts>>(&heap, Handle::from_raw(me.number(1)));
    let lock = bytes::object::<ShmRwLock<Counts>>(&heap, Handle::from_raw(me.number(2)));
    let done = bytes::words(&heap, Handle::from_raw(me.number(3)), 2 * WORKERS);
    let worker = me.number(4) as usize;
    loop {
        let mut counts = mutex.lock_or_repair(&heap, repair).unwrap();
        assert_sound(&counts);
        add(&mut counts, worker);
        drop(counts);
        done[worker].fetch_add(1, Ordering::SeqCst);
        let mut counts = lock.write_or_repair(&heap, repair).unwrap();
        assert_sound(&counts);
        add(&mut counts, worker);
        drop(counts);
        done[WORKERS + worker].fetch_add(1, Ordering::SeqCst);
        match lock.read(&heap) {
            Ok(counts) => assert_sound(&counts),
            Err(Error::OwnerDied { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn killed_processes_leave_counts_that_can_be_accounted_for() {
    let name = HeapName::new();
    let heap = scalable(4 << 20).create(&name).unwrap();
    let (mutex_handle, mutex) = bytes::alloc_object::<ShmMutex<Counts>>(&heap);
    let (lock_handle, lock) = bytes::alloc_object::<ShmRwLock<Counts>>(&heap);
    let (done_handle, done) = bytes::alloc_words(&heap, 2 * WORKERS);
    let start = |worker: usize| {
        let handles = [mutex_handle, lock_handle, done_handle].map(|handle| handle.to_string());
        let handles = handles.map(|handle| handle.parse::<Handle>().unwrap().to_raw().to_string());
        let [mutex, lock, done] = &handles;
        let worker = worker.to_string();
        Worker::start("sync::counter", &[name.as_str(), mutex, lock, done, &worker])
    };
    let mut random = Random::new(seed());
    let mut workers: Vec<_> = (0..WORKERS).map(start).collect();
    let mut kills = [0; WORKERS];
    for _ in 0..setting("SHMHEAP_KILLS", KILLS) {
        let victim = random.below(WORKERS as u64) as usize;
        let until = done[victim].load(Ordering::SeqCst) + random.below(COUNTS_MAX);
        wait_until("the victim counts", || done[victim].load(Ordering::SeqCst) >= until);
        workers[victim].kill();
        kills[victim] += 1;
        // The others get on, whatever the victim had in hand.
        let other = (victim + 1) % WORKERS;
        let until = done[other].load(Ordering::SeqCst) + 10;
        wait_until("the others count", || done[other].load(Ordering::SeqCst) >= until);
        workers[victim] = start(victim);
    }
    for (worker, kills) in workers.iter_mut().zip(&mut kills) {
        worker.kill();
        *kills += 1;
    }
    let by_mutex = *mutex.lock_or_repair(&heap, repair).unwrap();
    let by_lock = *lock.write_or_repair(&heap, repair).unwrap();
    for (counts, done) in [(by_mutex, &done[..WORKERS]), (by_lock, &done[WORKERS..])] {
        assert_sound(&counts);
        for (worker, done) in done.iter().enumerate() {
            let (counted, done) = (counts[1 + worker], done.load(Ordering::SeqCst));
            assert!(
                (done..=done + kills[worker]).contains(&counted),
                "{counted} counted, {done} done"
            );
        }
    }
}

#[test]
fn owner() {
    let Some(mut me) = Role::of("sync::owner") else { return };
    let heap = Heap::connect(me.argument(0)).unwrap();
    let mutex = bytes::object::<ShmMutex<u64>>(&heap, Handle::from_raw(me.number(1)));
    while me.hear().is_some() {
        let mut value = mutex.lock(&heap).unwrap();
        me.say("locked");
        me.hear();
        *value += 1;
        drop(value);
        me.say("unlocked");
    }
}

#[test]
fn a_stopped_owner_is_waited_for_as_long_as_one_likes() {
    let name = HeapName::new();
    let heap = scalable(4 << 20).create(&name).unwrap();
    let (handle, mutex) = bytes::alloc_object::<ShmMutex<u64>>(&heap);
    let mut owner = Worker::start("sync::owner", &[name.as_str(), &handle.to_raw().to_string()]);
    owner.say("lock");
    assert_eq!(owner.hear(), "locked");
    kill_process(owner.pid(), Signal::STOP).unwrap();
    let waited = mutex.lock_timeout(&heap, SHORT).map(drop);
    assert!(matches!(waited, Err(Error::TimedOut { .. })), "{waited:?}");
    assert!(mutex.try_lock(&heap).unwrap().is_none());
    kill_process(owner.pid(), Signal::CONT).unwrap();
    owner.say("unlock");
    assert_eq!(owner.hear(), "unlocked");
    assert_eq!(*mutex.lock(&heap).unwrap(), 1);
    owner.say("lock");
    assert_eq!(owner.hear(), "locked");
    owner.kill();
    let refused = mutex.lock(&heap).map(drop);
    assert!(matches!(refused, Err(Error::OwnerDied { .. })), "{refused:?}");
    assert_eq!(*mutex.lock_or_repair(&heap, |value| *value = 7).unwrap(), 7);
}
