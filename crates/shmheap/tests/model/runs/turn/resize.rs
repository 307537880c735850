//! Large objects that grow and shrink by a unit where they are, and what a killed resize leaves.

use super::super::{At, Mutation, RUN_MAX, Run, UNITS, Word};
use super::Turn;
use crate::explorer::Life;

impl Turn<'_> {
    pub(super) fn begin_resize(&mut self) {
        let Some(own) = self.me().own.filter(|_| self.me().resizes) else { return };
        let Word::Large { len } = self.at_unit(own.unit).word else { return };
        let run = Run { head: own.unit, len, holes: 0 };
        if len < RUN_MAX && usize::from(own.unit + len) < UNITS {
            let head_first = self.mutated(Mutation::LengthenedHeadFirst);
            let at = if head_first { At::SetLonger(run) } else { At::Lengthen(run) };
            self.move_on("wants to grow", at, None);
        }
        if len > 1 {
            let frees_first = self.mutated(Mutation::UnitFreedBeforeHeadShrinks);
            let keeps_number = self.mutated(Mutation::ShortenedWithoutTakingOver);
            let at = if frees_first {
                At::FreeRest(run, len - 1)
            } else if keeps_number {
                At::SetShorter(run)
            } else {
                At::TakeOver(run)
            };
            self.move_on("wants to shrink", at, None);
        }
    }

    pub(super) fn lengthen(&mut self, at: At) {
        let by = self.me;
        match at {
            At::Lengthen(run) => {
                let Run { head, len, .. } = run;
                let word = self.at_unit(head + len).word;
                if !word.is_free() {
                    return self.move_on("cannot grow", At::Idle, None);
                }
                let holes = u8::from(word == Word::Hole) << len;
                let at = At::ClearGrown(Run { holes, ..run });
                self.unit("claims a unit to grow", head + len, at, |unit| {
                    unit.word = Word::Cont { by, distance: len };
                });
            }
            At::ClearGrown(run) => {
                let reserves = run.holes != 0 && !self.mutated(Mutation::LengthenedWithoutStorage);
                let at = if reserves { At::ReserveGrown(run) } else { At::SetLonger(run) };
                self.unit("clears free", run.head + run.len, at, |unit| unit.free = false);
            }
            At::ReserveGrown(run) => {
                let unit = run.head + run.len;
                self.unit("reserves storage", unit, At::SetLonger(run), |unit| {
                    unit.storage = true;
                });
                self.move_on("gets no storage", At::FreeRest(run, run.len), None);
            }
            At::SetLonger(Run { head, len, .. }) => {
                self.unit("is longer", head, At::Idle, |unit| {
                    unit.word = Word::Large { len: len + 1 };
                });
            }
            _ => {}
        }
    }

    pub(super) fn shorten(&mut self, at: At) {
        let by = self.me;
        match at {
            At::TakeOver(run) => {
                let distance = run.len - 1;
                let at = At::SetShorter(run);
                self.unit("takes a unit over", run.head + distance, at, |unit| {
                    unit.word = Word::Cont { by, distance };
                });
            }
            At::SetShorter(run) => {
                let len = run.len - 1;
                self.unit("is shorter", run.head, At::FreeRest(run, len), |unit| {
                    unit.word = Word::Large { len };
                });
            }
            At::FreeRest(run, distance) => self.free_rest(run, distance),
            _ => {}
        }
    }

    fn free_rest(&mut self, run: Run, distance: u8) {
        let unit = run.head + distance;
        if self.me().note != Some(unit) {
            return self.move_on("notes a unit", At::FreeRest(run, distance), Some(unit));
        }
        let word = self.at_unit(unit).word;
        let any = self.mutated(Mutation::ShortenedWithoutTakingOver)
            || self.mutated(Mutation::UnitFreedBeforeHeadShrinks);
        if word == (Word::Cont { by: self.me, distance }) || any {
            let hole = run.holes >> distance & 1 == 1;
            self.unit("frees a unit", unit, At::HintHead(unit), |unit| {
                unit.word = if hole { Word::Hole } else { Word::Free };
            });
        } else {
            self.move_on("finds a unit not its own", At::ForgetNote, None);
        }
    }

    /// The adopter looks at each unit of the dead one in turn. Where it has been does not show; so
    /// it may look at any, again and again, until none is left that no head reaches.
    pub(super) fn adopt_rest(&mut self) {
        let me = self.me;
        let mut is_done = true;
        for (number, unit) in (0..).zip(&self.state.units) {
            let Word::Cont { by, distance } = unit.word else { continue };
            if by == me {
                is_done &= self.state.covers(number, distance);
                self.move_on("is adopted, by a unit", At::Judge(unit.word, number), None);
            }
        }
        if is_done {
            self.add("has nothing left to adopt", At::Idle, |next| {
                next.peers[usize::from(me)].life = Life::Adopted;
            });
        }
    }

    pub(super) fn judge(&mut self, word: Word, unit: u8) {
        let distance = word.distance().unwrap_or_default();
        let believes_claims = self.mutated(Mutation::AdoptionGivesClaimBackFirst);
        let is_reached = self.state.reaches(unit, distance)
            || believes_claims && self.state.covers(unit, distance);
        if is_reached && !self.mutated(Mutation::AdoptionFreesCovered) {
            self.move_on("sees a head that reaches it", At::Idle, None);
        } else {
            let noted = !self.mutated(Mutation::StrayFreedWithoutNote);
            let at = At::FreeStray(word, unit);
            self.move_on("sees no head that reaches it", at, noted.then_some(unit));
        }
    }

    pub(super) fn free_stray(&mut self, word: Word, unit: u8) {
        let compares = !self.mutated(Mutation::StrayFreedWithoutComparing);
        if self.at_unit(unit).word != word && compares {
            return self.move_on("finds another word", At::ForgetNote, None);
        }
        self.unit("frees a stray unit", unit, At::HintHead(unit), |unit| unit.word = Word::Hole);
    }
}
