//! What a peer of the hand-over model does, and what is done in its name once it is dead.

use super::{At, Cell, Entry, HandOver, Handle, Mutation, Peer, State};
use crate::explorer::{DEATHS, Life, Steps};

/// The steps of one peer, or of those who adopt it, from one state.
pub(super) struct Turn<'t> {
    pub(super) model: &'t HandOver,
    pub(super) state: &'t State,
    pub(super) me: u8,
    pub(super) steps: &'t mut Steps<State>,
}

impl Turn<'_> {
    fn add(&mut self, does: &'static str, at: At, change: impl FnOnce(&mut State)) {
        let mut next = *self.state;
        next.peers[usize::from(self.me)].at = at;
        change(&mut next);
        self.steps.add(self.me.into(), does, next);
    }

    fn move_on(&mut self, does: &'static str, at: At) {
        self.add(does, at, |_| {});
    }

    fn say(&mut self, does: &'static str, entry: Entry, at: At) {
        let me = usize::from(self.me);
        self.add(does, at, |next| next.peers[me].entry = entry);
    }

    fn me(&self) -> &Peer {
        &self.state.peers[usize::from(self.me)]
    }

    fn byte(&self, handle: Handle) -> u8 {
        self.state.objects[usize::from(handle.object)].byte
    }

    fn has_tagged(&self) -> bool {
        self.state.cell == Cell::Tag(self.me)
    }

    fn mutated(&self, mutation: Mutation) -> bool {
        self.model.mutation == Some(mutation)
    }

    pub(super) fn die(&mut self) {
        let me = self.me();
        let owns = self.state.objects.iter().any(|object| object.slab == Some(self.me));
        let may_begin = me.left > 0 || me.own.is_some() || owns;
        let could_act = me.at != At::Idle || me.life == Life::Alive && may_begin;
        if self.state.deaths == DEATHS || !could_act {
            return;
        }
        let at = usize::from(self.me);
        self.add("dies", At::Idle, |next| {
            next.deaths += 1;
            next.peers[at] = Peer { life: Life::Dead, own: None, ..next.peers[at] };
        });
    }

    /// What is left of the dead one decides what its adopter does, so that another adopter goes on.
    pub(super) fn adopt(&mut self) {
        let me = self.me;
        let slab = self.state.objects.iter().position(|object| object.slab == Some(me));
        let slabs_first = self.mutated(Mutation::SlabsAdoptedBeforeEntries);
        // An announced object that never became live must not be given to somebody else before.
        if let Some(slab) = slab.filter(|_| slabs_first || self.me().entry == Entry::None) {
            return self.add("is adopted, by a slab", At::Idle, |next| {
                next.objects[slab].slab = None;
            });
        }
        let tagged = self.has_tagged();
        let at = match self.me().entry {
            Entry::None => {
                return self.add("has nothing left to adopt", At::Idle, |next| {
                    next.peers[usize::from(me)].life = Life::Adopted;
                });
            }
            Entry::Publishing(handle) if self.mutated(Mutation::AdoptionFreesPublishing) => {
                At::Free(handle)
            }
            Entry::Publishing(_)
                if tagged && self.mutated(Mutation::AdoptionPublishesWithoutPublished) =>
            {
                At::StoreHandle
            }
            Entry::Publishing(_) if tagged => At::SayPublished,
            Entry::Published(_) if tagged => At::StoreHandle,
            Entry::Taking(_) if tagged => At::SayTaken,
            Entry::Taken(_) if tagged => At::ClearCell,
            Entry::Published(_) | Entry::Taking(_) => At::ClearEntry,
            Entry::Owned(handle) | Entry::Publishing(handle) | Entry::Taken(handle) => {
                At::Free(handle)
            }
        };
        self.move_on("is adopted, by its entry", at);
    }

    /// The slot serves another process.
    pub(super) fn start_anew(&mut self) {
        let me = usize::from(self.me);
        if self.me().left > 0 {
            self.add("starts anew", At::Idle, |next| next.peers[me].life = Life::Alive);
        }
    }

    /// Every operation that the peer may begin.
    pub(super) fn begin(&mut self) {
        if self.me().left == 0 {
            return;
        }
        let mut begun = *self.state;
        begun.peers[usize::from(self.me)].left -= 1;
        let mut turn = Turn { state: &begun, steps: self.steps, ..*self };
        if let Some(own) = turn.me().own {
            turn.say("says publishing", Entry::Publishing(own), At::TagEmpty);
            if turn.mutated(Mutation::EntryClearedBeforeFree) {
                turn.say("clears its entry", Entry::None, At::Free(own));
            } else {
                turn.move_on("wants to free", At::Free(own));
            }
            return;
        }
        if let Cell::Holds(handle) = turn.state.cell {
            turn.move_on("sees an object", At::SayTaking(handle));
        }
        for (number, object) in (0..).zip(&begun.objects) {
            let handle = Handle { object: number, byte: object.byte + 1 };
            if object.slab == Some(turn.me) && handle.byte % 2 == 1 {
                let late = turn.mutated(Mutation::AnnouncedTooLate);
                let at = if late { At::Enliven(handle) } else { At::Announce(handle) };
                turn.move_on("chooses an object", at);
            }
            let (me, slab) = (turn.me, usize::from(number));
            if object.slab.is_none() {
                turn.add("claims a slab", At::Idle, |next| next.objects[slab].slab = Some(me));
            }
        }
    }

    pub(super) fn go_on(&mut self, at: At) {
        let me = usize::from(self.me);
        let late = self.mutated(Mutation::AnnouncedTooLate);
        match at {
            At::Idle => {}
            At::Announce(handle) => {
                let at = if late { At::Idle } else { At::Enliven(handle) };
                self.say("announces it", Entry::Owned(handle), at);
            }
            At::Enliven(handle) => {
                let at = if late { At::Announce(handle) } else { At::Idle };
                self.add("makes it live", at, |next| {
                    next.objects[usize::from(handle.object)].byte = handle.byte;
                    next.peers[me].own = Some(handle);
                });
            }
            At::SayTaking(handle) => {
                self.say("says taking", Entry::Taking(handle), At::TagHolding);
            }
            At::Free(handle) => self.free(handle),
            At::ClearEntry => self.say("clears its entry", Entry::None, At::Idle),
            At::ClearCell => {
                let at = match self.me().entry {
                    Entry::Taking(_) => At::SayTaken,
                    Entry::Owned(_) => At::Idle,
                    _ => At::SayOwned,
                };
                self.add("clears the cell", at, |next| next.cell = Cell::Empty);
            }
            _ => self.hand_over(at),
        }
    }

    fn free(&mut self, handle: Handle) {
        let byte = self.byte(handle);
        let any_life = self.mutated(Mutation::AdoptionFreesAnyLife) && byte % 2 == 1;
        if byte != handle.byte && !any_life {
            return self.move_on("finds it is not live", At::ClearEntry);
        }
        let me = usize::from(self.me);
        let at = if self.me().entry == Entry::None { At::Idle } else { At::ClearEntry };
        self.add("frees", at, |next| {
            next.objects[usize::from(handle.object)].byte = byte + 1;
            next.peers[me].own = None;
        });
    }

    /// The steps of publish and take.
    fn hand_over(&mut self, at: At) {
        let (Entry::Publishing(handle)
        | Entry::Published(handle)
        | Entry::Taking(handle)
        | Entry::Taken(handle)) = self.me().entry
        else {
            return;
        };
        let me = usize::from(self.me);
        match at {
            At::TagEmpty => self.tag_empty(handle),
            At::SayPublished => {
                self.say("says published", Entry::Published(handle), At::StoreHandle);
            }
            At::StoreHandle => self.add("stores the handle", At::ClearEntry, |next| {
                next.cell = Cell::Holds(handle);
                next.peers[me].own = None;
            }),
            At::TagHolding => self.tag_holding(handle),
            At::SayTaken if self.mutated(Mutation::OwnedBeforeCellCleared) => {
                self.say("says owned", Entry::Owned(handle), At::ClearCell);
            }
            At::SayTaken if self.state.cell == Cell::Empty => {
                self.say("says taken", Entry::Taken(handle), At::SayOwned);
            }
            At::SayTaken => self.say("says taken", Entry::Taken(handle), At::ClearCell),
            At::SayOwned => self.say("says owned", Entry::Owned(handle), At::Idle),
            _ => {}
        }
    }

    fn tag_empty(&mut self, handle: Handle) {
        let (me, tag) = (usize::from(self.me), Cell::Tag(self.me));
        let tagged = matches!(self.state.cell, Cell::Tag(_));
        let empty =
            self.state.cell == Cell::Empty || tagged && self.mutated(Mutation::TagTakenForEmpty);
        if !empty {
            self.move_on("finds the cell occupied", At::SayOwned);
        } else if self.mutated(Mutation::PublishWithoutTag) {
            self.add("publishes", At::ClearEntry, |next| {
                next.cell = Cell::Holds(handle);
                next.peers[me].own = None;
            });
        } else {
            let skips = self.mutated(Mutation::PublishWithoutPublished);
            let at = if skips { At::StoreHandle } else { At::SayPublished };
            self.add("tags the empty cell", at, |next| next.cell = tag);
        }
    }

    fn tag_holding(&mut self, handle: Handle) {
        let (me, tag) = (usize::from(self.me), Cell::Tag(self.me));
        if self.state.cell != Cell::Holds(handle) {
            return self.move_on("finds it gone", At::ClearEntry);
        }
        let (at, cell) = if self.mutated(Mutation::TakeWithoutTag) {
            (At::SayOwned, Cell::Empty)
        } else if self.mutated(Mutation::CellClearedBeforeTaken) {
            (At::ClearCell, tag)
        } else {
            (At::SayTaken, tag)
        };
        self.add("tags the cell that holds it", at, |next| {
            next.cell = cell;
            next.peers[me].own = Some(handle);
        });
    }
}
