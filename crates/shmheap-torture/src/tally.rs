//! `Tally`: what a section has tried, and what was bad.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Bad points that are told in words, of each worker.
const TOLD_MAX: u64 = 10;

/// Counts of one worker, or of all.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) points: u64,
    pub(crate) bad: u64,
    /// What else was counted; workers' counts add up.
    counts: BTreeMap<String, u64>,
    /// The largest of something; of workers, the largest of theirs.
    most: BTreeMap<String, u64>,
    /// Where the worker is, for what it tells.
    #[serde(skip)]
    place: String,
    /// Bad points that were told.
    #[serde(skip)]
    told: u64,
}

impl Tally {
    /// Begins anew, after what was counted has been reported.
    pub(crate) fn clear(&mut self) {
        *self = Self { place: std::mem::take(&mut self.place), told: self.told, ..Self::default() };
    }

    /// Says where the next points are tried.
    pub(crate) fn at(&mut self, place: String) {
        self.place = place;
    }

    /// Counts a point, which is bad if it is an error.
    pub(crate) fn point(&mut self, result: Result<()>) {
        self.points(1, result);
    }

    /// Counts points of which one is bad if there is an error.
    #[allow(clippy::print_stderr, reason = "this is what the worker says to its user")]
    pub(crate) fn points(&mut self, count: u64, result: Result<()>) {
        self.points += count;
        let Err(error) = result else { return };
        self.bad += 1;
        if self.told < TOLD_MAX {
            self.told += 1;
            eprintln!("BAD: {}: {error:#}", self.place);
        }
    }

    pub(crate) fn count(&mut self, what: &str, count: u64) {
        *self.counts.entry(what.to_owned()).or_default() += count;
    }

    pub(crate) fn most(&mut self, what: &str, value: u64) {
        let most = self.most.entry(what.to_owned()).or_default();
        *most = value.max(*most);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.points += other.points;
        self.bad += other.bad;
        other.counts.iter().for_each(|(what, count)| self.count(what, *count));
        other.most.iter().for_each(|(what, value)| self.most(what, *value));
    }

    /// Counts and the like in words.
    pub(crate) fn details(&self) -> String {
        let counts = self.counts.iter().map(|(what, count)| format!("{count} {what}"));
        let most = self.most.iter().map(|(what, value)| format!("{what} {value}"));
        counts.chain(most).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_of_the_most_the_larger_stays() {
        let mut all = Tally::default();
        for (value, is_bad) in [(3, false), (9, true), (5, false)] {
            let mut one = Tally::default();
            one.point(if is_bad { Err(anyhow::anyhow!("a test")) } else { Ok(()) });
            one.count("stores", value);
            one.most("worst", value);
            all.add(&one);
        }
        assert_eq!((all.points, all.bad), (3, 1));
        assert_eq!(all.details(), "17 stores, worst 9");
    }
}
