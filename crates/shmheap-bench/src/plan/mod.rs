//! The plan: which peers, which experiments, how they are shown, and what is aimed at.
//!
//! One experiment may fill several tables: footprints are read in the churn whose speed is
//! measured. Targets are ratios within one run on one machine, or plain figures.
//!
//! | module | gives |
//! |---|---|
//! | `figures` | from what the workers measured to the figures in the columns |
//! | `experiments` | what is done, by how many, and what it is aimed at |
//! | `typed` | the same for maps, channels and locks, and who takes part |

mod figures;

mod experiments;
mod typed;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::thread;

use anyhow::Result;
use shmheap::Policy;

use crate::crew::AnyPeer;
use crate::options::{Effort, Options};
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
use crate::workload::{Contest, Tally, Work};

/// All experiments, in the order of the tables.
pub(crate) fn experiments() -> Vec<Experiment> {
    let mut all = experiments::experiments();
    all.extend(typed::experiments());
    all
}

/// All peers, in the order of the tables' rows.
pub(crate) fn peers() -> Vec<Box<dyn AnyPeer>> {
    let mut all = allocators();
    all.extend(typed::peers());
    all
}

fn allocators() -> Vec<Box<dyn AnyPeer>> {
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

/// Figures by the titles of columns.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// From the tallies of crews.
type FiguresOf = fn(&[Vec<Tally>]) -> Figures;

/// What one experiment found in one round.
#[derive(Default)]
pub(crate) struct Round {
    pub(crate) figures: Figures,
    /// Why figures are missing, if the peer was too slow for some.
    pub(crate) gave_up: Option<String>,
}

/// The column that every table has: the part of the processor time due to it that the least lucky
/// worker had. Much below 1, the machine had other things to do, and the figures mean little.
pub(crate) const CPU: &str = "cpu";

/// Something to do, and the tables it fills.
pub(crate) struct Experiment {
    pub(crate) name: &'static str,
    /// One after the other.
    crews: Vec<Crew>,
    /// From the tallies of the crews, not many if one gave up, but at least one.
    figures: FiguresOf,
    pub(crate) tables: Vec<Table>,
}

/// So many workers who do a work at the same time.
struct Crew {
    work: Work,
    workers: usize,
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

    /// Whether the peer has rows in its tables.
    pub(crate) fn is_for(&self, peer: &dyn AnyPeer) -> bool {
        self.contest() == Some(peer.contest())
    }

    fn contest(&self) -> Option<Contest> {
        self.crews.first().map(|crew| crew.work.contest())
    }

    /// Why the peer cannot do any of this, if so.
    pub(crate) fn excludes(&self, peer: &dyn AnyPeer) -> Option<&'static str> {
        self.crews.first().and_then(|crew| crew.excludes(peer))
    }

    /// The sizes of its crews, each once.
    pub(crate) fn workers(&self) -> Vec<usize> {
        let mut workers: Vec<_> = self.crews.iter().map(|crew| crew.workers).collect();
        workers.dedup();
        workers
    }

    /// Whoever gives up is spared the later crews, which are to do more.
    pub(crate) fn run(&self, peer: &dyn AnyPeer, effort: Effort) -> Result<Round> {
        let mut round = Round::default();
        let mut done = Vec::new();
        for crew in &self.crews {
            if let Some(reason) = crew.excludes(peer) {
                round.gave_up = Some(reason.to_owned());
                break;
            }
            let tallies = peer.run_crew(crew.work, crew.workers, effort)?;
            round.gave_up = tallies.iter().find_map(|tally| tally.gave_up.clone());
            if round.gave_up.is_some() {
                break;
            }
            done.push(tallies);
        }
        if !done.is_empty() {
            round.figures = (self.figures)(&done);
            let shares = done.iter().map(|tallies| share_of_due(tallies));
            round.figures.insert(CPU, shares.fold(1.0, f64::min));
        }
        Ok(round)
    }
}

impl Crew {
    /// Why the peer cannot do this, if so.
    fn excludes(&self, peer: &dyn AnyPeer) -> Option<&'static str> {
        peer.refuses(self.work, self.workers)
    }
}

/// The part of the processor time due to it that the least lucky of a crew had. Where workers
/// outnumber processors, they take turns, and what is due is less than all the time.
fn share_of_due(crew: &[Tally]) -> f64 {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let turns = crew.len().div_ceil(processors) as f64;
    crew.iter().map(|tally| tally.span.cpu_share * turns).fold(1.0, f64::min)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::crew::Job;
    use crate::measure::Span;
    use crate::peer::Sharing;

    /// Does depths of so many objects, in as many ns, and no more.
    struct Slow(usize);

    impl AnyPeer for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        fn description(&self) -> String {
            String::new()
        }

        fn sharing(&self) -> Sharing {
            Sharing::Processes
        }

        fn contest(&self) -> Contest {
            Contest::Allocation
        }

        fn refuses(&self, _work: Work, _workers: usize) -> Option<&'static str> {
            None
        }

        fn run_crew(&self, work: Work, workers: usize, _effort: Effort) -> Result<Vec<Tally>> {
            let Work::Depth(objects) = work else { panic!("{work:?} is no depth") };
            let span = Span { operations: 1, ns: objects as f64, cpu_share: 1.0 };
            let gave_up = (objects > self.0).then(|| format!("{objects} are too many"));
            Ok(vec![Tally { gave_up, ..span.into() }; workers])
        }

        fn take_part(&self, _job: &Job) -> Result<Vec<Tally>> {
            unreachable!("there are no children")
        }
    }

    #[test]
    fn who_gives_up_keeps_what_he_has_done() {
        let all = experiments();
        let depth = all.iter().find(|experiment| experiment.name == "W5 depth").unwrap();
        let effort = Options::parse_from(["bench", "--smoke"]).effort();
        let run = |objects_max| depth.run(&Slow(objects_max), effort).unwrap();

        let Round { figures, gave_up } = run(10_000);
        assert_eq!(gave_up.as_deref(), Some("100000 are too many"));
        assert_eq!(figures, Figures::from([("1000", 1e3), ("10,000", 1e4), (CPU, 1.0)]));

        let Round { figures, gave_up } = run(0);
        assert!(figures.is_empty() && gave_up.is_some());

        let Round { figures, gave_up } = run(1_000_000);
        assert!(figures["growth"] > 999.0 && gave_up.is_none());
        let mut columns = depth.tables.iter().flat_map(|table| table.columns);
        assert!(columns.all(|&column| figures.contains_key(column)));
    }

    /// Names of the experiments that the peer has a reason not to take part in.
    fn excluded(peer: &dyn AnyPeer) -> Vec<&'static str> {
        let all = experiments().into_iter();
        all.filter(|one| one.is_for(peer) && one.excludes(peer).is_some())
            .map(|one| one.name)
            .collect()
    }

    #[test]
    fn peers_are_spared_what_they_cannot_do() {
        assert!(excluded(&Shmheap::new("any", Policy::Scalable)).is_empty());
        assert!(excluded(&FirstFitList).contains(&"W1 churn, 1,000,000 live"));
        assert!(!excluded(&FirstFitList).contains(&"W5 depth"), "it can do small depths");
        assert!(excluded(&RtsAlloc).contains(&"W6 large objects"));
        assert!(excluded(&Talc).contains(&"W7 create"));
    }
}
