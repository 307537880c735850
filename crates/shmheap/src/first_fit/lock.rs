//! The lock of a first-fit heap: one word that says who holds it and where the truth is, and that
//! no killed or stopped holder keeps.
//!
//! ```text
//!   63            27   26        21   20  19   18  17      16      15            0
//!  +----------------+--------------+---------+--------+-----------+---------------+
//!  |  session       |  takeovers   |  from   |  to    | contended |  holder + 1   |
//!  +----------------+--------------+---------+--------+-----------+---------------+
//! ```
//!
//! | holder | contended | state |
//! |---|---|---|
//! | 0 | 0 | free |
//! | s + 1 | 0 | peer s is inside, nobody sleeps |
//! | s + 1 | 1 | peer s is inside, somebody may sleep on the word |
//! | 65535 | | nobody is inside, and what its session has announced is to be recovered |
//!
//! The area *from* holds the truth; the holder stores to *to* and nowhere else. They are the same,
//! but while the holder copies the one to the other (`theft`).
//!
//! `session` counts acquisitions: it names the one operation that its holder may announce in the
//! journal, and that is done by the exchange that frees the lock. Whoever takes the lock over from
//! the dead, or steals it, is in the same session until what was announced in it is recovered.
//! `takeovers` counts these within the session. By both no state of the word comes back while it
//! matters: a process that decided on an old state fails its compare-and-exchange, and so does a
//! holder that was robbed when it would free the lock.
//!
//! No kernel lock stands behind it. A waiter that has spun for a while asks for the holder's proof
//! of life; if that is gone, the holder has stopped executing for good, and the waiter takes the
//! lock over in one exchange and recovers by the journal. Sleepers wake by themselves after a
//! while, so a holder that dies between releasing and waking costs a delay, not a hang. A holder
//! that lives, and yet keeps a waiter longer than its patience, is robbed. The patience is twice as
//! long for each time that the session was taken over, and longer for a holder that has much to
//! copy, so that thieves on a crowded machine let one of them finish.

use std::hint;
use std::time::Duration;

use super::layout::{AREAS, Area};
use crate::segment::words::Words;
use crate::units::{PeerSlot, WordIndex};

const HOLDER_MASK: u64 = 0xffff;
const CONTENDED: u64 = 1 << 16;
const TO_SHIFT: u32 = 17;
const FROM_SHIFT: u32 = 19;
const AREA_MASK: u64 = 3;
const TAKEOVER: u64 = 1 << 21;
const SESSION_SHIFT: u32 = 27;
const SESSION: u64 = 1 << SESSION_SHIFT;
const TAKEOVERS_MASK: u64 = SESSION - TAKEOVER;
const _: () = assert!(AREAS == AREA_MASK + 1);
/// Stands for the number of a holder that is no more and has left something to recover.
const ABANDONED: u64 = HOLDER_MASK;
/// How often a waiter looks again before it asks for proof of life and sleeps: some microseconds.
const SPIN_COUNT: u32 = 200;
const SLEEP_MIN: Duration = Duration::from_millis(1);
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// How long a holder may keep a waiter: many times what an operation takes, and more than a
/// scheduler usually keeps a process from a processor.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often the patience is doubled at the most.
const DOUBLINGS_MAX: u32 = 6;
/// Where the count of takeovers goes on from behind its end: no less patient than before.
const TAKEOVERS_AGAIN: u64 = 32 * TAKEOVER;

/// A state of the lock; also which acquisition of it a pin or a robbed holder means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockWord(u64);

impl LockWord {
    #[inline]
    pub(super) fn of(bits: u64) -> Self {
        Self(bits)
    }

    #[inline]
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    #[inline]
    pub(super) fn holder(self) -> Option<PeerSlot> {
        let number = (self.0 & HOLDER_MASK) as u16;
        number.checked_sub(1).map(PeerSlot)
    }

    #[inline]
    pub(super) fn session(self) -> u64 {
        self.0 >> SESSION_SHIFT
    }

    /// Where the truth is.
    #[inline]
    pub(super) fn from(self) -> Area {
        Area((self.0 >> FROM_SHIFT & AREA_MASK) as u8)
    }

    /// Where the holder stores.
    #[inline]
    pub(super) fn to(self) -> Area {
        Area((self.0 >> TO_SHIFT & AREA_MASK) as u8)
    }

    /// The state but for who waits: which acquisition it is.
    #[inline]
    pub(super) fn acquisition(self) -> Self {
        Self(self.0 & !CONTENDED)
    }

    /// The acquisition, over.
    #[inline]
    pub(super) fn without_holder(self) -> Self {
        Self(self.0 & !(CONTENDED | HOLDER_MASK))
    }

    fn is_contended(self) -> bool {
        self.0 & CONTENDED != 0
    }

    pub(super) fn is_abandoned(self) -> bool {
        self.0 & HOLDER_MASK == ABANDONED
    }

