//! The experiments, in the order of the tables, with the targets.

use super::figures;
use super::{Bound, Crew, Experiment, Table, Target};
use crate::workload::{Churn, Work};

const SCALABLE: &str = "shmheap scalable";
const FIRST_FIT: &str = "shmheap first fit";
const ANY_SHMHEAP: &str = "shmheap";

const SMALL_HERD: Churn = Churn { live: 10_000, least_bytes: 16, most_bytes: 512 };
const LARGE_HERD: Churn = Churn { live: 1_000_000, least_bytes: 16, most_bytes: 128 };
const LARGE_OBJECTS: Churn = Churn { live: 200, least_bytes: 4 << 10, most_bytes: 1 << 20 };

/// Those with allocators.
pub(super) fn experiments() -> Vec<Experiment> {
    let mut all = churns();
    all.extend(between_workers());
    all.push(depth());
    all.extend(starts());
    all.push(latency());
    all.push(replay());
    all
}

/// The same work by crews of so many workers.
pub(super) fn crews(work: Work, workers: &[usize]) -> Vec<Crew> {
    workers.iter().map(|&workers| Crew { work, workers }).collect()
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
        crews: crews(Work::Churn(churn), &[1]),
        figures: figures::of_speed,
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
    let scalable = |bound| Some(Target { peers: SCALABLE, bound });
    vec![
        Experiment {
            name: "W2 churn, 1, 2 and 4 workers",
            crews: crews(Work::Churn(SMALL_HERD), &[1, 2, 4]),
            figures: figures::of_scaling,
            tables: vec![Table {
                workload: "W2",
                title: "churn by 1, 2 and 4 workers on one heap: 10,000 live of 16-512 B each",
                columns: &["2 / 1", "4 / 1", "Mop/s of 1", "of 2", "of 4"],
                baseline: None,
                target: scalable(Bound::AtLeast(1.9)),
            }],
        },
        Experiment {
            name: "W3 hand-off",
            crews: crews(Work::HandOff, &[2]),
            figures: figures::of_handoff,
            tables: vec![Table {
                workload: "W3",
                title: "hand-off: A allocates 64-1024 B, writes, sends; B reads, frees",
                columns: &["ns/message", "Mmessages/s"],
                baseline: Some("bump fresh"),
                target: scalable(Bound::AtMost(2.0)),
            }],
        },
        exchange(
            "W4 exchange, 2 workers",
            2,
            "exchange: every object of 16-512 B is freed by the other of 2 workers",
        ),
        exchange(
            "W4 exchange, 4 workers",
            4,
            "exchange: every object of 16-512 B is freed by the next of 4 workers",
        ),
    ]
}

fn exchange(name: &'static str, workers: usize, title: &'static str) -> Experiment {
    Experiment {
        name,
        crews: crews(Work::Exchange, &[workers]),
        figures: figures::of_exchange,
        tables: vec![Table {
            workload: "W4",
            title,
            columns: &["ns/op", "Mop/s"],
            baseline: Some("mimalloc"),
            target: None,
        }],
    }
}

fn depth() -> Experiment {
    let table = |title, columns, bound| Table {
        workload: "W5",
        title,
        columns,
        baseline: None,
        target: Some(Target { peers: FIRST_FIT, bound: Bound::AtMost(bound) }),
    };
    let crew = |objects| Crew { work: Work::Depth(objects), workers: 1 };
    Experiment {
        name: "W5 depth",
        crews: vec![crew(1000), crew(10_000), crew(100_000), crew(1_000_000)],
        figures: figures::of_depth,
        tables: vec![
            table(
                "depth: ns/op of 128 B, after every second of n objects of 64 B was freed",
                &["n = 1,000,000", "100,000", "10,000", "1000"],
                150.0,
            ),
            table("depth: ns/op at n = 1,000,000 / ns/op at n = 1000", &["growth"], 3.0),
        ],
    }
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
        crews: crews(Work::TimedChurn(SMALL_HERD), &[2]),
        figures: figures::of_latency,
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
        crews: crews(work, &[1]),
        figures: figures::of_start,
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

fn replay() -> Experiment {
    let table = |title, columns, baseline| Table {
        workload: "W10",
        title,
        columns,
        baseline,
        target: None,
    };
    Experiment {
        name: "W10 replay",
        crews: crews(Work::Replay, &[1]),
        figures: figures::of_speed,
        tables: vec![
            table(
                "peak footprint / peak of live bytes: replay of Python, 412,000 objects, 7.3 MB",
                &["held/live"],
                None,
            ),
            table(
                "time: replay of Python, 412,000 objects, 75,000 of them live",
                &["ns/op"],
                Some("mimalloc"),
            ),
        ],
    }
}
