//! From what the workers measured to the figures of the tables.

use super::Figures;
use crate::measure::Span;
use crate::workload::messages::first_consumer;
use crate::workload::{Merged, RECEIVER, Tally};

/// The workers of a crew work at the same time, so their speeds add up.
fn millions_per_second(crew: &[Tally]) -> f64 {
    crew.iter().map(|tally| tally.span.millions_per_second()).sum()
}

/// Of one worker.
pub(super) fn of_speed(crews: &[Vec<Tally>]) -> Figures {
    let tally = &crews[0][0];
    let mut figures = Figures::from([
        ("ns/op", tally.span.ns_per_operation()),
        ("Mop/s", tally.span.millions_per_second()),
    ]);
    figures.extend(tally.footprint.map(|footprint| ("held/live", footprint)));
    figures
}

pub(super) fn of_scaling(crews: &[Vec<Tally>]) -> Figures {
    let speeds: Vec<f64> = crews.iter().map(|crew| millions_per_second(crew)).collect();
    let scaling = speeds.iter().skip(1).map(|speed| speed / speeds[0]);
    let mut figures: Figures = ["2 / 1", "4 / 1"].into_iter().zip(scaling).collect();
    figures.extend(["Mop/s of 1", "of 2", "of 4"].into_iter().zip(speeds.iter().copied()));
    figures
}

pub(super) fn of_handoff(crews: &[Vec<Tally>]) -> Figures {
    let span = crews[0][RECEIVER].span;
    Figures::from([
        ("ns/message", span.ns_per_operation()),
        ("Mmessages/s", span.millions_per_second()),
    ])
}

pub(super) fn of_exchange(crews: &[Vec<Tally>]) -> Figures {
    let crew = &crews[0];
    let speed = millions_per_second(crew);
    Figures::from([("ns/op", crew.len() as f64 * 1e3 / speed), ("Mop/s", speed)])
}

pub(super) fn of_depth(crews: &[Vec<Tally>]) -> Figures {
    let depths = ["1000", "10,000", "100,000", "n = 1,000,000"];
    let ns = crews.iter().map(|crew| crew[0].span.ns_per_operation());
    let mut figures: Figures = depths.into_iter().zip(ns).collect();
    let ends = figures.get(depths[3]).zip(figures.get(depths[0]));
    let growth = ends.map(|(last, first)| last / first);
    figures.extend(growth.map(|growth| ("growth", growth)));
    figures
}

pub(super) fn of_latency(crews: &[Vec<Tally>]) -> Figures {
    let Some(merged) = Merged::of(&crews[0]) else { return Figures::new() };
    Figures::from([
        ("alloc p50", merged.alloc_ns(0.5)),
        ("alloc p99", merged.alloc_ns(0.99)),
        ("alloc p99.9", merged.alloc_ns(0.999)),
        ("free p50", merged.free_ns(0.5)),
        ("free p99", merged.free_ns(0.99)),
        ("free p99.9", merged.free_ns(0.999)),
        ("timer", merged.timer_ns()),
        ("step", merged.step_ns()),
    ])
}

pub(super) fn of_start(crews: &[Vec<Tally>]) -> Figures {
    Figures::from([("us", crews[0][0].span.ns / 1e3)])
}

/// Of one worker.
pub(super) fn of_map(crews: &[Vec<Tally>]) -> Figures {
    let tally = &crews[0][0];
    let spans = std::iter::once(&tally.span).chain(&tally.others);
    let columns = ["ns/get", "ns/absent", "ns/op of 90:10", "ns/insert"];
    columns.into_iter().zip(spans.map(|span| span.ns_per_operation())).collect()
}

/// Of several together.
pub(super) fn of_map_shared(crews: &[Vec<Tally>]) -> Figures {
    let together = |of: fn(&Tally) -> Option<&Span>| {
        crews[0].iter().filter_map(of).map(|span| span.millions_per_second()).sum::<f64>()
    };
    Figures::from([
        ("Mget/s", together(|tally| Some(&tally.span))),
        ("Mabsent/s", together(|tally| tally.others.first())),
        ("Mop/s of 90:10", together(|tally| tally.others.get(1))),
    ])
}

pub(super) fn of_messages(crews: &[Vec<Tally>]) -> Figures {
    let crew = &crews[0];
    let speed = millions_per_second(&crew[first_consumer(crew.len())..]);
    Figures::from([("ns/message", 1e3 / speed), ("Mmessages/s", speed)])
}

pub(super) fn of_round_trips(crews: &[Vec<Tally>]) -> Figures {
    let Some(trips) = &crews[0][0].trips else { return Figures::new() };
    Figures::from([
        ("us p50", trips.us(0.5)),
        ("us p99", trips.us(0.99)),
        ("us p99.9", trips.us(0.999)),
    ])
}
