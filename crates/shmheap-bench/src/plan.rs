//! The plan: which peers, which experiments, how they are shown, and what is aimed at.
//!
//! One experiment may fill several tables: footprints are read in the churn whose speed is
//! measured. Targets are ratios within one run on one machine, or plain figures.

use std::collections::BTreeMap;

use anyhow::Result;
use shmheap::Policy;

use crate::crew::AnyPeer;
use crate::options::{Effort, Options};
use crate::peer::Sharing;
use crate::peer::boost;
use crate::peer::bump;
use crate::peer::c_library::CLibrary;
use crate::peer::first_fit_list::FirstFitList;
use crate::peer::jemalloc::Jemalloc;
use crate::peer::malloc::Malloc;
use crate::peer::mimalloc;
use crate::peer::rts_alloc::RtsAlloc;
use crate::peer::shmheap::Shmheap;
use crate::peer::snmalloc::Snmalloc;
use crate::peer::talc::Talc;
use crate::workload::{Churn, Merged, RECEIVER, Tally, Work};

/// All peers, in the order of the tables' rows.
pub(crate) fn peers() -> Vec<Box<dyn AnyPeer>> {
    vec![
        Box::new(Shmheap::new("shmheap scalable", Policy::Scalable)),
        Box::new(Shmheap::new("shmheap first fit", Policy::FirstFit)),
        Box::new(CLibrary),
        Box::new(boost::RBTREE),
        Box::new(boost::SEQ_FIT),
        Box::new(FirstFitList),
        Box::new(RtsAlloc),
        Box::new(Talc),
        Box::new(mimalloc::USUAL),
        Box::new(mimalloc::SMALL_PAGES),
        Box::new(Jemalloc),
        Box::new(Snmalloc),
        Box::new(Malloc),
        Box::new(bump::WARM),
        Box::new(bump::FRESH),
    ]
}

/// What one experiment found in one round: figures by the titles of columns.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// The column that every table has: the part of its time for which the least lucky worker had a
/// processor. Much below 1, the machine had other things to do, and the figures mean little.
pub(crate) const CPU: &str = "cpu";

/// Something to do, and the tables it fills.
pub(crate) struct Experiment {
    pub(crate) name: &'static str,
    work: Work,
    /// How many workers; if several crews, one after the other.
    pub(crate) crews: &'static [usize],
    figures: fn(&[Vec<Tally>]) -> Figures,
    pub(crate) tables: Vec<Table>,
}

/// A table, a row for each peer.
#[derive(Clone)]
pub(crate) struct Table {
    pub(crate) workload: &'static str,
    pub(crate) title: &'static str,
    /// The first is the figure that spread, ratio and target are about.
    pub(crate) columns: &'static [&'static str],
    /// The peer that ratios are taken to.
    pub(crate) baseline: Option<&'static str>,
    pub(crate) target: Option<Target>,
}

/// What the peers whose names start with `peers` are to reach: in the ratio if the table has one,
/// else in the first figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) peers: &'static str,
    pub(crate) bound: Bound,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    pub(crate) fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(bound) => figure <= bound,
            Self::AtLeast(bound) => figure >= bound,
        }
    }
}

impl Experiment {
    /// Whether it fills a table that was asked for; the others are dropped at printing.
    pub(crate) fn is_wanted(&self, options: &Options) -> bool {
        self.tables.iter().any(|table| options.wants(table.workload))
    }

    /// Why the peer cannot do this, if so.
    pub(crate) fn excludes(&self, peer: &dyn AnyPeer) -> Option<&'static str> {
        let most_workers = self.crews.iter().copied().max().unwrap_or(1);
        let lacks_names = self.work.needs_names() && peer.sharing() == Sharing::Threads;
        let reason = peer.refuses(self.work.demand(most_workers));
        reason.or_else(|| lacks_names.then_some("has no heaps to create and connect to"))
    }

    pub(crate) fn run(&self, peer: &dyn AnyPeer, effort: Effort) -> Result<Figures> {
        let run = |&workers: &usize| peer.run_crew(self.work, workers, effort);
        let tallies: Vec<Vec<Tally>> = self.crews.iter().map(run).collect::<Result<_>>()?;
        let shares = tallies.iter().flatten().map(|tally| tally.span.cpu_share);
        let mut figures = (self.figures)(&tallies);
        figures.insert(CPU, shares.fold(1.0, f64::min));
        Ok(figures)
    }
}

