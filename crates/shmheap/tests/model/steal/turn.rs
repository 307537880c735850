//! What a peer of the model of thefts does, and what is done in its name once it is dead.

use super::{At, Entry, Kind, Lock, Mutation, Operation, Peer, Pin, State, Steal};
use crate::explorer::{Life, Steps};

mod theft;

/// The steps of one peer, or of those who adopt it, from one state.
pub(super) struct Turn<'t> {
    pub(super) model: &'t Steal,
    pub(super) state: &'t State,
    pub(super) me: u8,
    pub(super) steps: &'t mut Steps<State>,
}

impl Turn<'_> {
    fn add(&mut self, does: &'static str, at: At, change: impl FnOnce(&mut State, usize)) {
        let (mut next, me) = (*self.state, usize::from(self.me));
        next.peers[me].at = at;
        change(&mut next, me);
        let peer = &mut next.peers[me];
        if matches!(peer.at, At::Idle | At::Acquire | At::Adopt) {
            // Not used again: no reason to tell states apart.
            peer.word = self.model.start_word();
        }
        self.steps.add(me, does, next);
    }

    fn move_on(&mut self, does: &'static str, at: At) {
        self.add(does, at, |_, _| {});
    }

    fn me(&self) -> &Peer {
        &self.state.peers[usize::from(self.me)]
    }

    fn mutated(&self, mutation: Mutation) -> bool {
        self.model.mutation == Some(mutation)
    }

    /// The area that the peer stores to.
    fn area(&self) -> usize {
        let locks = self.mutated(Mutation::StoresToTheLocksArea);
        usize::from(if locks { self.state.lock.to } else { self.me().word.to })
    }

    /// An exchange of the lock from the peer's own word; `None` if it was robbed.
    fn own(&self, holder: Option<u8>, session: u8) -> Option<Lock> {
        let word = self.me().word;
        let next = Lock { holder, from: word.to, session, ..word };
        (self.state.lock == word).then_some(next)
    }

    pub(super) fn die(&mut self) {
        let me = self.me();
        let could_act = me.at != At::Idle || me.life == Life::Alive && me.own.is_some();
        if self.state.deaths == self.model.deaths || !could_act {
            return;
        }
        self.add("dies", At::Idle, |next, me| {
            next.deaths += 1;
            let peer = Peer { life: Life::Dead, own: None, robbed: None, ..next.peers[me] };
            next.peers[me] = Peer { remembered: 0, raises: false, ..peer };
        });
    }

    /// The slot serves another process.
    pub(super) fn start_anew(&mut self) {
        if self.me().left > 0 {
            self.add("starts anew", At::Idle, |next, me| next.peers[me].life = Life::Alive);
        }
    }

    pub(super) fn start_adoption(&mut self) {
        self.move_on("is being adopted", At::Adopt);
    }

    pub(super) fn begin(&mut self) {
        if self.me().own.is_some() {
            let remembers = self.mutated(Mutation::AreaRemembered);
            let area = if remembers { self.me().remembered } else { self.state.current.2 };
            self.add("looks for its area", At::Look(area), |next, me| {
                next.peers[me].remembered = if remembers { area } else { 0 };
            });
        }
        if self.me().left > 0 {
            self.add("wants the lock", At::Acquire, |next, me| next.peers[me].left -= 1);
        }
    }

    pub(super) fn go_on(&mut self, at: At) {
        match at {
            At::Idle | At::Missed => {}
            At::Acquire => self.acquire(),
            At::ReadLock { .. } | At::ReadPin(_) | At::SetPin(..) | At::Steal(_) => self.steal(at),
            At::Copy { word, seen } => self.copy(word, seen),
            At::CommitCopy | At::CommitRecovery => self.commit_recovery(),
            At::Leave => self.leave(),
            At::Recover(word) => self.recover(word),
            At::RaiseCurrent | At::LookAtLock(_) | At::SetCurrent(_) => self.raise_current(at),
            At::RaiseLate(operation) => self.raise_late(operation),
            At::LookForHelp(area) => self.look_for_help(area),
            At::LeaveRobbed(helped) => self.leave_robbed(helped),
            At::Decide => self.decide(),
            At::Release => self.release(),
            At::Look(area) => self.look(area),
            At::Adopt => self.adopt(),
            _ => self.operate(at),
        }
    }

    fn look(&mut self, area: u8) {
        let own = self.me().own.map_or(0, usize::from);
        let found = self.state.areas[usize::from(area)].live[own];
        self.move_on("looks at its object", if found { At::Idle } else { At::Missed });
    }

    fn raise_current(&mut self, at: At) {
        let Lock { session, takeovers, to, .. } = self.me().word;
        let (current, new) = (self.state.current, (session, takeovers, to));
        let is_mine = self.state.lock == self.me().word;
        let lock_first = self.mutated(Mutation::CurrentReadAfterLock);
        match at {
            At::RaiseCurrent if lock_first && is_mine => {
                self.move_on("looks at the lock", At::LookAtLock(current));
            }
            At::LookAtLock(_) if lock_first => {
                self.move_on("reads current", At::SetCurrent(current));
            }
            At::RaiseCurrent if !lock_first => {
                self.move_on("reads current", At::LookAtLock(current));
            }
            At::LookAtLock(found) if is_mine => {
                self.move_on("looks at the lock", At::SetCurrent(found));
            }
            At::SetCurrent(found) if found == current => {
                self.add("raises current", At::Decide, |next, _| next.current = new);
            }
            At::SetCurrent(_) => self.move_on("finds current raised", At::RaiseCurrent),
            _ => self.move_on("leaves current to its thief", At::Decide),
        }
    }

    fn raise_late(&mut self, operation: Operation) {
        let word = self.me().word;
        self.add("raises current late", At::Done(operation), |next, me| {
            next.peers[me].raises = false;
            next.current = next.current.max((word.session, word.takeovers, word.to));
        });
    }

    fn look_for_help(&mut self, area: u8) {
        let Some((operation, word)) = self.me().robbed else { return };
        let stolen_in = usize::from(word.to);
        let outside = self.mutated(Mutation::MarkedOutsideTheArea);
        let helped = if outside {
            self.state.marks[stolen_in]
        } else {
            self.state.areas[usize::from(area)].helped[stolen_in]
        };
        let helped = operation.kind == Kind::Free && helped == word.session;
        self.move_on("looks whether it was helped", At::LeaveRobbed(helped));
    }

    fn leave_robbed(&mut self, helped: bool) {
        let Some((operation, word)) = self.me().robbed else { return };
        let at = if helped { At::Idle } else { At::Acquire };
        self.add("leaves the area where it was", at, |next, me| {
            left(next, word);
            let peer = &mut next.peers[me];
            peer.robbed = None;
            if helped {
                peer.entry = Entry::None;
            } else if operation.kind == Kind::Free {
                peer.own = Some(operation.object);
            }
            if helped && peer.life == Life::Dead {
                peer.at = At::Adopt;
            }
        });
    }

    /// The lock is held, and nothing is pending.
    fn decide(&mut self) {
        if self.me().robbed.is_some() {
            // It only wanted its session to end, and has brought that about.
            let word = self.me().word;
            let free = self.own(None, word.session);
            return self.add("gives the lock back at once", At::Acquire, |next, _| match free {
                Some(free) => next.lock = free,
                None => left(next, word),
            });
        }
        match self.next_operation() {
            Some(operation) => self.move_on("decides", At::SayEntry(operation)),
            None => self.move_on("has nothing to do", At::Release),
        }
    }

    /// Frees what it has, or allocates the lowest object that is free.
    fn next_operation(&self) -> Option<Operation> {
        let (me, area) = (self.me(), &self.state.areas[self.area()]);
        let bit = area.done[usize::from(self.me)];
        let own = match me.life {
            Life::Alive => me.own,
            _ => owned(me.entry, bit, self.mutated(Mutation::EntryWithoutDone)),
        };
        let operation = |kind, object, count| {
            Some(Operation { kind, object, entry: self.me, done: !bit, count })
        };
        match own {
            Some(object) if !area.live[usize::from(object)] => None,
            Some(object) => operation(Kind::Free, object, area.count.saturating_sub(1)),
            None if me.life == Life::Alive => {
                let object = (0..).zip(area.live).find(|(_, live)| !live)?.0;
                operation(Kind::Alloc, object, area.count)
            }
            None => None,
        }
    }

    fn operate(&mut self, at: At) {
        let area = self.area();
        match at {
            At::SayEntry(operation) => {
                let Operation { kind, object, done, .. } = operation;
                let entry = match kind {
                    Kind::Alloc => Entry::Allocating(object, done),
                    Kind::Free => Entry::Freeing(object, done),
                };
                self.add("says so in its entry", At::Announce(operation), |next, me| {
                    next.peers[me].entry = entry;
                    // What is being freed is given up, for all that others may do meanwhile.
                    next.peers[me].own = None;
                });
            }
            At::Announce(operation) => {
                let session = self.me().word.session;
                self.add("announces", At::Change(operation, 0), |next, _| {
                    next.areas[area].journal = Some((session, operation));
                });
            }
            At::Change(operation, step) => self.change(operation, step),
            At::Commit(operation) => self.commit(operation),
            At::Done(operation) => self.add("says it is done", At::Idle, |next, me| {
                let is_alloc = operation.kind == Kind::Alloc;
                let peer = &mut next.peers[me];
                peer.entry = if is_alloc { Entry::Owned(operation.object) } else { Entry::None };
                if peer.life == Life::Dead {
                    peer.at = At::Adopt;
                }
            }),
            _ => {}
        }
    }

    /// The object, the count, and the bit of the entry; then, by a mutation, the journal.
    fn change(&mut self, operation: Operation, step: u8) {
        let Operation { kind, object, entry, done, .. } = operation;
        let area = self.area();
        let last = if self.mutated(Mutation::JournalCleared) { 3 } else { 2 };
        let at = match step {
            _ if step < last => At::Change(operation, step + 1),
            _ => At::Commit(operation),
        };
        let is_alloc = kind == Kind::Alloc;
        self.add("changes a word", at, |next, _| {
            let area = &mut next.areas[area];
            match step {
                0 => area.live[usize::from(object)] = is_alloc,
                1 if is_alloc => area.count = operation.count + 1,
                1 => area.count = operation.count,
                2 => area.done[usize::from(entry)] = done,
                _ => area.journal = None,
            }
        });
    }

    fn commit(&mut self, operation: Operation) {
        let word = self.me().word;
        let done = if self.me().raises { At::RaiseLate(operation) } else { At::Done(operation) };
        match self.own(None, word.session) {
            Some(free) => self.add("commits", done, |next, me| {
                next.lock = free;
                let is_alloc = operation.kind == Kind::Alloc;
                let lives = next.peers[me].life == Life::Alive;
                next.peers[me].own = (is_alloc && lives).then_some(operation.object);
            }),
            None => {
                let leaves = self.mutated(Mutation::LeftBeforeLookingForHelp);
                self.add("was robbed", At::Acquire, |next, me| {
                    next.peers[me].robbed = Some((operation, word));
                    if leaves {
                        left(next, word);
                    }
                });
            }
        }
    }

    fn release(&mut self) {
        let word = self.me().word;
        let at = if self.me().life == Life::Dead { At::Adopt } else { At::Idle };
        let free = self.own(None, word.session);
        self.add("gives the lock back, or was robbed", at, |next, me| {
            match free {
                Some(free) => next.lock = free,
                None => left(next, word),
            }
            // An adopter has found it to be over, or there was no room the second time.
            next.peers[me].entry = match next.peers[me] {
                Peer { life: Life::Dead, .. } | Peer { own: None, .. } => Entry::None,
                Peer { entry, .. } => entry,
            };
        });
    }

    /// First the lock, then the pins, then the entry.
    fn adopt(&mut self) {
        if self.state.lock.holder == Some(self.me) {
            return self.take_over();
        }
        let holds = |pin: &Pin| pin.holder == Some(self.me);
        let pin = self.state.pins.iter().position(holds);
        if let Some(area) = pin.filter(|_| !self.mutated(Mutation::AdoptionForgetsPins)) {
            return self.add("has left an area", At::Adopt, |next, _| {
                next.pins[area].holder = None;
            });
        }
        if self.me().entry != Entry::None {
            return self.move_on("has an entry", At::Acquire);
        }
        self.add("has nothing left to adopt", At::Idle, |next, me| {
            next.peers[me].life = Life::Adopted;
        });
    }
}

/// What the entry owns, when the bit of it is so.
fn owned(entry: Entry, bit: bool, any_bit: bool) -> Option<u8> {
    match entry {
        Entry::None => None,
        Entry::Owned(object) => Some(object),
        Entry::Allocating(object, done) => (bit == done || any_bit).then_some(object),
        Entry::Freeing(object, done) => (bit != done || any_bit).then_some(object),
    }
}

/// If the area is pinned for this very acquisition.
fn left(state: &mut State, word: Lock) {
    let Lock { holder, to, session, takeovers, .. } = word;
    let pin = &mut state.pins[usize::from(to)];
    if *pin == (Pin { holder, session, takeovers }) {
        pin.holder = None;
    }
}

impl Steal {
    fn start_word(&self) -> Lock {
        Lock { holder: None, from: 0, to: 0, session: 1, takeovers: 0 }
    }
}
