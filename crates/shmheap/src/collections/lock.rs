//! `Lock`: one word that writers take in turns, and that outlives whoever holds it.
//!
//! ```text
//!   63             32 31      18   17           16         15       0
//!  +-----------------+----------+------------+-----------+-----------+
//!  | joins of the    | 0        | unfinished | awaited   | slot of   |
//!  | holder's record |          |            |           | holder + 1|     0: free
//!  +-----------------+----------+------------+-----------+-----------+
//! ```
//!
//! Who waits sleeps a moment at a time and then asks the kernel whether the holder lives. A dead
//! one's lock is taken over by an exchange of the very word that named it, and whoever takes it
//! over is told that it has to set things right first. If that cannot be done now, the lock is
//! released as *unfinished*, and the next one is told the same.
//!
//! It is no lock for the threads of one process that call themselves: who waits for itself waits
//! until its patience ends.

use std::time::Duration;

use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Error, Result};

/// Whoever has waited is to be followed by a wake.
const AWAITED: u64 = 1 << 16;
/// The last holder left things half done.
const UNFINISHED: u64 = 1 << 17;

/// How often the word is looked at before the first sleep: longer than a change takes.
const LOOKS: u32 = 100;
/// The first sleep, after which the holder's life is looked into.
const FIRST_SLEEP: Duration = Duration::from_micros(500);
/// Later ones: how late a death is noticed, and a wake that went to somebody who died of it.
const SLEEP: Duration = Duration::from_millis(10);

/// A lock that this process has; released when dropped.
#[derive(Debug)]
pub(super) struct Held<W: Words> {
    words: W,
    at: WordIndex,
    me: u64,
    /// Whether what the lock guards may be half changed.
    pub(super) is_unfinished: bool,
}

/// Takes the lock. If what it guards may be half changed, the holder says so.
///
/// # Errors
///
/// [`Error::TimedOut`] after `patience`, [`Error::ReadOnly`].
#[inline]
pub(super) fn take<W: Words>(
    words: W,
    at: WordIndex,
    roll: &impl Roll,
    patience: Duration,
) -> Result<Held<W>> {
    let me = roll.me()?.word();
    let is_unfinished = match words.compare_exchange(at, 0, me) {
        Ok(_) => false,
        Err(_) => wait(&words, at, me, roll, patience)?,
    };
    Ok(Held { words, at, me, is_unfinished })
}

/// Whether the lock is somebody's who is dead, or what it guards is half changed.
pub(super) fn is_abandoned(words: &impl Words, at: WordIndex, roll: &impl Roll) -> bool {
    let word = words.load(at);
    match PeerId::of_word(word) {
        Some(holder) => !roll.is_alive(holder),
        None => word & UNFINISHED != 0,
    }
}

#[cold]
fn wait(
    words: &impl Words,
    at: WordIndex,
    me: u64,
    roll: &impl Roll,
    patience: Duration,
) -> Result<bool> {
    let is_free = |word| PeerId::of_word(word).is_none();
    // Whatever the clock says, each turn costs some of the patience.
    let turn = Duration::from_micros(1);
    for _ in 0..LOOKS {
        if is_free(words.load(at)) {
            break;
        }
        std::hint::spin_loop();
    }
    let (mut left, mut sleep, mut flags) = (patience, FIRST_SLEEP, 0);
    let mut has_slept = false;
    loop {
        let (word, is_over) = (words.load(at), left.is_zero());
        let holder = PeerId::of_word(word);
        // Other threads of this process live as it does.
        let is_dead = |holder: PeerId| {
            (has_slept || is_over) && holder.word() != me && !roll.is_alive(holder)
        };
        let can_be_had = holder.is_none_or(is_dead);
        // Others may sleep, and the word does not tell any more.
        let mine = me | flags | word & AWAITED;
        if can_be_had && words.compare_exchange(at, word, mine).is_ok() {
            return Ok(holder.is_some() || word & UNFINISHED != 0);
        }
        if is_over {
            return Err(Error::TimedOut { what: "a writer's turn in a ShmMap" });
        }
        let awaited = word | AWAITED;
        let is_marked = || word == awaited || words.compare_exchange(at, word, awaited).is_ok();
        if can_be_had || !is_marked() {
            left = left.saturating_sub(turn);
            continue;
        }
        let slept = words.wait(at, awaited, sleep.min(left));
        left = left.saturating_sub(slept.max(turn));
        (sleep, flags, has_slept) = (SLEEP, AWAITED, true);
    }
}

