//! Spans of time, and what many figures come to.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Operations between two looks at the clock: its cost is spread until it does not show.
const BATCH_MAX: u64 = 256;

/// Operations and the time that they took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) operations: u64,
    pub(crate) ns: f64,
    /// Part of the time in which the thread had a processor: the rest went to other programs.
    pub(crate) cpu_share: f64,
}

impl Span {
    pub(crate) fn ns_per_operation(self) -> f64 {
        self.ns / self.operations as f64
    }

    pub(crate) fn millions_per_second(self) -> f64 {
        self.operations as f64 * 1e3 / self.ns
    }
}

/// The start of a span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    start: Instant,
    cpu_ns: f64,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { cpu_ns: thread_cpu_ns(), start: Instant::now() }
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn stop(self, operations: u64) -> Span {
        let ns = self.elapsed().as_nanos() as f64;
        let cpu_share = ((thread_cpu_ns() - self.cpu_ns) / ns).min(1.0);
        Span { operations, ns, cpu_share }
    }
}

/// Time for which this thread has had a processor.
fn thread_cpu_ns() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Repeats an operation until the time is over. It begins with small batches: an operation may take
/// milliseconds.
#[inline]
pub(crate) fn repeat_for(duration: Duration, mut operation: impl FnMut()) -> Span {
    let stopwatch = Stopwatch::start();
    let (mut operations, mut batch) = (0, 1);
    loop {
        for _ in 0..batch {
            operation();
        }
        operations += batch;
        if stopwatch.elapsed() >= duration {
            return stopwatch.stop(operations);
        }
        batch = BATCH_MAX.min(2 * batch);
    }
}

/// A point in time after which a preparation is not worth waiting for.
#[derive(Debug)]
pub(crate) struct Deadline {
    /// `None` if it is worth any time.
    end: Option<Instant>,
    patience: Duration,
    checks: u64,
}

/// A preparation took too long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GaveUp(Duration);

impl Deadline {
    /// Preparations are not measured, so the clock may cost something.
    const CHECKS_FOR_A_LOOK: u64 = 16;

    pub(crate) fn after(patience: Duration) -> Self {
        Self { end: Some(Instant::now() + patience), patience, checks: 0 }
    }

    pub(crate) fn never() -> Self {
        Self { end: None, patience: Duration::MAX, checks: 0 }
    }

    /// To be called before every operation; the clock is read for one of many.
    #[inline]
    pub(crate) fn check(&mut self) -> Result<(), GaveUp> {
        self.checks += 1;
        let looks = self.checks.is_multiple_of(Self::CHECKS_FOR_A_LOOK);
        let is_over = looks && self.end.is_some_and(|end| Instant::now() >= end);
        if is_over { Err(GaveUp(self.patience)) } else { Ok(()) }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gave up after {:?}", self.0)
    }
}

impl Error for GaveUp {}

/// Many figures of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` if there is no figure, or one that is none.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let upper = sorted.len() / 2;
        let lower = (sorted.len() - 1) / 2;
        let median = f64::midpoint(sorted[lower], sorted[upper]);
        sorted.iter().all(|figure| figure.is_finite()).then_some(Self { median, min, max })
    }

    /// Of the ratios within each round. Rounds that one of the two lacks are left out.
    pub(crate) fn of_ratios(figures: &[f64], baseline: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = figures.iter().zip(baseline).map(|(own, base)| own / base).collect();
        Self::of(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle() {
        let of = |figures: &[f64]| Spread::of(figures);
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(of(&[5.0]), Some(Spread { median: 5.0, min: 5.0, max: 5.0 }));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[1.0, f64::NAN]), None, "a division by nothing is no figure");
    }

    #[test]
    fn a_ratio_is_taken_within_rounds() {
        // The machine was ten times slower in the second round; each time, ours took twice as long.
        let ratio = Spread::of_ratios(&[2.0, 20.0, 2.0], &[1.0, 10.0, 1.0]).unwrap();
        assert_eq!((ratio.median, ratio.min, ratio.max), (2.0, 2.0, 2.0));
        assert_eq!(Spread::of_ratios(&[1.0], &[]), None);
    }

    #[test]
    fn a_deadline_is_seen() {
        let holds = |mut deadline: Deadline| (0..1000).all(|_| deadline.check().is_ok());
        assert!(holds(Deadline::never()) && holds(Deadline::after(Duration::from_secs(1000))));
        assert!(!holds(Deadline::after(Duration::ZERO)));
    }

    #[test]
    fn repeating_counts_every_operation() {
        let mut calls = 0;
        let span = repeat_for(Duration::from_millis(1), || calls += 1);
        assert_eq!(span.operations, calls);
        assert!(span.ns >= 1e6 && (0.0..=1.0).contains(&span.cpu_share));
        let span = Span { operations: 2000, ns: 1000.0, cpu_share: 1.0 };
        assert!((span.millions_per_second() - 2000.0).abs() < 1e-9);
    }
}
