//! The lock: what becomes of its word, how long a waiter is patient, and threads that stand for
//! peers and take turns, kept from it neither by the dead nor by the slow.

use std::cell::{Cell, RefCell};
use std::sync::atomic::AtomicU64;
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use crate::first_fit::layout::{Area, Layout, Position};
use crate::first_fit::lock::{Acquired, Contender, Lock, LockWord};
use crate::first_fit::{Fault, FirstFit, Surroundings};
use crate::os::Parking;
use crate::segment::words::Words;
use crate::units::{LINE_WORDS, PeerSlot, WordIndex};

use super::memory::{Chunks, HEADER, Shared, THREADS};

/// Whether those who sleep believe that the time was over: then they steal all the time.
struct Yield(bool);

impl Parking for Yield {
    fn wait(&self, _word: &AtomicU64, _expected: u64, timeout: Duration) -> Duration {
        std::thread::yield_now();
        if self.0 { timeout } else { Duration::ZERO }
    }

    fn wake(&self, _word: &AtomicU64) {}

    fn wake_all(&self, _word: &AtomicU64) {}
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
    let memory = Chunks::new(layout.end().word().0);
    let words = Shared::new(&memory, Yield(is_impatient));
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
#[cfg_attr(miri, ignore = "a copy takes so long there that thieves without patience never end one")]
fn threads_that_rob_each_other_do_each_operation_once() {
    take_turns(true);
}

/// A state of the lock as FORMAT.md has it.
#[derive(Clone, Copy)]
struct State {
    session: u64,
    takeovers: u64,
    from: u64,
    to: u64,
    contended: bool,
    holder: Option<u16>,
}

const ABANDONED: Option<u16> = Some(u16::MAX - 1);
const ME: PeerSlot = PeerSlot(4);

impl State {
    fn word(self) -> LockWord {
        let Self { session, takeovers, from, to, contended, holder } = self;
        let fields = [
            session << 27,
            takeovers << 21,
            from << 19,
            to << 17,
            u64::from(contended) << 16,
            holder.map_or(0, |slot| u64::from(slot) + 1),
        ];
        LockWord::of(fields.iter().sum())
    }

    fn contended(self) -> Self {
        Self { contended: true, ..self }
    }

    /// Taken over by [`ME`], to store to that area.
    fn taken_over(self, takeovers: u64, to: u64) -> Self {
        Self { takeovers, to, contended: true, holder: Some(ME.0), ..self }
    }
}

/// Somebody is in area 2.
const HELD: State =
    State { session: 77, takeovers: 0, from: 2, to: 2, contended: false, holder: Some(1) };
/// A thief copies from area 1 to area 2.
const STOLEN: State = State { takeovers: 5, from: 1, contended: true, ..HELD };

/// The lock's word, whose sleepers sleep as long as they may. When they have slept for a given
/// time, the word becomes another.
struct Bed {
    word: Cell<u64>,
    looks: Cell<u64>,
    sleeps_ms: RefCell<Vec<u64>>,
    wakes: Cell<u32>,
    becomes: Option<(u64, State)>,
}

impl Bed {
    fn new(state: State) -> Self {
        Self {
            word: Cell::new(state.word().bits()),
            looks: Cell::default(),
            sleeps_ms: RefCell::default(),
            wakes: Cell::default(),
            becomes: None,
        }
    }

    fn slept_ms(&self) -> u64 {
        self.sleeps_ms.borrow().iter().sum()
    }

    fn expect(&self, state: State) {
        assert_eq!(LockWord::of(self.word.get()), state.word());
    }
}

impl Words for Bed {
    fn load(&self, _at: WordIndex) -> u64 {
        self.looks.set(self.looks.get() + 1);
        self.word.get()
    }

    fn load_line(&self, at: WordIndex) -> [u64; LINE_WORDS] {
        [self.load(at); LINE_WORDS]
    }

    fn store(&self, _at: WordIndex, value: u64) {
        self.word.set(value);
    }

    fn compare_exchange(&self, _at: WordIndex, current: u64, new: u64) -> Result<u64, u64> {
        let found = self.word.get();
        if found != current {
            return Err(found);
        }
        self.word.set(new);
        Ok(found)
    }

    fn wait(&self, _at: WordIndex, expected: u64, timeout: Duration) -> Duration {
        assert_eq!(self.word.get(), expected, "asleep on another word");
        self.sleeps_ms.borrow_mut().push(timeout.as_millis() as u64);
        if let Some((_, state)) = self.becomes.filter(|(at_ms, _)| *at_ms == self.slept_ms()) {
            self.word.set(state.word().bits());
        }
        timeout
    }

    fn wake(&self, _at: WordIndex) {
        self.wakes.set(self.wakes.get() + 1);
    }

    fn wake_all(&self, at: WordIndex) {
        self.wake(at);
    }
}

const COPYING_MS: u64 = 7;

fn lock() -> Lock {
    Lock::new(WordIndex(0))
}

/// A waiter for whom peer 9 is dead, and who has area 3 to copy to, but the first times.
#[derive(Default)]
struct Waiter {
    refusals: Cell<u32>,
}

impl Contender for Waiter {
    fn is_dead(&self, peer: PeerSlot) -> bool {
        peer == PeerSlot(9)
    }

    fn prepare_theft(&self, _held: LockWord) -> Option<Area> {
        match self.refusals.get().checked_sub(1) {
            None => Some(Area(3)),
            Some(left) => {
                self.refusals.set(left);
                None
            }
        }
    }

