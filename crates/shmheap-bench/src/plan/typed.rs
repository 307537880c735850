//! The experiments with maps, channels and locks, and who takes part in them.

use super::experiments::crews;
use super::{Experiment, Table, figures};
use crate::crew::AnyPeer;
use crate::entrant::Entrant;
use crate::typed::channels::{Channels, Manner, Objects};
use crate::typed::futex::Futexes;
use crate::typed::iceoryx::Iceoryx;
use crate::typed::in_process::{Crossbeam, Mpsc, MutexMap, RwLockMap, StdMutex};
use crate::typed::kernel::{Pipes, Sockets};
use crate::typed::pthread::RobustMutex;
use crate::typed::{boost, shmheap};
use crate::workload::Work;
use crate::workload::messages::NUMBERS;

/// In the order of the tables' rows, which have a row for each of their own contest.
pub(super) fn peers() -> Vec<Box<dyn AnyPeer>> {
    vec![
        Box::new(Entrant::of_maps(shmheap::Map)),
        Box::new(Entrant::of_maps(boost::Map)),
        Box::new(Entrant::of_maps(MutexMap)),
        Box::new(Entrant::of_maps(RwLockMap)),
        Box::new(Entrant::of_messages(Channels::<NUMBERS>(Manner::Asleep))),
        Box::new(Entrant::of_messages(Channels::<NUMBERS>(Manner::Batches))),
        Box::new(Entrant::of_messages(Channels::<NUMBERS>(Manner::Awake))),
        Box::new(Entrant::of_messages(Objects)),
        Box::new(Entrant::of_messages(Pipes)),
        Box::new(Entrant::of_messages(Sockets)),
        Box::new(Entrant::of_messages(Iceoryx)),
        Box::new(Entrant::of_messages(Mpsc::<NUMBERS>)),
        Box::new(Entrant::of_messages(Crossbeam::<NUMBERS>)),
        Box::new(Entrant::of_round_trips(Channels::<1>(Manner::Asleep))),
        Box::new(Entrant::of_round_trips(Channels::<1>(Manner::Awake))),
        Box::new(Entrant::of_round_trips(Objects)),
        Box::new(Entrant::of_round_trips(Pipes)),
        Box::new(Entrant::of_round_trips(Sockets)),
        Box::new(Entrant::of_round_trips(Iceoryx)),
        Box::new(Entrant::of_round_trips(Futexes)),
        Box::new(Entrant::of_round_trips(Mpsc::<1>)),
        Box::new(Entrant::of_round_trips(Crossbeam::<1>)),
        Box::new(Entrant::of_locks(shmheap::Mutex)),
        Box::new(Entrant::of_locks(boost::Mutex)),
        Box::new(Entrant::of_locks(RobustMutex)),
        Box::new(Entrant::of_locks(StdMutex)),
    ]
}

const MAP_COLUMNS: [&str; 4] = ["ns/get", "ns/absent", "ns/op of 90:10", "ns/insert"];
const MAP_COLUMNS_OF_TWO: [&str; 3] = ["Mget/s", "Mabsent/s", "Mop/s of 90:10"];
const SPEED_COLUMNS: [&str; 2] = ["ns/message", "Mmessages/s"];

pub(super) fn experiments() -> Vec<Experiment> {
    vec![
        maps(
            "T1 map, 10,000 entries, 1 worker",
            (10_000, 1),
            "map of 10,000 entries: 8-byte keys, 16-byte values, 1 worker",
        ),
        maps(
            "T1 map, 10,000 entries, 2 workers",
            (10_000, 2),
            "map of 10,000 entries: 8-byte keys, 16-byte values, 2 workers together",
        ),
        maps(
            "T1 map, 1,000,000 entries, 1 worker",
            (1_000_000, 1),
            "map of 1,000,000 entries: 8-byte keys, 16-byte values, 1 worker",
        ),
        maps(
            "T1 map, 1,000,000 entries, 2 workers",
            (1_000_000, 2),
            "map of 1,000,000 entries: 8-byte keys, 16-byte values, 2 workers together",
        ),
        messages("T2 messages, 1 to 1", 2, "messages of 64 B: 1 producer, 1 consumer"),
        messages("T2 messages, 2 to 2", 4, "messages of 64 B: 2 producers, 2 consumers"),
        Experiment {
            name: "T3 round trip",
            crews: crews(Work::RoundTrip, &[2]),
            figures: figures::of_round_trips,
            tables: vec![Table {
                workload: "T3",
                title: "round trip: 8 bytes to another worker and back",
                columns: &["us p50", "us p99", "us p99.9"],
                baseline: Some("pipe"),
                target: None,
            }],
        },
        locks("T4 lock, 1 worker", 1, "lock, add to two numbers, unlock: 1 worker"),
        locks("T4 lock, 2 workers", 2, "lock, add to two numbers, unlock: 2 workers at once"),
    ]
}

fn maps(name: &'static str, (entries, workers): (usize, usize), title: &'static str) -> Experiment {
    let (figures, columns): (super::FiguresOf, &'static [_]) = match workers {
        1 => (figures::of_map, &MAP_COLUMNS),
        _ => (figures::of_map_shared, &MAP_COLUMNS_OF_TWO),
    };
    Experiment {
        name,
        crews: crews(Work::Map(entries), &[workers]),
        figures,
        tables: vec![Table {
            workload: "T1",
            title,
            columns,
            baseline: Some("Mutex of HashMap"),
            target: None,
        }],
    }
}

fn messages(name: &'static str, workers: usize, title: &'static str) -> Experiment {
    Experiment {
        name,
        crews: crews(Work::Messages, &[workers]),
        figures: figures::of_messages,
        tables: vec![Table {
            workload: "T2",
            title,
            columns: &SPEED_COLUMNS,
            baseline: Some("pipe"),
            target: None,
        }],
    }
}

fn locks(name: &'static str, workers: usize, title: &'static str) -> Experiment {
    Experiment {
        name,
        crews: crews(Work::Lock, &[workers]),
        figures: figures::of_exchange,
        tables: vec![Table {
            workload: "T4",
            title,
            columns: &["ns/op", "Mop/s"],
            baseline: Some("std mutex"),
            target: None,
        }],
    }
}
