//! Replay: the allocs and frees of a real program, as they are recorded in a trace.
//!
//! The first time, nothing is timed: objects are written from end to end, as a program does, or
//! large ones would not count as resident; and the memory that the peer holds is looked at again
//! and again, at the peak of live bytes among others. The figure is the most that it ever held for
//! the most that ever lived: what it needs, to be sure of going on. All further times are measured,
//! from the first event to the last.
//!
//! # Unsafe code
//!
//! Fills objects.
#![allow(unsafe_code)]

use anyhow::{Context, Result};

use super::held::Held;
use super::{Seat, Tally, replace, touch};
use crate::measure::{Deadline, Stopwatch};
use crate::peer::{Demand, Object, Worker};
use crate::trace::{Event, Trace};

/// How often the memory is looked at, evenly spread over the events.
const LOOKS: usize = 64;

/// That of the trace.
pub(super) const DEMAND: Demand = Demand { live_objects: 74_648, largest_bytes: 351_008 };

pub(super) fn run<W: Worker>(worker: &W, seat: Seat<'_>) -> Result<Tally> {
    let trace = Trace::shipped()?;
    let mut stage = Stage::new(worker, &trace);
    let held = Held::from_now()?;
    let mut deadline = Deadline::after(seat.effort.patience());
    let mut most_bytes = None;
    for (at, &event) in trace.events.iter().enumerate() {
        let progress = || format!("at {} % of the trace", 100 * at / trace.events.len());
        deadline.check().with_context(progress)?;
        stage.play_and_fill(event);
        if at.is_multiple_of(trace.events.len() / LOOKS) || at == trace.peak.event {
            most_bytes = most_bytes.max(held.bytes(worker)?);
        }
    }
    seat.all_ready();
    let stopwatch = Stopwatch::start();
    let mut times = 0;
    while times == 0 || stopwatch.elapsed() < seat.effort.measured() {
        stage.begun = 0;
        trace.events.iter().for_each(|&event| stage.play(event));
        times += 1;
    }
    let span = stopwatch.stop(times * trace.objects() as u64);
    let footprint = most_bytes.map(|bytes| bytes as f64 / trace.peak.live_bytes as f64);
    Ok(Tally { footprint, ..Tally::from(span) })
}

/// The objects of the trace.
struct Stage<'w, W> {
    worker: &'w W,
    places: Vec<Option<Object<W>>>,
    begun: usize,
}

impl<'w, W: Worker> Stage<'w, W> {
    fn new(worker: &'w W, trace: &Trace) -> Self {
        let mut places: Vec<_> = (0..trace.objects()).map(|_| None).collect();
        touch(&mut places, || None);
        Self { worker, places, begun: 0 }
    }

    #[inline]
    fn play(&mut self, event: Event) {
        match event {
            Event::Alloc { bytes } => {
                replace(self.worker, &mut self.places[self.begun], bytes as usize);
                self.begun += 1;
            }
            Event::Free { object } => {
                if let Some(object) = self.places[object as usize].take() {
                    self.worker.free(object);
                }
            }
        }
    }

    /// The same, and writes a new object from end to end.
    fn play_and_fill(&mut self, event: Event) {
        self.play(event);
        if let Event::Alloc { bytes } = event
            && let Some(object) = &mut self.places[self.begun - 1]
        {
            // SAFETY: it was just allocated with so many bytes.
            unsafe { object.fill(bytes as usize) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demand_is_that_of_the_trace() {
        let (mut live, mut most, mut largest) = (0, 0, 0);
        for event in Trace::shipped().unwrap().events {
            match event {
                Event::Alloc { bytes } => (live, largest) = (live + 1, largest.max(bytes)),
                Event::Free { .. } => live -= 1,
            }
            most = most.max(live);
        }
        assert_eq!((most, largest as usize), (DEMAND.live_objects, DEMAND.largest_bytes));
    }
}
