//! Copies of the records made while their holder goes on: torn, and recovered all the same.
//!
//! Who copies word by word sees each word at any moment of the operation. So an image has, for
//! each address on its own, any of the values that it has in the course of the operation; only the
//! announcement in the journal, which is read last, is there whenever any other store is. Recovery
//! must make the same heap of all of these images. And if a recovery is copied in its turn, a word
//! may have what the operation or what the recovery stored.

use super::kills::{Operation, choose, counts, is_journal, run};
use super::memory::{DEAD, JOURNAL, Memory, Random, World, heap, seed};
use crate::first_fit::FirstFit;
use crate::first_fit::layout::Position;
use crate::units::WordIndex;

type Stores = Vec<(WordIndex, u64)>;

/// One operation, and what it stored between its announcement and its end.
struct Case<'t> {
    engine: &'t FirstFit,
    memory: &'t Memory,
    before: Vec<u64>,
    announced: Stores,
    changes: Stores,
    want: Vec<u64>,
}

impl Case<'_> {
    fn new<'t>(
        engine: &'t FirstFit,
        memory: &'t Memory,
        [before, after]: [&Vec<u64>; 2],
        stores: &[(WordIndex, u64)],
        operation: Operation,
    ) -> Option<Case<'t>> {
        let announces = |&(at, value): &(WordIndex, u64)| at == JOURNAL && value != 0;
        let kind = stores.iter().position(announces)?;
        let changes = stores[kind + 1..].iter().filter(|(at, _)| counts(*at));
        let want = if operation.is_undone() { before } else { after };
        Some(Case {
            engine,
            memory,
            before: before.clone(),
            announced: stores[..=kind].to_vec(),
            changes: changes.copied().filter(|&(at, _)| !is_journal(at)).collect(),
            want: want.clone(),
        })
    }

    /// Each address of the stores gets a value that it had before them or at any time in them.
    fn tear(&self, random: &mut Random, stores: &[(WordIndex, u64)]) {
        for (number, &(at, _)) in stores.iter().enumerate() {
            if stores[..number].iter().any(|&(other, _)| other == at) {
                continue;
            }
            let values = stores.iter().filter(|&&(other, _)| other == at).map(|&(_, value)| value);
            let values: Vec<u64> =
                std::iter::once(self.before[at.0 as usize]).chain(values).collect();
            self.memory.poke(at, values[random.below(values.len() as u64) as usize]);
        }
    }

    /// Recovers, and returns what that has stored to the records.
    fn recover(&self) -> Stores {
        let ((), stores) =
            self.memory.record(|| self.engine.adopt(self.memory, DEAD, &World).unwrap());
        let different = self.memory.differs(&self.want, self.changes.iter().chain(&stores), counts);
        assert_eq!(different, None, "a word differs, of {:?}", self.changes);
        stores.into_iter().filter(|&(at, _)| counts(at)).collect()
    }

    fn announce(&self) {
        self.announced.iter().for_each(|&(at, value)| self.memory.poke(at, value));
    }

    fn tear_often(&self, random: &mut Random, times: u64) {
        for _ in 0..times {
            self.announce();
            self.tear(random, &self.changes);
            let recovery = self.recover();
            // The recovery of the operation is torn itself, over any part of the operation.
            self.announce();
            self.tear(random, &[self.changes.clone(), recovery].concat());
            self.recover();
        }
    }
}

#[test]
fn torn_copies_are_recovered() {
    let mut random = Random(seed());
    let (traces, operations, times) = if cfg!(miri) { (1, 4, 2) } else { (40, 1000, 10) };
    let granules_max = 4096;
    let mut copies = 0;
    for _ in 0..traces {
        let mut end = 600 + random.below(2000);
        let (engine, memory) = heap(end, granules_max, 16);
        let mut live = vec![];
        for _ in 0..operations {
            let operation = match choose(&mut random, &live, end, granules_max) {
                Operation::Grow(to) => Operation::Grow(Position(to.0.min(granules_max))),
                other => other,
            };
            let before = memory.image();
            let (result, stores) = memory.record(|| run(&engine, &memory, DEAD, operation));
            let after = memory.image();
            if let Some(case) = Case::new(&engine, &memory, [&before, &after], &stores, operation) {
                memory.restore(&before);
                case.tear_often(&mut random, times);
                copies += 2 * times;
            }
            memory.restore(&after);
            match operation {
                Operation::Alloc { .. } => live.extend(result),
                Operation::Free(at) => live.retain(|&other| other != at),
                Operation::Resize(..) => {}
                Operation::Grow(to) => end = to.0,
            }
        }
    }
    println!("{copies} torn copies");
    assert!(cfg!(miri) || copies > 100_000, "{copies} torn copies");
}