    fn takeovers(self) -> u32 {
        ((self.0 & TAKEOVERS_MASK) / TAKEOVER) as u32
    }

    /// The state in which `me` has the next session, in the area that holds the truth.
    #[inline]
    fn held_by(self, me: PeerSlot, contended: u64) -> Self {
        self.in_next_session(self.from(), contended | (u64::from(me.0) + 1))
    }

    #[inline]
    fn in_next_session(self, area: Area, low: u64) -> Self {
        let area = u64::from(area.0);
        let areas = area << FROM_SHIFT | area << TO_SHIFT;
        Self(self.session().wrapping_add(1) << SESSION_SHIFT | areas | low)
    }

    /// The state in which `me` has taken the lock over, in the same session.
    fn taken_over_by(self, me: PeerSlot) -> Self {
        let takeovers = match self.0 & TAKEOVERS_MASK {
            TAKEOVERS_MASK => TAKEOVERS_AGAIN,
            takeovers => takeovers + TAKEOVER,
        };
        let others = self.0 & !(TAKEOVERS_MASK | CONTENDED | HOLDER_MASK);
        Self(others | takeovers | CONTENDED | (u64::from(me.0) + 1))
    }

    /// The state in which `me` has stolen the lock, to copy the truth to the area `to`.
    fn stolen_by(self, me: PeerSlot, to: Area) -> Self {
        let taken = self.taken_over_by(me).0 & !(AREA_MASK << TO_SHIFT);
        Self(taken | u64::from(to.0) << TO_SHIFT)
    }
}

/// The lock of one heap.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    at: WordIndex,
}

/// How the lock was acquired, and its word then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acquired {
    /// Nobody has left anything.
    Free(LockWord),
    /// What the session has announced is to be recovered.
    TakenOver(LockWord),
    /// It was not: the session that was to end has ended.
    Ended(LockWord),
}

/// What the lock asks of whoever wants it.
pub(super) trait Contender {
    /// Whether the peer is certainly dead; `false` if in doubt.
    fn is_dead(&self, peer: PeerSlot) -> bool;

    /// Prepares the theft of the lock from a holder that lives: the area to copy to, if there is
    /// one and the lock is still as given.
    fn prepare_theft(&self, held: LockWord) -> Option<Area>;

    /// Is told that the theft was done.
    fn has_robbed(&self, holder: PeerSlot) {
        let _ = holder;
    }

    /// How long a holder may need to copy what is in the area, at the worst.
    fn copying(&self, from: Area) -> Duration;
}

/// What a waiter remembers.
struct Wait {
    spins: u32,
    sleep: Duration,
    /// Whoever has slept must assume that others still do.
    contended: u64,
    /// Which acquisition keeps it waiting, and for how long by now.
    held: LockWord,
    slept: Duration,
    /// The session whose end is all that is waited for.
    session: Option<u64>,
}

impl Wait {
    fn new(session: Option<u64>) -> Self {
        let (held, slept) = (LockWord::of(0), Duration::ZERO);
        Self { spins: 0, sleep: SLEEP_MIN, contended: 0, held, slept, session }
    }

    /// How much longer the holder is waited for.
    fn patience(&mut self, word: LockWord, contender: &impl Contender) -> Duration {
        if self.held != word.acquisition() {
            self.held = word.acquisition();
            self.slept = Duration::ZERO;
        }
        let mut patience = PATIENCE;
        if word.from() != word.to() {
            patience += contender.copying(word.from());
        }
        (patience * (1 << word.takeovers().min(DOUBLINGS_MAX))).saturating_sub(self.slept)
    }
}

impl Lock {
    pub(super) fn new(at: WordIndex) -> Self {
        Self { at }
    }

    /// Its state.
    #[inline]
    pub(super) fn load(&self, words: &impl Words) -> LockWord {
        LockWord::of(words.load(self.at))
    }

    /// Takes the lock, from nobody, from the dead, or from who has it for too long.
    #[inline]
    pub(super) fn acquire(
        &self,
        words: &impl Words,
        me: PeerSlot,
        contender: &impl Contender,
    ) -> Acquired {
        let word = self.load(words);
        let held = word.held_by(me, 0);
        if word.holder().is_some() || !self.exchange(words, word, held) {
            return self.acquire_contended(words, me, contender, Wait::new(None));
        }
        Acquired::Free(held)
    }

    /// Waits until the session is over; or takes the lock, if it is for `me` to bring that about.
    pub(super) fn acquire_or_end(
        &self,
        words: &impl Words,
        me: PeerSlot,
        contender: &impl Contender,
        session: u64,
    ) -> Acquired {
        self.acquire_contended(words, me, contender, Wait::new(Some(session)))
    }

