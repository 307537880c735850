//! What is done once, permits, and conditions.

use std::time::Duration;

use super::{BELL, LOCK, PAIR, Peer, Scene, TABLE, TIMES};
use crate::segment::interleaved::explore;
use crate::segment::words::Words;
use crate::sync::bell::{Bell, Listeners};
use crate::sync::once::Deed;
use crate::sync::owned::Want;
use crate::sync::permits::Permits;
use crate::sync::semaphore::Count;

fn call_once(peer: &Peer) -> bool {
    let deed = Deed { at: LOCK };
    let begun = deed.begin(peer, peer, peer.me, &mut Peer::waiting()).unwrap();
    if begun {
        peer.write_pair();
        deed.end(peer, peer.me, 1 << 17);
    }
    assert_eq!(peer.check_pair(), 1, "it is done, and seen");
    begun
}

#[test]
fn once_is_once_and_seen_by_all() {
    explore(2, || {
        let scene = Scene::new();
        let peers = [0, 1, 2].map(|slot| scene.spawn(slot, call_once));
        let begun = peers.map(|peer| peer.join().unwrap());
        assert_eq!(begun.iter().filter(|&&begun| begun).count(), 1);
        assert!(Deed { at: LOCK }.is_done(&scene.peer(3)));
    });
}

#[test]
fn what_the_dead_began_the_next_one_does() {
    explore(2, || {
        let scene = Scene::new();
        let dying = scene.spawn(0, |peer| {
            let deed = Deed { at: LOCK };
            let begun = deed.begin(peer, peer, peer.me, &mut Peer::waiting()).unwrap();
            peer.die();
            begun
        });
        let next = scene.spawn(1, call_once);
        let last = call_once(&scene.peer(2));
        dying.join().unwrap();
        assert_ne!(next.join().unwrap(), last, "one of the two");
    });
}

#[test]
fn every_permit_that_is_given_is_taken() {
    explore(2, || {
        let scene = Scene::new();
        let count = Count { at: LOCK };
        let takers = [0, 1].map(|slot| {
            scene.spawn(slot, move |peer| count.take(peer, &mut Peer::waiting()).unwrap())
        });
        let giver = scene.peer(2);
        count.give(&giver, 1).unwrap();
        count.give(&giver, 1).unwrap();
        for taker in takers {
            taker.join().unwrap();
        }
        assert_eq!(giver.load(LOCK) >> 1, 0);
    });
}

fn permits(count: u64) -> Permits {
    Permits { bell: Bell::new(BELL), first: TABLE, count }
}

fn count_with_a_permit(peer: &Peer) {
    let number = permits(1).take(peer, peer, peer.me, &mut Peer::waiting()).unwrap();
    peer.count();
    permits(1).give_back(peer, peer.me, number);
}

#[test]
fn as_many_as_there_are_permits_and_no_wake_is_lost() {
    explore(2, || {
        let scene = Scene::new();
        let peers = [0, 1].map(|slot| scene.spawn(slot, count_with_a_permit));
        count_with_a_permit(&scene.peer(2));
        for peer in peers {
            peer.join().unwrap();
        }
        assert_eq!(scene.peer(3).load(TIMES), 3, "one at a time");
    });
}

#[test]
fn the_permit_of_the_dead_goes_to_one() {
    explore(2, || {
        let scene = Scene::new();
        let dying = scene.spawn(0, |peer| {
            permits(1).take(peer, peer, peer.me, &mut Peer::waiting()).unwrap();
            peer.count();
            peer.die();
        });
        let other = scene.spawn(1, count_with_a_permit);
        count_with_a_permit(&scene.peer(2));
        other.join().unwrap();
        dying.join().unwrap();
        assert_eq!(scene.peer(3).load(TIMES), 3, "one at a time");
    });
}

/// Waits under the mutex until the first number is not 0.
fn await_change(peer: &Peer) {
    peer.lock(Want::Sound).unwrap();
    while peer.load(PAIR[0]) == 0 {
        Bell::new(BELL).sleep_without(peer, || peer.unlock(), Duration::ZERO);
        peer.lock(Want::Sound).unwrap();
    }
    peer.unlock();
}

#[test]
fn what_is_notified_is_not_slept_through() {
    for whom in [Listeners::One, Listeners::All] {
        explore(2, move || {
            let scene = Scene::new();
            let waiters = match whom {
                Listeners::One => 1,
                Listeners::All => 2,
            };
            let waiters = (0..waiters).map(|slot| scene.spawn(slot, await_change));
            let waiters: Vec<_> = waiters.collect();
            let notifier = scene.peer(3);
            notifier.lock(Want::Sound).unwrap();
            notifier.store(PAIR[0], 1);
            notifier.unlock();
            Bell::new(BELL).ring(&notifier, whom);
            for waiter in waiters {
                waiter.join().unwrap();
            }
        });
    }
}
