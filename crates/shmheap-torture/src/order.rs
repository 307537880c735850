//! Looks for an order of several processes' operations that explains every address by first fit.
//!
//! ```text
//!   process 1   a1 [3]      a2 [5, 7]        each operation was one of these sessions, and no two
//!   process 2   b1 [4]      b2 [5, 7]        were the same; the model has each session's state
//!   process 3   c1 [5, 7]
//! ```
//!
//! Session by session, one of the processes' next operations is tried, if the session is one of its
//! own and the model gives the same address; where that leads nowhere, another. The model is the
//! plainest there is: a list of gaps, searched from the lowest.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use anyhow::{Result, bail};

/// An operation of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The sessions of which it was one.
    pub(crate) sessions: RangeInclusive<u64>,
    /// Where its object lies, in granules.
    pub(crate) at: u64,
    pub(crate) act: Act,
}

/// What an operation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Alloc {
        granules: u64,
        align: u64,
    },
    Free,
    /// Where it lies.
    Resize {
        granules: u64,
    },
    /// Nothing: that much does not fit where it lies.
    FindNoRoom {
        granules: u64,
    },
}

/// First fit, naively: live objects by their start.
#[derive(Debug, Default)]
struct Model {
    len: u64,
    live: BTreeMap<u64, u64>,
}

impl Model {
    fn lowest(&self, granules: u64, align: u64) -> Option<u64> {
        let mut gap: u64 = 0;
        let ends = self.live.iter().map(|(&start, &granules)| (start, start + granules));
        for (start, end) in ends.chain([(self.len, self.len)]) {
            let at = gap.next_multiple_of(align);
            if at + granules <= start {
                return Some(at);
            }
            gap = end;
        }
        None
    }

    /// How many granules the object may have where it lies.
    fn room(&self, at: u64) -> u64 {
        let next = self.live.range(at + 1..).next();
        next.map_or(self.len, |(&start, _)| start) - at
    }

