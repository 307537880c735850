//! What a peer of the slab model does, and what is done in its name once it is dead.

use super::{
    At, Mutation, OBJECTS, PENDING, Peer, Place, Slabs, State, UNITS, Unit, Word, is_live,
};
use crate::explorer::{DEATHS, Life, Steps};

/// The steps of one peer, or of those who adopt it, from one state.
pub(super) struct Turn<'t> {
    pub(super) model: &'t Slabs,
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

    /// A step that changes a unit.
    fn unit(&mut self, does: &'static str, unit: u8, at: At, change: impl FnOnce(&mut Unit)) {
        self.add(does, at, |next| change(&mut next.units[usize::from(unit)]));
    }

    /// A step that changes only the peer itself. With `note`, that unit is noted.
    fn move_on(&mut self, does: &'static str, at: At, note: Option<u8>) {
        let me = usize::from(self.me);
        self.add(does, at, |next| next.peers[me].note = note.or(next.peers[me].note));
    }

    fn me(&self) -> &Peer {
        &self.state.peers[usize::from(self.me)]
    }

    fn at_unit(&self, unit: u8) -> &Unit {
        &self.state.units[usize::from(unit)]
    }

    fn byte(&self, place: Place) -> u8 {
        self.at_unit(place.unit).bytes[usize::from(place.object)]
    }

    fn mutated(&self, mutation: Mutation) -> bool {
        self.model.mutation == Some(mutation)
    }

    /// The note for `unit`, unless a mutation forgets it.
    fn note(&self, unit: u8, forgotten_by: Mutation) -> Option<u8> {
        (!self.mutated(forgotten_by)).then_some(unit)
    }

    pub(super) fn die(&mut self) {
        let me = self.me();
        let owns = self.state.units.iter().any(|unit| unit.word == Word::Slab(self.me));
        let has_pending = me.pending.iter().any(Option::is_some);
        let may_begin = me.left > 0 || owns || has_pending;
        let could_act = me.at != At::Idle || me.life == Life::Alive && may_begin;
        if self.state.deaths == DEATHS || !could_act {
            return;
        }
        let at = usize::from(self.me);
        self.add("dies", At::Idle, |next| {
            next.deaths += 1;
            next.peers[at] = Peer { life: Life::Dead, found: [0; UNITS], ..next.peers[at] };
        });
    }

    /// What is left of the dead one decides what its adopter does, so that another adopter goes on.
    pub(super) fn adopt(&mut self) {
        let words = (0..).zip(self.state.units.iter().map(|unit| unit.word));
        let slab = words.clone().find(|(_, word)| *word == Word::Slab(self.me));
        let claim = words.clone().find(|(_, word)| *word == Word::Claim(self.me));
        let object = self.used().filter(|_| self.model.has_ledger);
        // To release a slab is to note it: what was noted before must be seen to before.
        let note = self
            .me()
            .note
            .filter(|_| slab.is_none() || !self.mutated(Mutation::SlabsAdoptedBeforeNote));
        // The same goes for frees.
        let pending = self.me().pending.iter().flatten().next().copied();
        let pending = pending
            .filter(|_| object.is_none() || !self.mutated(Mutation::ObjectsAdoptedBeforeNotes));
        if let Some(unit) = note {
            self.move_on("is adopted, by its note", At::Look(unit), None);
        } else if let Some(unit) = pending {
            let forgets = self.mutated(Mutation::AdoptionForgetsPending);
            let at = if forgets { At::ForgetPending } else { At::Look(unit) };
            self.move_on("is adopted, by a pending note", at, None);
        } else if let Some(place) = object {
            self.put_off("is adopted, by an object", place, 0);
        } else if let Some((unit, _)) = slab {
            self.move_on("is adopted, by a slab", At::Release(unit), Some(unit));
        } else if let Some((unit, _)) = claim {
            self.move_on("is adopted, by a claim", At::Retire(unit), Some(unit));
        } else {
            let me = usize::from(self.me);
            self.add("has nothing left to adopt", At::Idle, |next| {
                next.peers[me].life = Life::Adopted
            });
        }
    }

    /// An object that the peer uses.
    fn used(&self) -> Option<Place> {
        let places = (0..UNITS as u8)
            .flat_map(|unit| (0..OBJECTS as u8).map(move |object| Place { unit, object }));
        places.into_iter().find(|place| self.uses(*place))
    }

    fn uses(&self, place: Place) -> bool {
        self.at_unit(place.unit).users[usize::from(place.object)] >> self.me & 1 == 1
    }

    /// Notes the slab as the first step of a free.
    fn put_off(&mut self, does: &'static str, place: Place, number: usize) {
        let me = usize::from(self.me);
        self.add(does, At::Byte(place, self.byte(place)), |next| {
            next.peers[me].pending[number] = Some(place.unit);
        });
    }

    /// The slot serves another process.
    pub(super) fn start_anew(&mut self) {
        let me = usize::from(self.me);
        if self.me().left > 0 && !self.me().frees_only {
            self.add("starts anew", At::Idle, |next| next.peers[me].life = Life::Alive);
        }
    }

    /// Every operation that the peer may begin. The first step is a load or the store of a note.
    pub(super) fn begin(&mut self) {
        if self.me().pending.iter().any(Option::is_some) {
            self.catch_up(0);
        }
        if self.me().left == 0 {
            return;
        }
        let mut begun = *self.state;
        begun.peers[usize::from(self.me)].left -= 1;
        let mut turn = Turn { state: &begun, steps: self.steps, ..*self };
        for unit in 0..UNITS as u8 {
            for object in 0..OBJECTS as u8 {
                let place = Place { unit, object };
                if turn.uses(place) {
                    turn.begin_free(place);
                } else if turn.me().frees_again && !is_live(turn.byte(place)) {
                    turn.begin_free_again(place);
                }
            }
            if !turn.me().frees_only {
                turn.begin_with(unit);
            }
        }
    }

    fn begin_free(&mut self, place: Place) {
        let unit = place.unit;
        let live = self.byte(place);
        let owned = self.at_unit(unit).word != Word::Nobodys;
        let late = self.mutated(Mutation::PendingNotedAfterFree);
        let pending = self.me().pending;
        if self.at_unit(unit).word == Word::Slab(self.me) {
            self.move_on("frees an object of its slab", At::Store(place, live), None);
        } else if pending.contains(&Some(unit)) {
            self.move_on("frees in a slab that it has noted", At::Byte(place, live), None);
        } else if self.mutated(Mutation::CatchUpWithoutLookingAgain) && owned {
            self.move_on("sees an owner and frees", At::ByteFirst(place, live), None);
        } else if late {
            self.move_on("frees", At::ByteFirst(place, live), None);
        } else if let Some(number) = pending.iter().position(Option::is_none) {
            self.put_off("notes to free", place, number);
        }
    }

    /// Who frees what is free is told, or frees it to the odd.
    fn begin_free_again(&mut self, place: Place) {
        let live = self.byte(place);
        if self.mutated(Mutation::FreeWithoutLooking) {
            self.move_on("frees again", At::Byte(place, live), None);
        } else {
            self.move_on("finds it freed already", At::Idle, None);
        }
    }

    fn begin_with(&mut self, unit: u8) {
        let me = usize::from(self.me);
        let found = self.me().found[usize::from(unit)];
        let Unit { word, free, avail, .. } = *self.at_unit(unit);
        if word == Word::Slab(self.me) {
            self.move_on("leaves a slab", At::Release(unit), Some(unit));
            if found == 0 {
                self.move_on("needs objects", At::Refill(Place::first(unit)), None);
                return;
            }
            if found == (1 << self.model.objects) - 1 {
                let note = self.note(unit, Mutation::RetireWithoutNote);
                self.move_on("notes to retire", At::Retire(unit), note);
            }
            let object = found.trailing_zeros() as usize;
            self.add("allocates", At::Idle, |next| {
                next.peers[me].found[usize::from(unit)] &= !(1 << object);
                next.units[usize::from(unit)].bytes[object] += 1;
                next.units[usize::from(unit)].users[object] |= 1 << me;
            });
        }
        if avail && self.mutated(Mutation::HintClearedBeforeClaim) {
            self.move_on("sees avail", At::ClearAvail(unit), None);
        } else if avail {
            self.move_on("sees avail", At::Claim(unit), None);
        }
        if free {
            self.move_on("sees free", At::Grab(unit), None);
        }
        if word == Word::Nobodys && self.mutated(Mutation::SweepRetiresWithoutClaim) {
            self.move_on("notes to sweep", At::Sweep(Place::first(unit)), Some(unit));
        }
    }

    pub(super) fn go_on(&mut self, at: At) {
        match at {
            At::Idle => {}
            At::Store(..) | At::Byte(..) | At::ByteFirst(..) | At::NoteLate(_) => self.free(at),
            At::CatchUp(number) => self.catch_up(number),
            At::HintPending(number) => self.hint_pending(number),
            At::Refill(place) => self.refill(place),
            At::Claim(_) | At::ClearAvail(_) | At::ClearStaleAvail(_) => self.claim(at),
            At::Grab(_) | At::ClearFree(_) | At::MakeSlab(_) | At::ClearStaleFree(_) => {
                self.grab(at);
            }
            At::Sweep(_) | At::SweepRetire(_) => self.sweep(at),
            At::Release(_) | At::Retire(_) => self.give_back(at),
            At::Look(_) | At::Scan(_) => self.look(at),
            At::HintAvail(unit) => {
                self.unit("sets avail", unit, At::ForgetNote, |unit| unit.avail = true);
            }
            At::HintFree(unit) => {
                self.unit("sets free", unit, At::ForgetNote, |unit| unit.free = true);
            }
            At::ForgetNote if self.me().note.is_none() => self.forget_pending(),
            At::ForgetNote => {
                let me = usize::from(self.me);
                self.add("forgets its note", At::Idle, |next| next.peers[me].note = None);
            }
            At::ForgetPending => self.forget_pending(),
        }
    }

    fn free(&mut self, at: At) {
        match at {
            At::Store(place, live) => {
                let me = usize::from(self.me);
                self.add("stores the byte", At::Idle, |next| {
                    next.free(place, live + 1);
                    next.peers[me].found[usize::from(place.unit)] |= 1 << place.object;
                });
            }
            At::Byte(place, live) => {
                self.add("frees", At::Idle, |next| next.free(place, live + 1));
            }
            At::ByteFirst(place, live) => {
                let late = self.mutated(Mutation::PendingNotedAfterFree);
                let at = if late { At::NoteLate(place.unit) } else { At::Idle };
                self.add("frees", at, |next| next.free(place, live + 1));
            }
            At::NoteLate(unit) => {
                let me = usize::from(self.me);
                self.add("notes what it has freed", At::Idle, |next| {
                    let pending = &mut next.peers[me].pending;
                    let number = pending.iter().position(Option::is_none);
                    pending[number.unwrap_or_default()] = Some(unit);
                });
            }
            _ => {}
        }
    }

    /// Looks at the pending slab from `number` on that there is, or is done with all and clears the
    /// note of them.
    fn catch_up(&mut self, number: u8) {
        let pending = (number..).zip(&self.me().pending[usize::from(number)..]);
        let Some((number, unit)) = pending.into_iter().find_map(|(n, unit)| Some((n, (*unit)?)))
        else {
            return self.clear_pending("clears the note of its frees", At::Idle);
        };
        if self.at_unit(unit).word != Word::Nobodys {
            self.move_on("sees an owner", At::CatchUp(number + 1), None);
        } else if self.mutated(Mutation::CatchUpClearsNoteBeforeHint) {
            self.clear_pending("sees no owner and clears the note", At::HintAvail(unit));
        } else {
            self.move_on("sees no owner", At::HintPending(number), None);
        }
    }

    fn hint_pending(&mut self, number: u8) {
        let Some(unit) = self.me().pending[usize::from(number)] else { return };
        let at = At::CatchUp(number + 1);
        self.unit("sets avail", unit, at, |unit| unit.avail = true);
    }

    fn clear_pending(&mut self, does: &'static str, at: At) {
        let me = usize::from(self.me);
        self.add(does, at, |next| next.peers[me].pending = [None; PENDING]);
    }

    /// What was noted is seen to.
    fn forget_pending(&mut self) {
        let me = usize::from(self.me);
        self.add("forgets a pending note", At::Idle, |next| {
            let first = next.peers[me].pending.iter_mut().find(|note| note.is_some());
            first.into_iter().for_each(|note| *note = None);
        });
    }

    fn refill(&mut self, place: Place) {
        let (me, unit) = (usize::from(self.me), place.unit);
        let is_free = u8::from(!is_live(self.byte(place)));
        let found = self.me().found[usize::from(unit)] | is_free << place.object;
        let (at, note) = if let Some(place) = place.next(self.model.objects) {
            (At::Refill(place), None)
        } else if found != 0 {
            (At::Idle, None)
        } else {
            (At::Release(unit), self.note(unit, Mutation::ReleaseWithoutNote))
        };
        self.add("refills", at, |next| {
            next.peers[me].found[usize::from(unit)] = found;
            next.peers[me].note = note;
        });
    }

    fn claim(&mut self, at: At) {
        let too_early = self.mutated(Mutation::HintClearedBeforeClaim);
        match at {
            At::Claim(unit) if self.at_unit(unit).word == Word::Nobodys => {
                let refill = At::Refill(Place::first(unit));
                let at = if too_early { refill } else { At::ClearAvail(unit) };
                let word = Word::Slab(self.me);
                self.unit("claims", unit, at, |unit| unit.word = word);
            }
            At::Claim(_) if too_early => self.move_on("cannot claim", At::Idle, None),
            At::Claim(unit) => {
                let note = self.note(unit, Mutation::StaleHintClearedWithoutNote);
                self.move_on("cannot claim", At::ClearStaleAvail(unit), note);
            }
            At::ClearAvail(unit) => {
                let refill = At::Refill(Place::first(unit));
                let at = if too_early { At::Claim(unit) } else { refill };
                self.unit("clears avail", unit, at, |unit| unit.avail = false);
            }
            At::ClearStaleAvail(unit) => {
                let at = self.after_stale_hint(unit);
                self.unit("clears stale avail", unit, at, |unit| unit.avail = false);
            }
            _ => {}
        }
    }

    fn grab(&mut self, at: At) {
        let me = self.me;
        match at {
            At::Grab(unit) if self.at_unit(unit).word == Word::Free => {
                self.unit("grabs", unit, At::ClearFree(unit), |unit| unit.word = Word::Claim(me));
            }
            At::Grab(unit) => {
                let note = self.note(unit, Mutation::StaleHintClearedWithoutNote);
                self.move_on("cannot grab", At::ClearStaleFree(unit), note);
            }
            At::ClearFree(unit) => {
                self.unit("clears free", unit, At::MakeSlab(unit), |unit| unit.free = false);
            }
            At::MakeSlab(unit) => {
                let all = (1 << self.model.objects) - 1;
                // Nothing is to be prepared: the bytes of a free unit are all even.
                self.add("makes a slab", At::Idle, |next| {
                    next.units[usize::from(unit)].word = Word::Slab(me);
                    next.peers[usize::from(me)].found[usize::from(unit)] = all;
                });
            }
            At::ClearStaleFree(unit) => {
                let at = self.after_stale_hint(unit);
                self.unit("clears stale free", unit, at, |unit| unit.free = false);
            }
            _ => {}
        }
    }

    /// The truth may have changed since the hint was found wrong: it has to be looked at again.
    fn after_stale_hint(&self, unit: u8) -> At {
        let for_good = self.mutated(Mutation::StaleHintClearedForGood);
        if for_good { At::ForgetNote } else { At::Look(unit) }
    }

    fn sweep(&mut self, at: At) {
        match at {
            At::Sweep(place) => {
                let at = if is_live(self.byte(place)) {
                    At::ForgetNote
                } else {
                    let next = place.next(self.model.objects);
                    next.map_or(At::SweepRetire(place.unit), At::Sweep)
                };
                self.move_on("sweeps on", at, None);
            }
            At::SweepRetire(unit) if self.at_unit(unit).word == Word::Nobodys => {
                self.unit("sweeps it up", unit, At::HintFree(unit), |unit| unit.word = Word::Free);
            }
            _ => self.move_on("cannot sweep it up", At::ForgetNote, None),
        }
    }

    fn give_back(&mut self, at: At) {
        let (does, unit, word, then) = match at {
            At::Release(unit) if self.mutated(Mutation::ReleaseWithoutScan) => {
                ("releases", unit, Word::Nobodys, At::ForgetNote)
            }
            At::Release(unit) => ("releases", unit, Word::Nobodys, At::Scan(Place::first(unit))),
            At::Retire(unit) => ("retires", unit, Word::Free, At::HintFree(unit)),
            _ => return,
        };
        let me = usize::from(self.me);
        self.add(does, then, |next| {
            next.units[usize::from(unit)].word = word;
            next.peers[me].found[usize::from(unit)] = 0;
        });
    }

    fn look(&mut self, at: At) {
        let not_for_units =
            self.mutated(Mutation::NoteIsForSlabsOnly) && self.me().life == Life::Dead;
        match at {
            At::Look(unit) => match self.at_unit(unit).word {
                Word::Nobodys => self.move_on("looks", At::Scan(Place::first(unit)), None),
                Word::Free if !not_for_units => self.move_on("looks", At::HintFree(unit), None),
                _ => self.move_on("looks", At::ForgetNote, None),
            },
            At::Scan(place) => {
                let at = if is_live(self.byte(place)) {
                    place.next(self.model.objects).map_or(At::ForgetNote, At::Scan)
                } else {
                    At::HintAvail(place.unit)
                };
                self.move_on("scans", at, None);
            }
            _ => {}
        }
    }
}

impl State {
    fn free(&mut self, place: Place, byte: u8) {
        let unit = &mut self.units[usize::from(place.unit)];
        unit.bytes[usize::from(place.object)] = byte;
        unit.users[usize::from(place.object)] = 0;
    }
}
