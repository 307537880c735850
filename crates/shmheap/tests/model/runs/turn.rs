//! What a peer of the run model does, and what is done in its name once it is dead.

mod resize;

use super::{At, Handle, Mutation, Peer, RUN_MAX, Run, Runs, State, UNITS, Unit, Word};
use crate::explorer::{DEATHS, Life, Steps};

/// The steps of one peer, or of those who adopt it, from one state.
pub(super) struct Turn<'t> {
    pub(super) model: &'t Runs,
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

    fn is_dead(&self) -> bool {
        self.me().life == Life::Dead
    }

    fn mutated(&self, mutation: Mutation) -> bool {
        self.model.mutation == Some(mutation)
    }

    pub(super) fn die(&mut self) {
        let me = self.me();
        let owns = |unit: &Unit| matches!(unit.word, Word::Slab { by, .. } if by == self.me);
        let may_begin = me.left > 0 || self.state.units.iter().any(owns);
        let could_act = me.at != At::Idle || me.life == Life::Alive && may_begin;
        if self.state.deaths == DEATHS || !could_act {
            return;
        }
        let at = usize::from(self.me);
        self.add("dies", At::Idle, |next| {
            next.deaths += 1;
            next.peers[at] = Peer { life: Life::Dead, own: None, shared: None, ..next.peers[at] };
        });
    }

    /// What is left of the dead one decides what its adopter does, so that another adopter goes on.
    pub(super) fn adopt(&mut self) {
        let me = self.me;
        if let Some(unit) = self.me().note {
            return self.move_on("is adopted, by its note", At::Look(unit), None);
        }
        for (number, unit) in (0..).zip(&self.state.units) {
            match unit.word {
                Word::Slab { by, len } if by == me => {
                    let nobodys = Word::Nobodys { len };
                    return self.unit("is adopted, by a slab", number, At::Idle, |unit| {
                        unit.word = nobodys;
                    });
                }
                Word::Claim { by, len } | Word::Freeing { by, len } if by == me => {
                    // Which units were holes is not known any more.
                    let run = Run { head: number, len, holes: (1 << len) - 1 };
                    let at = self.give_back_from(run, len - 1);
                    return self.move_on("is adopted, by a run", at, None);
                }
                _ => {}
            }
        }
        self.adopt_rest();
    }

    /// The slot serves another process.
    pub(super) fn start_anew(&mut self) {
        let me = usize::from(self.me);
        if self.me().left > 0 && self.me().is_followed {
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
        for handle in [turn.me().own, turn.me().shared].into_iter().flatten() {
            turn.move_on("wants to free", At::Free(handle), None);
        }
        turn.begin_resize();
        for unit in 0..UNITS as u8 {
            turn.begin_with_slab(unit);
            if turn.at_unit(unit).free && turn.me().own.is_none() {
                for len in (1..=RUN_MAX).filter(|len| unit + len <= UNITS as u8) {
                    let run = Run { head: unit, len, holes: 0 };
                    turn.move_on("sees free", turn.grab_from(run, 0), None);
                }
            }
        }
    }

    fn begin_with_slab(&mut self, unit: u8) {
        let me = self.me;
        match self.at_unit(unit).word {
            Word::Slab { by, len } if by == me => {
                let at = self.give_back_from(Run { head: unit, len, holes: 0 }, len - 1);
                self.unit("retires a slab", unit, at, |unit| {
                    unit.word = Word::Freeing { by: me, len };
                });
                self.unit("leaves a slab", unit, At::Idle, |unit| {
                    unit.word = Word::Nobodys { len };
                });
            }
            Word::Nobodys { len } => self.unit("takes over a slab", unit, At::Idle, |unit| {
                unit.word = Word::Slab { by: me, len };
            }),
            _ => {}
        }
    }

    pub(super) fn go_on(&mut self, at: At) {
        match at {
            At::Idle => {}
            At::Grab(run, distance) => self.grab(run, distance),
            At::ClearFree(run, distance) => self.clear(run, distance),
            At::Reserve(run) => self.reserve(run),
            At::SetHead(run) => self.set_head(run),
            At::Punch(run) => {
                let at = self.give_back_from(Run { holes: 1, ..run }, 0);
                self.unit("punches a hole", run.head, at, |unit| unit.storage = false);
            }
            At::Free(handle) => self.free(handle),
            At::GiveBack(run, 0) => self.give_back_head(run),
            At::GiveBack(run, distance) => self.give_back(run, distance),
            At::HeadFirst(run) => self.give_back_head(run),
            At::Hint(run, distance) => {
                let at = At::GiveBack(run, distance - 1);
                self.unit("sets free", run.head + distance, at, |unit| unit.free = true);
            }
            At::HintHead(unit) => {
                self.unit("sets free", unit, At::ForgetNote, |unit| unit.free = true);
            }
            At::HintLate(run, distance) => {
                let last = distance == 0;
                let at = if last { At::ForgetNote } else { At::HintLate(run, distance - 1) };
                self.unit("sets free", run.head + distance, at, |unit| unit.free = true);
            }
            At::ForgetNote => {
                let me = usize::from(self.me);
                self.add("forgets its note", At::Idle, |next| next.peers[me].note = None);
            }
            At::Lengthen(_) | At::ClearGrown(_) | At::ReserveGrown(_) | At::SetLonger(_) => {
                self.lengthen(at);
            }
            At::TakeOver(_) | At::SetShorter(_) | At::FreeRest(..) => self.shorten(at),
            At::Judge(word, unit) => self.judge(word, unit),
            At::FreeStray(word, unit) => self.free_stray(word, unit),
            At::ClearStale(unit) => {
                let for_good = self.mutated(Mutation::StaleHintClearedForGood);
                let at = if for_good { At::ForgetNote } else { At::Look(unit) };
                self.unit("clears stale free", unit, at, |unit| unit.free = false);
            }
            At::Look(unit) => {
                let free = self.at_unit(unit).word.is_free();
                self.move_on("looks", if free { At::HintHead(unit) } else { At::ForgetNote }, None);
            }
        }
    }

    /// How the claim of a unit of a run begins.
    fn grab_from(&self, run: Run, distance: u8) -> At {
        let too_early = self.mutated(Mutation::HintClearedBeforeClaim);
        if too_early { At::ClearFree(run, distance) } else { At::Grab(run, distance) }
    }

    fn grab(&mut self, run: Run, distance: u8) {
        let Run { head, len, holes } = run;
        let by = self.me;
        let word = self.at_unit(head + distance).word;
        if word.is_free() {
            let hole = u8::from(word == Word::Hole) << distance;
            let run = Run { holes: holes | hole, ..run };
            let too_early = self.mutated(Mutation::HintClearedBeforeClaim);
            let at = if too_early {
                self.grab_next(run, distance)
            } else {
                At::ClearFree(run, distance)
            };
            self.unit("claims", head + distance, at, |unit| {
                let is_head = distance == 0;
                unit.word =
                    if is_head { Word::Claim { by, len } } else { Word::Cont { by, distance } };
            });
        } else if distance > 0 {
            self.move_on("cannot claim", self.give_back_from(run, distance - 1), None);
        } else {
            let noted = !self.mutated(Mutation::StaleHintClearedWithoutNote);
            self.move_on("cannot claim", At::ClearStale(head), noted.then_some(head));
        }
    }

    fn clear(&mut self, run: Run, distance: u8) {
        let too_early = self.mutated(Mutation::HintClearedBeforeClaim);
        let at = if too_early { At::Grab(run, distance) } else { self.grab_next(run, distance) };
        self.unit("clears free", run.head + distance, at, |unit| unit.free = false);
    }

    /// What comes after a unit has been claimed.
    fn grab_next(&self, run: Run, distance: u8) -> At {
        if distance + 1 < run.len {
            self.grab_from(run, distance + 1)
        } else if run.holes != 0 && !self.mutated(Mutation::StorageReservedTooLate) {
            At::Reserve(run)
        } else {
            At::SetHead(run)
        }
    }

    fn reserve(&mut self, run: Run) {
        let late = self.mutated(Mutation::StorageReservedTooLate);
        let at = if late { At::Idle } else { At::SetHead(run) };
        self.add("reserves storage", at, |next| {
            let units = usize::from(run.head)..usize::from(run.head + run.len);
            next.units[units].iter_mut().for_each(|unit| unit.storage = true);
        });
    }

    /// All is there: the run becomes what its claimer likes.
    fn set_head(&mut self, run: Run) {
        let (by, me) = (self.me, usize::from(self.me));
        let Run { head, len, holes } = run;
        let late = holes != 0 && self.mutated(Mutation::StorageReservedTooLate);
        let at = if late { At::Reserve(run) } else { At::Idle };
        let own = Some(Handle { unit: head, generation: self.at_unit(head).generation });
        self.add("makes it large", at, |next| {
            next.units[usize::from(head)].word = Word::Large { len };
            next.peers[me].own = own;
        });
        self.unit("makes a slab", head, at, |unit| unit.word = Word::Slab { by, len });
        if len == 1 {
            self.move_on("wants to return storage", At::Punch(run), None);
        }
    }

    fn free(&mut self, handle: Handle) {
        let me = usize::from(self.me);
        let forget = |peer: &mut Peer| {
            let is_own = peer.own == Some(handle);
            *(if is_own { &mut peer.own } else { &mut peer.shared }) = None;
        };
        let head = handle.unit;
        match self.at_unit(head).word {
            Word::Large { len } if self.state.is_live(handle) => {
                let at = self.give_back_from(Run { head, len, holes: 0 }, len - 1);
                self.add("frees", at, |next| {
                    next.units[usize::from(head)].word = Word::Freeing { by: me as u8, len };
                    forget(&mut next.peers[me]);
                });
            }
            _ => {
                self.add("finds it freed already", At::Idle, |next| forget(&mut next.peers[me]));
            }
        }
    }

    /// How the units of a run up to `distance` begin to be given back.
    fn give_back_from(&self, run: Run, distance: u8) -> At {
        let claim = matches!(self.at_unit(run.head).word, Word::Claim { .. });
        if claim && self.is_dead() && self.mutated(Mutation::AdoptionGivesClaimBackFirst) {
            return At::HeadFirst(Run { len: 1, ..run });
        }
        if self.mutated(Mutation::HeadGivenBackFirst) {
            return At::HeadFirst(Run { len: distance + 1, ..run });
        }
        At::GiveBack(run, distance)
    }

    fn give_back(&mut self, run: Run, distance: u8) {
        let unit = run.head + distance;
        let word = self.at_unit(unit).word;
        let given = self.given_back(run, distance);
        let hinted = At::Hint(run, distance);
        let on = At::GiveBack(run, distance - 1);
        let at = if self.mutated(Mutation::HintsAfterTheHead) { on } else { hinted };
        let any = word.distance().is_some() && self.mutated(Mutation::DistanceNotCompared);
        if word.distance() == Some(distance) || any {
            self.unit("gives back a unit", unit, at, |unit| unit.word = given);
        } else if word.is_free() && !self.mutated(Mutation::AdoptionHintsOnlyWhatItGivesBack) {
            // Whoever gave it back may have died before it set the hint.
            self.move_on("finds a unit given back", at, None);
        } else {
            self.move_on("finds a unit not its own", on, None);
        }
    }

    fn give_back_head(&mut self, run: Run) {
        let Run { head, len, .. } = run;
        let at = self.me().at;
        let first = matches!(at, At::HeadFirst(_));
        if self.me().note != Some(head) && !self.mutated(Mutation::HeadWithoutNote) {
            return self.move_on("notes the head", at, Some(head));
        }
        let then = if first {
            At::GiveBack(run, len - 1)
        } else if self.mutated(Mutation::HintsAfterTheHead) {
            At::HintLate(run, len - 1)
        } else {
            At::HintHead(head)
        };
        let given = self.given_back(run, 0);
        let counts = match self.at_unit(head).word {
            Word::Claim { by, .. } if by == self.me => 0,
            Word::Freeing { by, .. } if by == self.me => {
                u8::from(!self.mutated(Mutation::GenerationStays))
            }
            // Given back first, by a mutation.
            _ => return self.move_on("has given back the head", At::HintHead(head), None),
        };
        self.unit("gives back the head", head, then, |unit| {
            unit.word = given;
            unit.generation += counts;
        });
    }

    /// What a unit of a run is afterwards: the units of a live run have storage, those of a claim
    /// may not have got it yet.
    fn given_back(&self, run: Run, distance: u8) -> Word {
        let freeing = matches!(self.at_unit(run.head).word, Word::Freeing { .. });
        let trusts = self.is_dead() && self.mutated(Mutation::AdoptionTrustsStorage);
        let hole = run.holes >> distance & 1 == 1 && !freeing && !trusts;
        if hole { Word::Hole } else { Word::Free }
    }
}