const SCALABLE: &str = "shmheap scalable";
const ANY_SHMHEAP: &str = "shmheap";

const SMALL_HERD: Churn = Churn { live: 10_000, least_bytes: 16, most_bytes: 512 };
const LARGE_HERD: Churn = Churn { live: 1_000_000, least_bytes: 16, most_bytes: 128 };
const LARGE_OBJECTS: Churn = Churn { live: 200, least_bytes: 4 << 10, most_bytes: 1 << 20 };

/// All experiments, in the order of the tables.
pub(crate) fn experiments() -> Vec<Experiment> {
    let mut all = churns();
    all.extend(between_workers());
    all.push(latency());
    all.extend(starts());
    all
}

fn churns() -> Vec<Experiment> {
    let at_most = |bound| Some(Target { peers: SCALABLE, bound: Bound::AtMost(bound) });
    let speed = |workload, title, bound| Table {
        workload,
        title,
        columns: &["ns/op"],
        baseline: Some("mimalloc"),
        target: at_most(bound),
    };
    let footprint = |title, bound| Table {
        workload: "W8",
        title,
        columns: &["held/live"],
        baseline: None,
        target: at_most(bound),
    };
    let experiment = |name, churn, tables| Experiment {
        name,
        work: Work::Churn(churn),
        crews: &[1],
        figures: churn_figures,
        tables,
    };
    vec![
        experiment(
            "W1 churn, 10,000 live",
            SMALL_HERD,
            vec![
                speed("W1", "churn: 10,000 live objects of 16-512 B", 1.2),
                Table {
                    workload: "W1",
                    title: "churn: 10,000 live objects of 16-512 B, beside Boost.Interprocess",
                    columns: &["Mop/s"],
                    baseline: Some("boost rbtree"),
                    target: Some(Target { peers: SCALABLE, bound: Bound::AtLeast(35.0) }),
                },
                footprint("footprint / live bytes: 10,000 live objects of 16-512 B", 1.35),
            ],
        ),
        experiment(
            "W1 churn, 1,000,000 live",
            LARGE_HERD,
            vec![
                speed("W1", "churn: 1,000,000 live objects of 16-128 B", 1.0),
                footprint("footprint / live bytes: 1,000,000 live objects of 16-128 B", 1.12),
            ],
        ),
        experiment(
            "W6 large objects",
            LARGE_OBJECTS,
            vec![speed("W6", "large objects: 200 live of 4 KiB-1 MiB", 1.5)],
        ),
    ]
}

fn between_workers() -> Vec<Experiment> {
    let table =
        |workload, title, columns| Table { workload, title, columns, baseline: None, target: None };
    let scalable = |bound| Some(Target { peers: SCALABLE, bound });
    vec![
        Experiment {
            name: "W2 churn, 1 and 2 workers",
            work: Work::Churn(SMALL_HERD),
            crews: &[1, 2],
            figures: scaling_figures,
            tables: vec![Table {
                target: scalable(Bound::AtLeast(1.9)),
                ..table(
                    "W2",
                    "churn by 2 workers on one heap / by 1: 10,000 live objects of 16-512 B each",
                    &["2 / 1", "Mop/s of 2", "Mop/s of 1"],
                )
            }],
        },
        Experiment {
            name: "W3 hand-off",
            work: Work::HandOff,
            crews: &[2],
            figures: handoff_figures,
            tables: vec![Table {
                baseline: Some("bump fresh"),
                target: scalable(Bound::AtMost(2.0)),
                ..table(
                    "W3",
                    "hand-off: A allocates 64-1024 B, writes, sends; B reads, frees",
                    &["ns/message", "Mmessages/s"],
                )
            }],
        },
        Experiment {
            name: "W4 exchange",
            work: Work::Exchange,
            crews: &[2],
            figures: exchange_figures,
            tables: vec![Table {
                baseline: Some("mimalloc"),
                ..table(
                    "W4",
                    "exchange: every object of 16-512 B is freed by the other of 2 workers",
                    &["ns/op", "Mop/s"],
                )
            }],
        },
    ]
}

