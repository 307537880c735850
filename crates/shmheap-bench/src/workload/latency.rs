//! Churn, each operation timed by itself.
//!
//! Every figure includes one reading of the clock. Its cost is reported beside it, and the step in
//! which it counts, below which figures mean nothing.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::churn::{Churn, Herd};
use super::random::Random;
use super::{Seat, Tally};
use crate::measure::repeat_for;
use crate::peer::Worker;
use crate::ticks::{self, Timer};

/// Durations of one worker's operations in ticks: value and count, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latency {
    alloc_ticks: Vec<(u64, u64)>,
    free_ticks: Vec<(u64, u64)>,
    timer: Timer,
    ns_per_tick: f64,
}

/// Durations of all workers of a crew.
#[derive(Debug)]
pub(crate) struct Merged {
    alloc: Histogram<u64>,
    free: Histogram<u64>,
    timer: Timer,
    ns_per_tick: f64,
}

pub(super) fn run<W: Worker>(worker: &W, churn: Churn, seat: Seat<'_>) -> Result<Tally> {
    let mut herd = Herd::new(churn, worker, seat.number);
    herd.warm_up(seat.effort.warm_up_turns, churn.deadline(seat.effort))?;
    let (ns_per_tick, timer) = (ticks::ns_per_tick(), Timer::measure());
    let (mut alloc, mut free) = (ticks::new_histogram(), ticks::new_histogram());
    seat.all_ready();
    let span = repeat_for(seat.effort.measured(), || {
        let bits = herd.random.next();
        let place = Random::below(bits, herd.places.len());
        let bytes = herd.sizes.pick(bits);
        let Some(old) = herd.places[place].take() else { return };
        let start = ticks::now();
        worker.free(old);
        let freed = ticks::now();
        let mut new = worker.alloc(bytes);
        let allocated = ticks::now();
        new.write(bytes as u64);
        herd.places[place] = Some(new);
        free.saturating_record(freed - start);
        alloc.saturating_record(allocated - freed);
    });
    let latency =
        Latency { alloc_ticks: counts(&alloc), free_ticks: counts(&free), timer, ns_per_tick };
    Ok(Tally { latency: Some(latency), ..Tally::from(span) })
}

pub(super) fn counts(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = histogram.iter_recorded();
    recorded.map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

impl Merged {
    /// `None` if a worker has measured none.
    pub(crate) fn of(tallies: &[Tally]) -> Option<Self> {
        let first = tallies.first()?.latency.as_ref()?;
        let mut merged = Self {
            alloc: ticks::new_histogram(),
            free: ticks::new_histogram(),
            timer: first.timer,
            ns_per_tick: first.ns_per_tick,
        };
        for tally in tallies {
            let latency = tally.latency.as_ref()?;
            for &(ticks, count) in &latency.alloc_ticks {
                merged.alloc.saturating_record_n(ticks, count);
            }
            for &(ticks, count) in &latency.free_ticks {
                merged.free.saturating_record_n(ticks, count);
            }
        }
        Some(merged)
    }

    pub(crate) fn alloc_ns(&self, quantile: f64) -> f64 {
        self.alloc.value_at_quantile(quantile) as f64 * self.ns_per_tick
    }

    pub(crate) fn free_ns(&self, quantile: f64) -> f64 {
        self.free.value_at_quantile(quantile) as f64 * self.ns_per_tick
    }

    pub(crate) fn timer_ns(&self) -> f64 {
        self.timer.cost as f64 * self.ns_per_tick
    }

    pub(crate) fn step_ns(&self) -> f64 {
        self.timer.step as f64 * self.ns_per_tick
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Span;

    #[test]
    fn workers_histograms_are_merged() {
        let tally = |ticks| Tally {
            latency: Some(Latency {
                alloc_ticks: vec![(ticks, 50)],
                free_ticks: vec![(1, 1)],
                timer: Timer { cost: 10, step: 2 },
                ns_per_tick: 0.5,
            }),
            ..Tally::from(Span { operations: 1, ns: 1.0, cpu_share: 1.0 })
        };
        let merged = Merged::of(&[tally(100), tally(200)]).unwrap();
        assert!((merged.alloc_ns(0.5) - 50.0).abs() < 0.1);
        assert!((merged.alloc_ns(0.99) - 100.0).abs() < 0.1);
        assert!((merged.timer_ns() - 5.0).abs() < 1e-9);
        assert!((merged.step_ns() - 1.0).abs() < 1e-9);
    }
}
