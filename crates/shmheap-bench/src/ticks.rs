//! The cheapest clock there is, for single operations.
//!
//! `rdtscp` waits until everything before it has been executed, so an operation is charged for all
//! of its own work; what it costs itself is measured and reported. Elsewhere than on x86-64 the
//! system's clock stands in.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

const CALIBRATION: Duration = Duration::from_millis(10);
const READINGS: usize = 10_000;

/// A moment, in ticks of an unknown length since an unknown start.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn now() -> u64 {
    let mut processor = 0;
    // SAFETY: every x86-64 processor of the last decade and a half has it, and it writes one u32.
    unsafe { std::arch::x86_64::__rdtscp(&raw mut processor) }
}

/// A moment, in nanoseconds.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub(crate) fn now() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

/// The length of a tick in nanoseconds.
pub(crate) fn ns_per_tick() -> f64 {
    let (start, first) = (Instant::now(), now());
    while start.elapsed() < CALIBRATION {
        std::hint::spin_loop();
    }
    let (taken, last) = (start.elapsed(), now());
    taken.as_nanos() as f64 / last.saturating_sub(first).max(1) as f64
}

/// What the clock adds to what it measures, in ticks.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Timer {
    /// The cost of one reading: the median distance of two in a row.
    pub(crate) cost: u64,
    /// The least that two readings differ by, if they do: many processors count in steps.
    pub(crate) step: u64,
}

impl Timer {
    pub(crate) fn measure() -> Self {
        let mut distances = new_histogram();
        let mut step = u64::MAX;
        for _ in 0..READINGS {
            let first = now();
            let distance = now().saturating_sub(first);
            distances.saturating_record(distance);
            step = step.min(distance.max(1));
        }
        Self { cost: distances.value_at_quantile(0.5), step }
    }
}

/// For durations of 1 to 2^40 ticks, to three digits.
pub(crate) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 1 << 40, 3).expect("the bounds are in order")
}