fn latency() -> Experiment {
    let table = |title, columns| Table {
        workload: "W9",
        title,
        columns,
        baseline: None,
        target: Some(Target { peers: SCALABLE, bound: Bound::AtMost(60.0) }),
    };
    Experiment {
        name: "W9 latency",
        work: Work::TimedChurn(SMALL_HERD),
        crews: &[2],
        figures: latency_figures,
        tables: vec![
            table(
                "latency of alloc, ns with timer, 2 workers, 10,000 live objects each",
                &["alloc p99.9", "alloc p99", "alloc p50", "timer", "step"],
            ),
            table(
                "latency of free, ns with timer, 2 workers, 10,000 live objects each",
                &["free p99.9", "free p99", "free p50", "timer", "step"],
            ),
        ],
    }
}

fn starts() -> Vec<Experiment> {
    let start = |name, work, title, bound| Experiment {
        name,
        work,
        crews: &[1],
        figures: start_figures,
        tables: vec![Table {
            workload: "W7",
            title,
            columns: &["us"],
            baseline: None,
            target: Some(Target { peers: ANY_SHMHEAP, bound: Bound::AtMost(bound) }),
        }],
    };
    vec![
        start("W7 create", Work::Create, "create a heap of up to 1 GiB, first alloc", 50.0),
        start("W7 connect", Work::Connect, "connect, resolve, read, disconnect", 40.0),
    ]
}

/// The workers of a crew work at the same time, so their speeds add up.
fn millions_per_second(crew: &[Tally]) -> f64 {
    crew.iter().map(|tally| tally.span.millions_per_second()).sum()
}

fn churn_figures(crews: &[Vec<Tally>]) -> Figures {
    let tally = &crews[0][0];
    let mut figures = Figures::from([
        ("ns/op", tally.span.ns_per_operation()),
        ("Mop/s", tally.span.millions_per_second()),
    ]);
    figures.extend(tally.footprint.map(|footprint| ("held/live", footprint)));
    figures
}

fn scaling_figures(crews: &[Vec<Tally>]) -> Figures {
    let [one, two] = [millions_per_second(&crews[0]), millions_per_second(&crews[1])];
    Figures::from([("2 / 1", two / one), ("Mop/s of 2", two), ("Mop/s of 1", one)])
}

fn handoff_figures(crews: &[Vec<Tally>]) -> Figures {
    let span = crews[0][RECEIVER].span;
    Figures::from([
        ("ns/message", span.ns_per_operation()),
        ("Mmessages/s", span.millions_per_second()),
    ])
}

fn exchange_figures(crews: &[Vec<Tally>]) -> Figures {
    let crew = &crews[0];
    let speed = millions_per_second(crew);
    Figures::from([("ns/op", crew.len() as f64 * 1e3 / speed), ("Mop/s", speed)])
}

fn latency_figures(crews: &[Vec<Tally>]) -> Figures {
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

fn start_figures(crews: &[Vec<Tally>]) -> Figures {
    Figures::from([("us", crews[0][0].span.ns / 1e3)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the experiments that the peer has a reason not to take part in.
    fn excluded(peer: &dyn AnyPeer) -> Vec<&'static str> {
        let all = experiments().into_iter();
        all.filter(|one| one.excludes(peer).is_some()).map(|one| one.name).collect()
    }

    #[test]
    fn peers_are_spared_what_they_cannot_do() {
        assert!(excluded(&Shmheap::new("any", Policy::Scalable)).is_empty());
        assert!(excluded(&FirstFitList).contains(&"W1 churn, 1,000,000 live"));
        assert!(excluded(&RtsAlloc).contains(&"W6 large objects"));
        assert!(excluded(&Talc).contains(&"W7 create"));
    }
}
