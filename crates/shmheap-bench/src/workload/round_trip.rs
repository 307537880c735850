//! Round trips: worker 0 sends a number, worker 1 sends the next one back; then again.
//!
//! Each trip is timed by itself, with a clock that costs some nanoseconds.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::latency::counts;
use super::{Seat, Tally};
use crate::measure::{Stopwatch, repeat_for};
use crate::ticks;
use crate::typed::{Lines, Receiver, Sender};

/// The lines there and back.
const THERE: usize = 0;
const BACK: usize = 1;

/// What is sent when no more trips follow.
const END: u64 = u32::MAX as u64;

/// Trips before anything is timed.
const WARM_UP: u64 = 100;

/// Durations in ticks: value and count, in order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trips {
    ticks: Vec<(u64, u64)>,
    ns_per_tick: f64,
}

impl Trips {
    pub(crate) fn us(&self, quantile: f64) -> f64 {
        let mut histogram = ticks::new_histogram();
        for &(ticks, count) in &self.ticks {
            histogram.saturating_record_n(ticks, count);
        }
        histogram.value_at_quantile(quantile) as f64 * self.ns_per_tick / 1e3
    }
}

pub(crate) fn run<L: Lines<1>>(site: &L, seat: Seat<'_>) -> Result<Tally> {
    if seat.number == 0 { travel(site, seat) } else { answer(site, seat) }
}

fn travel<L: Lines<1>>(site: &L, seat: Seat<'_>) -> Result<Tally> {
    let mut back = site.receiver(BACK)?;
    seat.meet(2);
    let mut there = site.sender(THERE)?;
    seat.meet(3);
    let ns_per_tick = ticks::ns_per_tick();
    let mut durations = ticks::new_histogram();
    let mut number = 0;
    let mut trip = || -> Result<u64> {
        number += 1;
        let start = ticks::now();
        there.send([number])?;
        there.flush()?;
        let [answer] = back.receive()?;
        let end = ticks::now();
        ensure!(answer == number + 1, "{answer} came back for {number}");
        Ok(end - start)
    };
    for _ in 0..WARM_UP {
        trip()?;
    }
    let span = repeat_for(seat.effort.measured(), || {
        durations.saturating_record(trip().expect("a line that works"));
    });
    there.send([END])?;
    there.flush()?;
    seat.meet(4);
    let trips = Trips { ticks: counts(&durations), ns_per_tick };
    Ok(Tally { trips: Some(trips), ..Tally::from(span) })
}

fn answer<L: Lines<1>>(site: &L, seat: Seat<'_>) -> Result<Tally> {
    let mut there = site.receiver(THERE)?;
    seat.meet(2);
    let mut back = site.sender(BACK)?;
    seat.meet(3);
    let stopwatch = Stopwatch::start();
    let mut count = 0;
    loop {
        let [number] = there.receive()?;
        if number == END {
            break;
        }
        count += 1;
        back.send([number + 1])?;
        back.flush()?;
    }
    let span = stopwatch.stop(count);
    seat.meet(4);
    Ok(span.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_microseconds() {
        let trips = Trips { ticks: vec![(1000, 98), (4000, 2)], ns_per_tick: 0.5 };
        assert!((trips.us(0.5) - 0.5).abs() < 0.01);
        assert!((trips.us(0.99) - 2.0).abs() < 0.01);
    }
}
