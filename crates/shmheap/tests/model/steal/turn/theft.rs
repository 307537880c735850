//! How a peer gets the lock: free, from the dead, or from a holder that is alive; and what it does
//! about what was under way before it goes on.

use super::{Turn, left};
use crate::steal::{AREAS, At, Entry, Kind, Lock, Mutation, OBJECTS, Operation, Peer, Pin, State};

/// Words of an area, in the order in which they are copied: the objects, their count, the bits of
/// entries with the marks, and last the journal.
const COUNT: u8 = OBJECTS as u8;
const DONE: u8 = COUNT + 1;
const JOURNAL: u8 = DONE + 1;

impl Turn<'_> {
    pub(super) fn acquire(&mut self) {
        let lock = self.state.lock;
        if let Some((_, word)) = self.me().robbed
            && (lock.session != word.session || self.mutated(Mutation::LooksForHelpAtOnce))
        {
            return self.move_on("sees that its session is over", At::LookForHelp(lock.from));
        }
        match lock.holder {
            None => {
                let word = Lock { holder: Some(self.me), session: lock.session + 1, ..lock };
                self.take("acquires", word, At::Decide);
            }
            Some(holder) if self.state.is_dead(holder) => self.take_over(),
            Some(holder) if holder != self.me && self.state.thefts < self.model.thefts => {
                let pin = self.state.pins[usize::from(lock.to)];
                if self.mutated(Mutation::PinReadAfterLock) {
                    self.move_on("reads the lock", At::ReadPin(lock));
                } else if self.mutated(Mutation::NotPinned) {
                    self.move_on("reads the lock", At::Steal(lock));
                } else {
                    self.move_on("reads a pin", At::ReadLock { area: lock.to, pin });
                }
            }
            Some(_) => {}
        }
    }

    fn take(&mut self, does: &'static str, word: Lock, at: At) {
        self.add(does, at, |next, me| {
            next.lock = word;
            next.peers[me].word = word;
        });
    }

    /// From the dead, in place.
    pub(super) fn take_over(&mut self) {
        let lock = self.state.lock;
        let word = Lock { holder: Some(self.me), takeovers: lock.takeovers + 1, ..lock };
        let at = if lock.from == lock.to {
            At::Recover(0)
        } else if self.mutated(Mutation::CopyOfTheDeadTrusted) {
            At::CommitCopy
        } else {
            self.start_copy(lock)
        };
        self.take("takes over from the dead", word, at);
    }

    fn start_copy(&self, lock: Lock) -> At {
        let journal = self.state.areas[usize::from(lock.from)].journal;
        At::Copy { word: 0, seen: self.mutated(Mutation::JournalReadFirst).then_some(journal) }
    }

    pub(super) fn steal(&mut self, at: At) {
        let lock = self.state.lock;
        match at {
            At::ReadLock { area, pin } if lock.to == area && lock.holder.is_some() => {
                self.move_on("reads the lock", At::SetPin(lock, pin));
            }
            At::ReadPin(word) => {
                let pin = self.state.pins[usize::from(word.to)];
                self.move_on("reads the pin", At::SetPin(word, pin));
            }
            At::SetPin(word, pin) if self.state.pins[usize::from(word.to)] == pin => {
                let Lock { holder, to, session, takeovers, .. } = word;
                self.add("pins", At::Steal(word), |next, _| {
                    next.pins[usize::from(to)] = Pin { holder, session, takeovers };
                });
            }
            At::Steal(word) if word == lock => {
                // All free areas are alike.
                let Some(to) = (0..AREAS).find(|&area| self.is_free(area)) else {
                    return self.move_on("finds no free area", At::Acquire);
                };
                let (to, takeovers) = (to as u8, lock.takeovers + 1);
                let word = Lock { holder: Some(self.me), to, takeovers, ..lock };
                let at = self.start_copy(lock);
                self.add("steals", at, |next, me| {
                    next.lock = word;
                    next.peers[me].word = word;
                    next.thefts += 1;
                });
            }
            _ => self.move_on("finds it changed", At::Acquire),
        }
    }

    fn is_free(&self, area: usize) -> bool {
        let Lock { from, to, .. } = self.state.lock;
        let pinned = self.state.pins[area].holder.is_some_and(|holder| !self.state.is_dead(holder));
        let in_lock = [from, to].contains(&(area as u8));
        !in_lock && (!pinned || self.mutated(Mutation::PinnedAreaReused))
    }

    pub(super) fn copy(&mut self, word: u8, seen: Option<Option<(u8, Operation)>>) {
        let from = self.state.areas[usize::from(self.me().word.from)];
        let to = self.area();
        if word == JOURNAL {
            return self.recover_copy(seen.unwrap_or(from.journal));
        }
        self.add("copies a word", At::Copy { word: word + 1, seen }, |next, _| {
            let to = &mut next.areas[to];
            match word {
                COUNT => to.count = from.count,
                DONE => (to.done, to.helped) = (from.done, from.helped),
                object => to.live[usize::from(object)] = from.live[usize::from(object)],
            }
        });
    }

    /// Nobody else looks at the copy, so what is done to it is one step.
    fn recover_copy(&mut self, journal: Option<(u8, Operation)>) {
        let (word, to) = (self.me().word, self.area());
        let (unmarked, outside) =
            (self.mutated(Mutation::NotMarkedHelped), self.mutated(Mutation::MarkedOutsideTheArea));
        let stores_entry = self.mutated(Mutation::RecoveryStoresEntry);
        let from = usize::from(word.from);
        self.add("reads the journal and recovers", At::CommitCopy, |next, _| {
            next.areas[to].journal = journal;
            let Some((_, operation)) = journal.filter(|(session, _)| *session == word.session)
            else {
                return;
            };
            for word in 0..JOURNAL {
                recover_word(next, to, word, operation);
            }
            if stores_entry {
                next.peers[usize::from(operation.entry)].entry = Entry::None;
            }
            match operation.kind {
                Kind::Free if outside => next.marks[from] = word.session,
                Kind::Free if !unmarked => next.areas[to].helped[from] = word.session,
                _ => {}
            }
        });
    }

    /// In the area of a dead holder, a word at a time.
    pub(super) fn recover(&mut self, word: u8) {
        let area = self.area();
        let session = self.me().word.session;
        let pending = self.state.areas[area].journal.filter(|(of, _)| *of == session);
        let Some((_, operation)) = pending else {
            return self.move_on("finds nothing pending", At::CommitRecovery);
        };
        let stores_entry = self.mutated(Mutation::RecoveryStoresEntry);
        if word == JOURNAL && stores_entry {
            return self.add("stores the entry", At::CommitRecovery, |next, _| {
                next.peers[usize::from(operation.entry)].entry = Entry::None;
            });
        }
        let last = if stores_entry { JOURNAL } else { DONE };
        let at = if word == last { At::CommitRecovery } else { At::Recover(word + 1) };
        self.add("recovers a word", at, |next, _| recover_word(next, area, word, operation));
    }

    pub(super) fn commit_recovery(&mut self) {
        let word = self.me().word;
        let same = self.mutated(Mutation::RecoveryInTheSameSession);
        let session = if same { word.session } else { word.session + 1 };
        match self.own(Some(self.me), session) {
            Some(_) if self.mutated(Mutation::CurrentRaisedTooLate) => {
                self.add("commits what it recovered", At::Decide, |next, me| {
                    next.lock = Lock { from: word.to, session, ..word };
                    next.peers[me] = Peer { word: next.lock, raises: true, ..next.peers[me] };
                });
            }
            Some(next) => self.take("commits what it recovered", next, At::RaiseCurrent),
            None => self.move_on("was robbed", At::Leave),
        }
    }

    /// Says that it is in its area no longer.
    pub(super) fn leave(&mut self) {
        let word = self.me().word;
        self.add("leaves", At::Acquire, |next, _| left(next, word));
    }
}

/// Brings a word of the area to where recovery wants it: the object free, whichever the operation.
fn recover_word(state: &mut State, area: usize, word: u8, operation: Operation) {
    let area = &mut state.areas[area];
    match word {
        COUNT => area.count = operation.count,
        DONE => {
            let is_done = operation.kind == Kind::Free;
            area.done[usize::from(operation.entry)] = operation.done == is_done;
        }
        word if word == operation.object => area.live[usize::from(word)] = false,
        _ => {}
    }
}
