//! The lock among threads that stand for peers: one at a time, and neither the dead nor the slow
//! keep it.

use std::sync::atomic::AtomicU64;
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use crate::first_fit::layout::{Area, Layout, Position};
use crate::first_fit::{Fault, FirstFit, Surroundings};
use crate::os::Parking;
use crate::segment::words::Row;
use crate::units::PeerSlot;

use super::memory::{HEADER, THREADS};

/// Whether those who sleep believe that the time was over: then they steal all the time.
struct Yield(bool);

impl Parking for Yield {
    fn wait(&self, _word: &AtomicU64, _expected: u64, timeout: Duration) -> Duration {
        std::thread::yield_now();
        if self.0 { timeout } else { Duration::ZERO }
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

    fn ensure_head(&self, _area: Area) -> Result<(), Fault> {
        Ok(())
    }

    fn ensure_storage(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }

    fn has_storage(&self, _area: Area, _granules: u64) -> bool {
        true
    }

    fn ensure_records(&self, _area: Area, _granules: u64) -> Result<(), Fault> {
        Ok(())
    }
}

fn take_turns(is_impatient: bool) {
    let layout = Layout::new(THREADS.end(), 1 << 14).unwrap();
    let memory: Vec<AtomicU64> = (0..layout.end().word().0).map(|_| AtomicU64::new(0)).collect();
    let words = Row::new(&memory, Yield(is_impatient));
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
                let operator = engine.operator(words, PeerSlot(peer), world);
                for round in 0..rounds {
                    let at = operator.alloc(1 + round % 7, 1).unwrap().unwrap();
                    if peer == 3 && round == rounds / 2 {
                        // Dies holding the lock, between two operations.
                        std::mem::forget(operator.session().unwrap());
                        world.dead.lock().unwrap().push(PeerSlot(peer));
                        return;
                    }
                    let area = engine.current(words);
                    let live = engine.expect_live(words, area, at, Position(1 << 14));
                    assert_eq!(live, Ok(()), "an object that lives is there for readers");
                    assert!(operator.resize(at, 1).unwrap());
                    operator.free(at).unwrap();
                }
            });
        }
    });

    let session = engine.operator(&words, PeerSlot(0), &world).session().unwrap();
    let audit = session.audit(4);
    assert_eq!((audit.flaws, audit.live_objects), (vec![], 1), "one object of the dead is live");
    assert_eq!(session.end(), Position(1 << 14));
    assert!(is_impatient || session.area_number() == Area::FIRST, "nobody was robbed");
}

#[test]
fn threads_take_turns_and_outlive_the_dead() {
    take_turns(false);
}

#[test]
fn threads_that_rob_each_other_do_each_operation_once() {
    take_turns(true);
}