impl<W: Words> Drop for Held<W> {
    #[inline]
    fn drop(&mut self) {
        let free = if self.is_unfinished { UNFINISHED } else { 0 };
        let mut word = self.me;
        // Until nobody sets a flag meanwhile, or somebody has overwritten the word.
        while let Err(now) = self.words.compare_exchange(self.at, word, free) {
            if PeerId::of_word(now).is_none_or(|holder| holder.word() != self.me) {
                return;
            }
            word = now;
        }
        if word & AWAITED != 0 {
            self.words.wake(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Futex;
    use crate::segment::words::Row;
    use crate::units::PeerSlot;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    const AT: WordIndex = WordIndex(0);
    const LONG: Duration = Duration::from_secs(600);

    struct Peer {
        id: PeerId,
        others_live: AtomicBool,
    }

    impl Roll for Peer {
        fn me(&self) -> Result<PeerId> {
            Ok(self.id)
        }

        fn is_alive(&self, peer: PeerId) -> bool {
            peer == self.id || self.others_live.load(Ordering::Relaxed)
        }
    }

    fn peer(slot: u16) -> Peer {
        Peer { id: PeerId::new(PeerSlot(slot), 1), others_live: AtomicBool::new(true) }
    }

    #[test]
    fn threads_take_turns() {
        let memory = [const { AtomicU64::new(0) }; 2];
        let words = Row::new(&memory, Futex);
        std::thread::scope(|scope| {
            for slot in 0..4 {
                scope.spawn(move || {
                    let peer = peer(slot);
                    for _ in 0..5_000 {
                        let held = take(words, AT, &peer, LONG).unwrap();
                        assert!(!held.is_unfinished);
                        let count = words.load(WordIndex(1));
                        words.store(WordIndex(1), count + 1);
                    }
                });
            }
        });
        assert_eq!(words.load(WordIndex(1)), 4 * 5_000);
        assert_eq!(words.load(AT), 0);
    }

    #[test]
    fn a_dead_holder_is_followed_and_what_it_left_is_told_until_it_is_finished() {
        let memory = [const { AtomicU64::new(0) }; 1];
        let words = Row::new(&memory, Futex);
        let (one, other) = (peer(1), peer(2));
        std::mem::forget(take(words, AT, &one, LONG).unwrap());
        let refused = take(words, AT, &other, Duration::from_millis(1)).unwrap_err();
        assert!(matches!(refused, Error::TimedOut { .. }), "{refused}");
        assert!(!is_abandoned(&words, AT, &other));
        other.others_live.store(false, Ordering::Relaxed);
        let held = take(words, AT, &other, Duration::ZERO).unwrap();
        assert!(held.is_unfinished, "whose patience is over looks whether the holder lives");
        std::mem::forget(held);
        words.store(AT, one.id.word());
        assert!(is_abandoned(&words, AT, &other));
        for _ in 0..2 {
            let held = take(words, AT, &other, LONG).unwrap();
            assert!(held.is_unfinished);
            drop(held);
            assert!(is_abandoned(&words, AT, &other));
        }
        let mut held = take(words, AT, &other, LONG).unwrap();
        held.is_unfinished = false;
        drop(held);
        assert!(!take(words, AT, &other, LONG).unwrap().is_unfinished);
    }

    /// The wake of a release reaches one sleeper; that one has to wake the next.
    #[test]
    fn whoever_has_slept_wakes_another() {
        let memory = [const { AtomicU64::new(0) }; 1];
        let words = Row::new(&memory, Futex);
        let held = take(words, AT, &peer(1), LONG).unwrap();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                let held = take(words, AT, &peer(2), LONG).unwrap();
                let word = words.load(AT);
                drop(held);
                word
            });
            while words.load(AT) & AWAITED == 0 {
                std::thread::yield_now();
            }
            drop(held);
            assert_ne!(sleeper.join().unwrap() & AWAITED, 0);
        });
        assert_eq!(words.load(AT), 0);
    }

    #[test]
    fn any_word_is_followed_or_refused() {
        for word in [u64::MAX, 0xffff, 5 << 32 | 3, AWAITED, UNFINISHED | AWAITED, 1 << 40] {
            let memory = [AtomicU64::new(word)];
            let words = Row::new(&memory, Futex);
            let peer = peer(7);
            let taken = take(words, AT, &peer, Duration::from_millis(1));
            assert_eq!(taken.is_ok(), word & 0xffff == 0, "{word:#x}");
            peer.others_live.store(false, Ordering::Relaxed);
            drop(taken);
            let held = take(words, AT, &peer, LONG).unwrap();
            words.store(AT, word);
            drop(held);
        }
    }
}
