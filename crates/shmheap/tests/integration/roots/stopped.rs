//! Goal: who is stopped keeps nobody waiting, unless he is making the root they want; and if he is
//! killed at that, they are told.
//!
//! Method: a peer that does all there is to do with roots and shared values is stopped at random
//! moments. While it is, this process does the same, without patience.
//!
//! `SHMHEAP_STOPS=n` sets the number of stops.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shmheap::{Error, Handle, Heap, ShmArc};

use super::{
    Board, LEN_BYTES, NAMES, SPIN_MAX, STILL_ALIVE, Value, Work, created, make, ordinary_objects,
    run, spin, stamp_of, stamp_of_name,
};
use crate::support::process::{
    Fork, Role, Worker, count_in_word, set_word, wait_for_word, wait_until,
};
use crate::support::random::{Random, setting};
use crate::support::{HeapName, POLICIES, assert_whole, bytes, heap_of};

const STOPS: u64 = 300;

#[test]
fn who_is_stopped_keeps_nobody_waiting_under_first_fit() {
    run("roots::stopped::stopper", "first fit", &setting("SHMHEAP_STOPS", STOPS).to_string());
}

#[test]
fn who_is_stopped_keeps_nobody_waiting_among_slabs() {
    run("roots::stopped::stopper", "scalable", &setting("SHMHEAP_STOPS", STOPS).to_string());
}

#[test]
fn stopper() {
    let Some(mut role) = Role::of("roots::stopped::stopper") else { return };
    let heap = created(&role);
    let (_, words) = bytes::alloc_words(&heap, Board::WORDS);
    let (board, ordinary) = (Board(words), ordinary_objects(&heap));
    let mut random = Random::new(role.number(2));
    let of_peer = Random::new(random.next());
    let peer = Fork::start(|| {
        let (heap, number, random) = (&heap, 0, of_peer);
        Work { heap, board, ordinary, number, random, held: vec![] }.run();
    });
    let (mut midway, mut slowest) = (0, Duration::ZERO);
    for stop in 0..role.number(3) {
        let before = board.progress(0).load(Ordering::SeqCst);
        spin(random.log_uniform(SPIN_MAX));
        peer.stop();
        let start = Instant::now();
        midway += use_all(&heap, ordinary[0], random.one_in(2));
        slowest = slowest.max(start.elapsed());
        peer.send(Signal::CONT);
        if stop.is_multiple_of(50) {
            role.say(STILL_ALIVE);
            // It has got on since, too.
            wait_until("the peer goes on", || board.progress(0).load(Ordering::SeqCst) != before);
        }
    }
    drop(peer);
    heap.sweep().unwrap();
    heap.sweep_shared().unwrap();
    assert_whole(&heap);
    role.say(&format!("{midway} stops of one making a root; used by others in {slowest:?}"));
}

/// Uses all roots and shares a value while the only other process is stopped. Only for the root
/// that that is making, if it is, would this have to wait. How many that are.
fn use_all(heap: &Heap, object: Handle, and_remove: bool) -> u64 {
    let listed = heap.roots().into_iter();
    let making: Vec<_> = listed.filter(|root| !root.is_made).map(|root| root.name).collect();
    assert!(making.len() <= 1, "it makes {making:?}");
    for name in NAMES {
        let stamp = stamp_of_name(name);
        let found = heap.try_find_or_create(name, Duration::ZERO, |value| {
            make(value, stamp, 0);
            Ok(())
        });
        if making.iter().any(|other| other == name) {
            assert!(matches!(found, Err(Error::TimedOut { .. })), "{found:?}");
            assert!(matches!(heap.remove_root(name), Err(Error::Occupied { .. })));
            assert!(matches!(heap.set_root(name, object), Err(Error::RootExists { .. })));
            continue;
        }
        assert_eq!(stamp_of(&found.unwrap()), stamp);
        if and_remove {
            heap.remove_root(name).unwrap();
            assert!(matches!(heap.find_root::<Value>(name), Err(Error::NoRoot { .. })));
        }
    }
    let value = ShmArc::new(heap, [7_u64; 4]).unwrap();
    let weak = ShmArc::downgrade(&value);
    assert_eq!(*weak.upgrade(heap).unwrap().expect("it is held"), [7; 4]);
    drop(value);
    assert!(weak.upgrade(heap).unwrap().is_none());
    heap.sweep_shared().unwrap();
    making.len() as u64
}

/// Others wait for a root that one makes; he is killed.
#[test]
fn who_waits_for_a_root_is_told_that_its_maker_died() {
    let path = "roots::stopped::who_waits_for_a_root_is_told_that_its_maker_died";
    let Some(_role) = Role::of(path) else {
        return Worker::start(path, &[]).finish();
    };
    for policy in POLICIES {
        let heap = heap_of(policy, LEN_BYTES).create(HeapName::new()).unwrap();
        let (_, words) = bytes::alloc_words(&heap, 4);
        let [told, made, calling, _] = [0, 1, 2, 3].map(|number| &words[number]);
        let mut maker = Fork::start(|| {
            let _ = heap.find_or_create::<Value>("a", |value| {
                make(value, 1, 0);
                set_word(&words[3], 1);
                wait_for_word(&words[3], 2, || {});
            });
        });
        wait_for_word(&words[3], 1, || {});
        let waiters = [(); 3].map(|()| {
            Fork::start(|| {
                count_in_word(calling);
                let init = |value: &mut Value| {
                    make(value, 2, 0);
                    made.fetch_add(1, Ordering::SeqCst);
                };
                let root = match heap.find_or_create("a", init) {
                    Err(Error::OwnerDied { .. }) => {
                        told.fetch_add(1, Ordering::SeqCst);
                        heap.find_or_create("a", init)
                    }
                    other => other,
                };
                assert_eq!(stamp_of(&root.unwrap()), 2);
            })
        });
        wait_for_word(calling, 3, || {});
        assert!(!heap.roots()[0].is_made);
        let timeout = Duration::from_millis(1);
        let refused = heap.try_find_or_create::<Value>("a", timeout, |_| Ok(()));
        assert!(matches!(refused, Err(Error::TimedOut { .. })));
        maker.kill();
        waiters.into_iter().for_each(Fork::finish);
        let [told, made] = [told, made].map(|count| count.load(Ordering::SeqCst));
        assert!(told >= 1 && made == 1, "{told} were told, {made} have made it");
    }
}