    /// Does what the event says, if that is what first fit does; what undoes it.
    fn apply(&mut self, event: &Event) -> Option<Undo> {
        match event.act {
            Act::Alloc { granules, align } => {
                if self.lowest(granules, align) != Some(event.at) {
                    return None;
                }
                self.live.insert(event.at, granules);
                Some(Undo::Remove(event.at))
            }
            Act::Free => {
                let granules = self.live.remove(&event.at)?;
                Some(Undo::Insert(event.at, granules))
            }
            Act::Resize { granules } => {
                let fits = granules <= self.room(event.at);
                let size = self.live.get_mut(&event.at).filter(|_| fits)?;
                Some(Undo::Insert(event.at, std::mem::replace(size, granules)))
            }
            Act::FindNoRoom { granules } => {
                let fits = granules <= self.room(event.at);
                let granules = self.live.get(&event.at).filter(|_| !fits)?;
                Some(Undo::Insert(event.at, *granules))
            }
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Remove(at) => drop(self.live.remove(&at)),
            Undo::Insert(at, granules) => drop(self.live.insert(at, granules)),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Undo {
    Remove(u64),
    Insert(u64, u64),
}

/// An operation that was tried, and who is to be tried instead.
#[derive(Debug)]
struct Tried {
    process: usize,
    undo: Undo,
    session_before: u64,
}

/// An error unless some order of the rows' events explains all of them, in a heap of `len` granules
/// that was empty. Sessions in which none of them happened are passed over.
pub(crate) fn explain(rows: &[Vec<Event>], len: u64) -> Result<()> {
    let mut model = Model { len, ..Model::default() };
    let mut done = vec![0; rows.len()];
    let mut stack: Vec<Tried> = vec![];
    // What was tried in vain. With the same done by all, the same objects are live.
    let mut vain: HashSet<(u64, Vec<usize>)> = HashSet::new();
    let (mut session, mut first, mut farthest) = (0, 0, 0);
    loop {
        let pending = || rows.iter().zip(&done).filter_map(|(row, &at)| row.get(at));
        let Some(next) = pending().map(|event| *event.sessions.start()).min() else {
            return Ok(());
        };
        // The next session that any of them may have had.
        let now = next.max(session + 1);
        let is_late = pending().any(|event| *event.sessions.end() < now);
        let found = (first..rows.len()).filter(|_| !is_late).find_map(|process| {
            let event = rows[process].get(done[process])?;
            let is_its = event.sessions.contains(&now);
            let undo = is_its.then(|| model.apply(event)).flatten()?;
            done[process] += 1;
            if vain.contains(&(now, done.clone())) {
                done[process] -= 1;
                model.undo(undo);
                return None;
            }
            Some(Tried { process, undo, session_before: session })
        });
        if let Some(tried) = found {
            stack.push(tried);
            (session, first) = (now, 0);
            farthest = farthest.max(now);
            continue;
        }
        vain.insert((session, done.clone()));
        let Some(Tried { process, undo, session_before }) = stack.pop() else {
            bail!("it ends at session {}", farthest + 1);
        };
        model.undo(undo);
        done[process] -= 1;
        (session, first) = (session_before, process + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alloc(sessions: RangeInclusive<u64>, at: u64, granules: u64) -> Event {
        Event { sessions, at, act: Act::Alloc { granules, align: 1 } }
    }

    fn free(sessions: RangeInclusive<u64>, at: u64) -> Event {
        Event { sessions, at, act: Act::Free }
    }

    #[test]
    fn an_order_is_found_that_is_not_the_first_one_tried() {
        // The second process was first, as the addresses tell.
        let rows = [vec![alloc(1..=2, 2, 1)], vec![alloc(1..=2, 0, 2)]];
        explain(&rows, 10).unwrap();
        let both = [vec![alloc(1..=2, 0, 1)], vec![alloc(1..=2, 0, 2)]];
        assert!(explain(&both, 10).is_err(), "one place for two");
    }

    #[test]
    fn a_choice_that_shows_late_to_be_wrong_is_taken_back() {
        // Either may be first in the sessions 1 and 2; only one order leaves room at 0 for the
        // third.
        let rows = [
            vec![alloc(1..=2, 0, 1), free(3..=3, 0)],
            vec![alloc(1..=2, 1, 1), alloc(4..=4, 0, 1)],
        ];
        explain(&rows, 10).unwrap();
    }

    #[test]
    fn an_address_that_is_not_the_lowest_is_noticed() {
        let rows = [vec![alloc(1..=1, 0, 2), free(2..=2, 0), alloc(3..=3, 1, 1)]];
        assert!(explain(&rows, 10).is_err());
        let aligned = Event { act: Act::Alloc { granules: 1, align: 4 }, ..alloc(2..=2, 4, 1) };
        explain(&[vec![alloc(1..=1, 0, 2), aligned]], 10).unwrap();
    }

    #[test]
    fn an_object_is_resized_where_it_lies_exactly_if_there_is_room() {
        // A gap of two granules behind the object at 0.
        let explained = |act| {
            let before =
                [alloc(1..=1, 0, 1), alloc(2..=2, 1, 2), alloc(3..=3, 3, 1), free(4..=4, 1)];
            let row: Vec<_> =
                before.into_iter().chain([Event { sessions: 5..=5, at: 0, act }]).collect();
            explain(&[row], 10).is_ok()
        };
        for granules in 1..=3 {
            assert!(explained(Act::Resize { granules }));
            assert!(!explained(Act::FindNoRoom { granules }));
        }
        assert!(!explained(Act::Resize { granules: 4 }));
        assert!(explained(Act::FindNoRoom { granules: 4 }));
    }

    #[test]
    fn sessions_of_nobody_here_are_passed_over() {
        let rows = [vec![alloc(5..=9, 0, 2), free(12..=20, 0)]];
        explain(&rows, 10).unwrap();
    }
}
