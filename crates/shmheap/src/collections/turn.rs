//! `Turn`: whose turn it is to change something, by the word of a lock of `sync`.
//!
//! A turn that ends as *unfinished*, because its process was killed or could not set right what it
//! had found, is told to the next one as *in doubt*, which then has to set things right first.

use std::time::Duration;

use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;
use crate::sync::{Owned, Patience, Waiting, Want};
use crate::units::WordIndex;
use crate::{Error, Result};

const WHAT: &str = "a writer's turn in a ShmMap";

/// A turn that this process has; ends when dropped.
#[derive(Debug)]
pub(super) struct Turn<'r, W: Words, R: Roll> {
    words: W,
    roll: &'r R,
    lock: Owned,
    me: PeerId,
    /// Whether what the lock guards may be half changed.
    pub(super) is_unfinished: bool,
}

impl<'r, W: Words, R: Roll> Turn<'r, W, R> {
    /// Waits for the turn. If what it is about may be half changed, the turn says so.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`] after `patience`, [`Error::ReadOnly`].
    #[inline]
    pub(super) fn take(words: W, at: WordIndex, roll: &'r R, patience: Duration) -> Result<Self> {
        let (me, lock) = (roll.me()?, Owned::new(at, WHAT));
        // A clock is not asked by who need not wait.
        let is_unfinished = if lock.try_acquire(&words, me) {
            false
        } else {
            let mut waiting = Waiting::new(Patience::of(patience), WHAT);
            lock.acquire(&words, roll, me, Want::Any, &mut waiting)?.0
        };
        Ok(Self { words, roll, lock, me, is_unfinished })
    }

    /// Whether this process has the turn.
    ///
    /// # Errors
    ///
    /// [`Error::NotOwner`] in a child that was forked meanwhile: the turn is its parent's.
    pub(super) fn confirm(&self) -> Result<()> {
        if self.is_ours() { Ok(()) } else { Err(Error::NotOwner { what: WHAT }) }
    }

    fn is_ours(&self) -> bool {
        self.roll.me().is_ok_and(|me| me == self.me)
    }
}

impl<W: Words, R: Roll> Drop for Turn<'_, W, R> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_ours() {
            return;
        }
        if self.is_unfinished {
            self.lock.orphan(&self.words, self.me);
        } else {
            self.lock.release(&self.words, self.me);
        }
    }
}

/// Whether the turn is that of somebody who is dead, or what it is about is half changed.
pub(super) fn is_abandoned(words: &impl Words, at: WordIndex, roll: &impl Roll) -> bool {
    Owned::new(at, WHAT).is_abandoned(words, roll)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Futex;
    use crate::segment::words::Row;
    use crate::units::PeerSlot;
    use std::cell::Cell;
    use std::sync::atomic::AtomicU64;

    const AT: WordIndex = WordIndex(0);
    const LONG: Duration = Duration::from_secs(600);

    #[derive(Debug)]
    struct Peer {
        id: Cell<PeerId>,
        others_live: Cell<bool>,
    }

    impl Roll for Peer {
        fn me(&self) -> Result<PeerId> {
            Ok(self.id.get())
        }

        fn is_alive(&self, peer: PeerId) -> bool {
            peer == self.id.get() || self.others_live.get()
        }
    }

    fn peer(slot: u16) -> Peer {
        Peer { id: Cell::new(PeerId::new(PeerSlot(slot), 1)), others_live: Cell::new(true) }
    }

    #[test]
    fn a_dead_ones_turn_is_taken_and_in_doubt_until_it_is_finished() {
        let memory = [const { AtomicU64::new(0) }; 1];
        let words = Row::new(&memory, Futex);
        let (one, other) = (peer(1), peer(2));
        std::mem::forget(Turn::take(words, AT, &one, LONG).unwrap());
        let refused = Turn::take(words, AT, &other, Duration::from_millis(1)).unwrap_err();
        assert!(matches!(refused, Error::TimedOut { .. }), "{refused}");
        assert!(!is_abandoned(&words, AT, &other));
        other.others_live.set(false);
        assert!(is_abandoned(&words, AT, &other));
        for _ in 0..2 {
            let turn = Turn::take(words, AT, &other, Duration::ZERO).unwrap();
            assert!(turn.is_unfinished);
            drop(turn);
            assert!(is_abandoned(&words, AT, &other));
        }
        let mut turn = Turn::take(words, AT, &other, LONG).unwrap();
        turn.is_unfinished = false;
        drop(turn);
        assert!(!Turn::take(words, AT, &other, LONG).unwrap().is_unfinished);
        assert!(!is_abandoned(&words, AT, &other));
    }

    #[test]
    fn a_forked_child_does_not_end_its_parents_turn() {
        let memory = [const { AtomicU64::new(0) }; 1];
        let words = Row::new(&memory, Futex);
        let parent = peer(1);
        let turn = Turn::take(words, AT, &parent, LONG).unwrap();
        turn.confirm().unwrap();
        let id = parent.id.replace(PeerId::new(PeerSlot(2), 1));
        assert!(matches!(turn.confirm(), Err(Error::NotOwner { .. })));
        drop(turn);
        assert_eq!(words.load(AT), id.word());
    }
}