    #[cold]
    fn acquire_contended(
        &self,
        words: &impl Words,
        me: PeerSlot,
        contender: &impl Contender,
        mut wait: Wait,
    ) -> Acquired {
        loop {
            let word = self.load(words);
            if wait.session.is_some_and(|session| word.session() != session) {
                return Acquired::Ended(word);
            }
            let mut robbed = None;
            let (next, how): (LockWord, fn(LockWord) -> Acquired) = match word.holder() {
                None => (word.held_by(me, wait.contended), Acquired::Free),
                Some(_) if word.is_abandoned() => (word.taken_over_by(me), Acquired::TakenOver),
                Some(_) if wait.spins < SPIN_COUNT => {
                    wait.spins += 1;
                    hint::spin_loop();
                    continue;
                }
                Some(peer) if contender.is_dead(peer) => {
                    (word.taken_over_by(me), Acquired::TakenOver)
                }
                Some(peer) => match self.wait(words, word, &mut wait, contender) {
                    Some(to) => {
                        robbed = Some(peer);
                        (word.stolen_by(me, to), Acquired::TakenOver)
                    }
                    None => continue,
                },
            };
            if self.exchange(words, word, next) {
                robbed.into_iter().for_each(|peer| contender.has_robbed(peer));
                return how(next);
            }
        }
    }

    /// Sleeps for a while; or, if the waiter has no patience left, says which area the theft of the
    /// lock may copy to.
    fn wait(
        &self,
        words: &impl Words,
        word: LockWord,
        wait: &mut Wait,
        contender: &impl Contender,
    ) -> Option<Area> {
        let mut patience = wait.patience(word, contender);
        if patience.is_zero() {
            let to = contender.prepare_theft(word);
            if to.is_some() {
                return to;
            }
            wait.slept = Duration::ZERO;
            patience = PATIENCE;
        }
        let waited = LockWord(word.0 | CONTENDED);
        if waited == word || self.exchange(words, word, waited) {
            wait.contended = CONTENDED;
            wait.slept += words.wait(self.at, waited.0, wait.sleep.min(patience));
            wait.sleep = SLEEP_MAX.min(wait.sleep * 2);
        }
        None
    }

    /// Takes the lock from a dead process that held it as peer `slot`. The caller has the slot's
    /// proof of life in hand, so whoever held the lock under that number is no more.
    pub(super) fn take_over(&self, words: &impl Words, slot: PeerSlot) -> Option<LockWord> {
        loop {
            let word = self.load(words);
            if word.holder() != Some(slot) {
                return None;
            }
            let taken = word.taken_over_by(slot);
            // Refused if somebody has just begun to wait.
            if self.exchange(words, word, taken) {
                return Some(taken);
            }
        }
    }

    /// What the session had announced is recovered, in the area where the holder stores: that holds
    /// the truth from now on, and the lock goes to the next session, which may announce something
    /// itself. `None` if the lock is no longer so.
    pub(super) fn advance(&self, words: &impl Words, held: LockWord) -> Option<LockWord> {
        let next =
            |word: LockWord| word.in_next_session(word.to(), word.0 & (CONTENDED | HOLDER_MASK));
        self.change(words, held, next).map(next)
    }

    /// Gives the lock back with something left to recover, for whoever comes next; whether it was
    /// still so.
    pub(super) fn abandon(&self, words: &impl Words, held: LockWord) -> bool {
        let abandoned = |word: LockWord| LockWord(word.without_holder().0 | ABANDONED);
        self.leave(words, held, abandoned)
    }

    /// Gives the lock back, and makes what the session has done part of the heap; `false` if the
    /// lock was stolen: nothing is done then, or a thief has done it.
    #[inline]
    pub(super) fn release(&self, words: &impl Words, held: LockWord) -> bool {
        self.leave(words, held, LockWord::without_holder)
    }

    #[inline]
    fn leave(&self, words: &impl Words, held: LockWord, to: impl Fn(LockWord) -> LockWord) -> bool {
        match self.change(words, held, to) {
            Some(word) => {
                if word.is_contended() {
                    words.wake(self.at);
                }
                true
            }
            None => false,
        }
    }

    /// Changes the word, if the acquisition is still that, and returns what it was.
    #[inline]
    fn change(
        &self,
        words: &impl Words,
        held: LockWord,
        to: impl Fn(LockWord) -> LockWord,
    ) -> Option<LockWord> {
        let mut word = held;
        loop {
            match words.compare_exchange(self.at, word.0, to(word).0) {
                Ok(_) => return Some(word),
                // Somebody waits now.
                Err(found) if found == held.0 | CONTENDED && found != word.0 => {
                    word = LockWord(found);
                }
                Err(_) => return None,
            }
        }
    }

    #[inline]
    fn exchange(&self, words: &impl Words, current: LockWord, new: LockWord) -> bool {
        words.compare_exchange(self.at, current.0, new.0).is_ok()
    }
}