    fn copying(&self, from: Area) -> Duration {
        assert_eq!(from, Area(1), "what is copied is the truth");
        Duration::from_millis(COPYING_MS)
    }
}

#[test]
fn patience_doubles_with_each_takeover_and_allows_for_copying() {
    for (takeovers, counted, patience_ms) in
        [(0, 1, 20), (1, 2, 40), (2, 3, 80), (6, 7, 1280), (7, 8, 1280), (63, 32, 1280)]
    {
        for (from, copying) in [(2, 0), (1, COPYING_MS)] {
            let held = State { takeovers, from, ..HELD };
            let bed = Bed::new(held);
            let got = lock().acquire(&bed, ME, &Waiter::default());
            let stolen = held.taken_over(counted, 3);
            assert_eq!(got, Acquired::TakenOver(stolen.word()));
            bed.expect(stolen);
            let factor = patience_ms / 20;
            assert_eq!(bed.slept_ms(), patience_ms + copying * factor, "{takeovers} takeovers");
        }
    }
}

#[test]
fn a_waiter_looks_again_for_a_while_before_it_sleeps() {
    let bed = Bed { becomes: Some((1, State { holder: None, ..HELD })), ..Bed::new(HELD) };
    lock().acquire(&bed, ME, &Waiter::default());
    assert!((100..1000).contains(&bed.looks.get()), "{} times", bed.looks.get());
}

#[test]
fn sleeps_get_longer_and_end_with_the_patience() {
    let bed = Bed::new(State { takeovers: 3, ..HELD });
    lock().acquire(&bed, ME, &Waiter::default());
    assert_eq!(*bed.sleeps_ms.borrow(), [1, 2, 4, 8, 16, 32, 50, 47]);
}

#[test]
fn a_waiter_that_cannot_steal_is_patient_once_more() {
    let bed = Bed::new(HELD);
    lock().acquire(&bed, ME, &Waiter { refusals: Cell::new(2) });
    assert_eq!(*bed.sleeps_ms.borrow(), [1, 2, 4, 8, 5, 20, 20]);
}

#[test]
fn each_holder_is_given_the_whole_patience() {
    let next = State { session: 78, holder: Some(2), ..HELD };
    let bed = Bed { becomes: Some((7, next)), ..Bed::new(HELD) };
    let got = lock().acquire(&bed, ME, &Waiter::default());
    assert_eq!(got, Acquired::TakenOver(next.taken_over(1, 3).word()));
    assert_eq!(bed.slept_ms(), 7 + 20);
}

#[test]
fn a_lock_that_nobody_can_give_back_is_taken_at_once() {
    for holder in [Some(9), ABANDONED] {
        for state in [HELD, STOLEN] {
            let bed = Bed::new(State { holder, ..state });
            let taken = state.taken_over(state.takeovers + 1, 2);
            let got = lock().acquire(&bed, ME, &Waiter::default());
            assert_eq!(got, Acquired::TakenOver(taken.word()));
            bed.expect(taken);
            assert_eq!(bed.slept_ms(), 0);
        }
    }
}

#[test]
fn whoever_has_slept_leaves_word_that_others_may() {
    let free = State { holder: None, ..HELD };
    let mine = State { session: 78, holder: Some(ME.0), ..HELD };
    let bed = Bed::new(free);
    assert_eq!(lock().acquire(&bed, ME, &Waiter::default()), Acquired::Free(mine.word()));
    let bed = Bed { becomes: Some((3, free)), ..Bed::new(HELD) };
    let got = lock().acquire(&bed, ME, &Waiter::default());
    assert_eq!(got, Acquired::Free(mine.contended().word()));
    bed.expect(mine.contended());
}

#[test]
fn the_end_of_a_session_is_waited_for_and_no_longer() {
    let next = State { session: 78, ..HELD };
    let bed = Bed { becomes: Some((3, next)), ..Bed::new(HELD) };
    let waiter = Waiter::default();
    let got = lock().acquire_or_end(&bed, ME, &waiter, 77);
    assert_eq!(got, Acquired::Ended(next.word()));
    bed.expect(next);
    // Over, but for somebody who begins the next one.
    let bed = Bed::new(State { holder: None, ..HELD });
    let got = lock().acquire_or_end(&bed, ME, &waiter, 77);
    assert_eq!(got, Acquired::Free(State { holder: Some(ME.0), ..next }.word()));
}

#[test]
fn who_gives_the_lock_back_wakes_those_who_sleep() {
    for held in [HELD, STOLEN] {
        for found in [held, held.contended()] {
            let wakes = u32::from(found.contended);
            let bed = Bed::new(found);
            assert!(lock().release(&bed, held.word()));
            bed.expect(State { contended: false, holder: None, ..held });
            assert_eq!(bed.wakes.get(), wakes);
            let bed = Bed::new(found);
            assert!(lock().abandon(&bed, held.word()));
            bed.expect(State { contended: false, holder: ABANDONED, ..held });
            assert_eq!(bed.wakes.get(), wakes);
            let bed = Bed::new(found);
            let next = State { session: 78, takeovers: 0, from: 2, to: 2, ..found };
            assert_eq!(lock().advance(&bed, held.word()), Some(next.word()));
            bed.expect(next);
        }
    }
}

#[test]
fn a_lock_that_was_stolen_is_not_given_back() {
    let stolen = HELD.taken_over(1, 3);
    let bed = Bed::new(stolen);
    assert!(!lock().release(&bed, HELD.word()));
    assert!(!lock().abandon(&bed, HELD.word()));
    assert_eq!(lock().advance(&bed, HELD.word()), None);
    assert_eq!(lock().take_over(&bed, PeerSlot(1)), None);
    bed.expect(stolen);
    assert_eq!(bed.wakes.get(), 0);
    assert_eq!(lock().take_over(&bed, ME), Some(stolen.taken_over(2, 3).word()));
}
