//! Goal: an ephemeral heap is there as long as a living process is connected to it, and no longer.
//!
//! Method: a *conductor*, a program of its own, forks processes that come and go, each of which
//! makes the heap if there is none; while one is connected, the name must lead to its heap. Some
//! are killed at random moments.

use shmheap::{Error, Heap, HeapOptions, Policy, sweep_abandoned};

use crate::support::process::{Fork, PATIENCE, Role, Worker};
use crate::support::random::{Random, seed};
use crate::support::{HeapName, POLICIES};

/// How often each process comes and goes, and how many are killed.
const STAYS: u64 = 200;
const KILLS: u64 = 60;

fn options(policy: Policy) -> HeapOptions {
    HeapOptions::new(1 << 16).policy(policy).ephemeral()
}

fn is_gone(name: &HeapName) -> bool {
    !name.path().exists()
}

#[test]
fn it_stays_until_the_last_one_leaves() {
    for policy in POLICIES {
        let name = HeapName::new();
        let heap = options(policy).create(&name).unwrap();
        assert!(heap.info().is_ephemeral);
        let observer = Heap::connect_read_only(&name).unwrap();
        let peer = Heap::connect(&name).unwrap();
        drop(heap);
        assert!(!is_gone(&name), "a peer is left");
        drop(peer);
        assert!(is_gone(&name));
        assert!(observer.check().is_sound(), "who looks on goes on");
        drop(observer);
        drop(options(policy).create(&name).unwrap());
        let kept = HeapOptions::new(1 << 16).policy(policy).create(&name).unwrap();
        drop(kept);
        assert!(!is_gone(&name), "another of the name, which is kept");
    }
}

#[test]
fn a_file_goes_likewise_and_what_stands_in_its_place_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("heap");
    let heap = options(Policy::Scalable).create_file(&path).unwrap();
    drop(Heap::connect_file(&path).unwrap());
    assert!(path.exists());
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "another file").unwrap();
    drop(heap);
    assert!(path.exists(), "it was not the heap's");
    drop(options(Policy::Scalable).create_memfd().unwrap());
}

/// Comes after a process that was killed; whether all was as it should be.
type Comes = fn(&HeapName) -> bool;

#[test]
fn killed_processes_do_not_count() {
    let comes: [Comes; 4] = [
        |name| matches!(Heap::connect(name), Err(Error::NotFound { .. })) && is_gone(name),
        |name| HeapOptions::new(1 << 16).create(name).is_ok_and(|heap| !heap.info().is_ephemeral),
        |name| sweep_abandoned().is_ok() && is_gone(name),
        |name| options(Policy::FirstFit).create(HeapName::new()).is_ok() && is_gone(name),
    ];
    for (number, come) in comes.into_iter().enumerate() {
        let name = HeapName::new();
        let mut worker = Worker::start("ephemeral::holder", &[name.as_str()]);
        assert_eq!(worker.hear(), "connected");
        sweep_abandoned().unwrap();
        assert!(!is_gone(&name), "its process lives");
        worker.kill();
        assert!(come(&name), "{number}");
    }
}

#[test]
fn what_nobody_could_remove_can_be_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("heap");
    let mut worker = Worker::start("ephemeral::holder", &[path.to_str().unwrap()]);
    assert_eq!(worker.hear(), "connected");
    worker.kill();
    assert!(Heap::connect_file_read_only(&path).unwrap().check().is_sound());
    assert!(matches!(Heap::connect_file(&path), Err(Error::NotFound { .. })));
    assert!(!path.exists());
}

#[test]
fn holder() {
    let Some(mut role) = Role::of("ephemeral::holder") else { return };
    let place = role.argument(0);
    let _heap = match place[1..].contains('/') {
        true => options(Policy::Scalable).create_file(place).unwrap(),
        false => options(Policy::Scalable).create(place).unwrap(),
    };
    role.say("connected");
    role.hear();
}

#[test]
fn a_child_that_never_used_the_heap_does_not_end_it() {
    let name = HeapName::new();
    Worker::start("ephemeral::parent", &[name.as_str()]).finish();
    assert!(is_gone(&name));
}

#[test]
fn parent() {
    let Some(role) = Role::of("ephemeral::parent") else { return };
    let heap = options(Policy::Scalable).create(role.argument(0)).unwrap();
    let name = role.argument(0);
    let mut copy = Some(heap);
    let path = std::path::Path::new("/dev/shm").join(&name[1..]);
    let heap = &mut copy;
    Fork::start(|| drop(heap.take())).finish();
    assert!(path.exists(), "the parent is connected");
    // A child that has used it is a peer of its own, and may be the last.
    Fork::start(|| {
        let heap = heap.take().unwrap();
        heap.alloc_zeroed(std::alloc::Layout::new::<u64>()).unwrap();
        drop(heap);
    })
    .finish();
    assert!(path.exists());
    drop(copy);
    assert!(!path.exists());
}

#[test]
fn whoever_is_connected_has_the_heap_of_the_name() {
    let seed = seed();
    for policy in POLICIES {
        let name = HeapName::new();
        let arguments = [name.as_str(), &policy_number(policy).to_string(), &seed.to_string()];
        Worker::start("ephemeral::conductor", &arguments).finish();
        // The last one may have been killed.
        let found = Heap::connect(&name);
        assert!(matches!(found, Err(Error::NotFound { .. })), "{found:?}");
        assert!(is_gone(&name));
    }
}

fn policy_number(policy: Policy) -> u64 {
    u64::from(policy == Policy::Scalable)
}

#[test]
fn conductor() {
    let Some(role) = Role::of("ephemeral::conductor") else { return };
    let name = role.argument(0);
    let policy = POLICIES[role.number(1) as usize];
    let mut random = Random::new(role.number(2));
    let lasting: Vec<_> =
        (0..2).map(|_| Fork::start(|| come_and_go(name, policy, STAYS))).collect();
    for _ in 0..KILLS {
        let mut child = Fork::start(|| come_and_go(name, policy, u64::MAX));
        for _ in 0..random.below(200) {
            std::thread::yield_now();
        }
        child.kill();
    }
    for child in lasting {
        child.finish();
    }
}

fn come_and_go(name: &str, policy: Policy, stays: u64) {
    let deadline = std::time::Instant::now() + PATIENCE;
    for _ in 0..stays {
        let heap = options(policy).connect_or_create(name).unwrap();
        assert!(std::time::Instant::now() < deadline, "it takes too long");
        let again = Heap::connect(name).expect("this process is connected");
        assert_eq!(again.info().id, heap.info().id);
    }
}
