//! The lock among threads that stand for peers: one at a time, and the dead do not count.

use std::sync::atomic::AtomicU64;
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use crate::first_fit::layout::{Layout, Position};
use crate::first_fit::{Fault, FirstFit, Surroundings};
use crate::os::Parking;
use crate::peers::LedgerEntry;
use crate::segment::words::{Row, Words};
use crate::units::{PeerSlot, WordIndex};

use super::memory::{HEADER, THREADS};

struct Yield;

impl Parking for Yield {
    fn wait(&self, _word: &AtomicU64, _expected: u64, _timeout: Duration) {
        std::thread::yield_now();
    }

    fn wake(&self, _word: &AtomicU64) {}
}

struct Mortals {
    dead: Mutex<Vec<PeerSlot>>,
}

impl Surroundings for Mortals {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        self.dead.lock().unwrap().contains(&peer)
    }

    fn ensure_storage(&self, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn ensure_entry(&self, _entry: LedgerEntry) -> Result<(), Fault> {
        Ok(())
    }
}

#[test]
fn threads_take_turns_and_outlive_the_dead() {
    let layout = Layout::new(THREADS.end(), 1 << 14).unwrap();
    let memory: Vec<AtomicU64> = (0..layout.end().word().0).map(|_| AtomicU64::new(0)).collect();
    let words = Row::new(&memory, Yield);
    let engine = FirstFit::new(&layout, HEADER, THREADS, 16);
    engine.format(&words, 1 << 14);
    let world = Mortals { dead: Mutex::new(vec![]) };
    let rounds = if cfg!(miri) { 4 } else { 5000 };
    let barrier = Barrier::new(4);

    std::thread::scope(|scope| {
        for peer in 0..4_u16 {
            let (engine, words, world, barrier) = (&engine, &words, &world, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..rounds {
                    let me = PeerSlot(peer);
                    let session = engine.session(words, me, world).unwrap();
                    let at = session.alloc(1 + round % 7, 1).unwrap().unwrap();
                    if peer == 3 && round == rounds / 2 {
                        // Dies holding the lock, between two operations.
                        let session = engine.session(words, me, world).unwrap();
                        std::mem::forget(session);
                        world.dead.lock().unwrap().push(me);
                        return;
                    }
                    engine.session(words, me, world).unwrap().free(at).unwrap();
                }
            });
        }
    });

    let session = engine.session(&words, PeerSlot(0), &world).unwrap();
    let audit = engine.audit(&words, session.end(), 4);
    assert_eq!((audit.flaws, audit.live_objects), (vec![], 1), "one object of the dead is live");
    assert!(words.load(WordIndex(HEADER.counters.0)) == 1);
    assert_eq!(session.end(), Position(1 << 14));
}
