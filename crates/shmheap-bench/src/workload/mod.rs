//! What the workers do: from a job's [`Work`] to a [`Tally`].
//!
//! | module | worker does |
//! |---|---|
//! | `random` | nothing: choices that cost next to nothing |
//! | `held` | nothing: how much memory a peer holds |
//! | `churn` | replaces random ones of many live objects |
//! | `latency` | the same, each operation timed |
//! | `handoff` | allocates and sends, or receives and frees |
//! | `exchange` | both at once: every object is freed by the next worker |
//! | `depth` | looks for room behind many holes |
//! | `replay` | allocates and frees as a program did of which there is a trace |
//! | `start` | makes heaps, or connects to one |
//! | `maps`, `messages`, `round_trip`, `locks` | uses typed data that workers share |

mod churn;
mod depth;
mod exchange;
mod handoff;
mod held;
mod latency;
pub(crate) mod locks;
pub(crate) mod maps;
pub(crate) mod messages;
mod random;
mod replay;
pub(crate) mod round_trip;
mod start;

pub(crate) use churn::{Churn, Herd};
pub(crate) use handoff::RECEIVER;
pub(crate) use latency::{Latency, Merged};
pub(crate) use round_trip::Trips;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::measure::{GaveUp, Span, Stopwatch};
use crate::options::Effort;
use crate::peer::{Demand, Object, Peer, Worker};

/// What a crew is to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Work {
    Churn(Churn),
    TimedChurn(Churn),
    HandOff,
    Exchange,
    /// Behind every second of so many objects.
    Depth(usize),
    Replay,
    Create,
    Connect,
    /// In a map of so many entries.
    Map(usize),
    Messages,
    RoundTrip,
    Lock,
}

/// What can be compared with each other: a peer takes part in one contest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contest {
    Allocation,
    Maps,
    Messages,
    RoundTrips,
    Locks,
}

impl Work {
    pub(crate) fn contest(self) -> Contest {
        match self {
            Self::Map(_) => Contest::Maps,
            Self::Messages => Contest::Messages,
            Self::RoundTrip => Contest::RoundTrips,
            Self::Lock => Contest::Locks,
            _ => Contest::Allocation,
        }
    }

    /// Whether there must be heaps that have a name.
    pub(crate) fn needs_names(self) -> bool {
        matches!(self, Self::Create | Self::Connect)
    }

    /// What so many workers ask of a heap at the most.
    pub(crate) fn demand(self, workers: usize) -> Demand {
        match self {
            Self::Churn(churn) | Self::TimedChurn(churn) => churn.demand(workers),
            Self::HandOff => handoff::DEMAND,
            Self::Exchange => exchange::demand(workers),
            Self::Depth(objects) => depth::demand(objects),
            Self::Replay => replay::DEMAND,
            Self::Create | Self::Connect => start::DEMAND,
            Self::Map(_) | Self::Messages | Self::RoundTrip | Self::Lock => {
                Demand { live_objects: 0, largest_bytes: 0 }
            }
        }
    }
}

/// What one worker has measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) span: Span,
    /// Bytes that the peer holds for each byte that was asked for.
    pub(crate) footprint: Option<f64>,
    pub(crate) latency: Option<Latency>,
    pub(crate) trips: Option<Trips>,
    /// Spans of what was done besides, or first.
    pub(crate) others: Vec<Span>,
    /// Of what was sent, or of all that was put somewhere.
    pub(crate) sum_in: u64,
    /// Of what was received, or found there in the end.
    pub(crate) sum_out: u64,
    /// Why the work was not done, if it was not.
    pub(crate) gave_up: Option<String>,
}

impl Tally {
    /// Of a worker who would have needed too long.
    fn given_up(why: String) -> Self {
        Self { gave_up: Some(why), ..Self::from(Stopwatch::start().stop(0)) }
    }
}

impl From<Span> for Tally {
    fn from(span: Span) -> Self {
        Self {
            span,
            footprint: None,
            latency: None,
            trips: None,
            others: Vec::new(),
            sum_in: 0,
            sum_out: 0,
            gave_up: None,
        }
    }
}

/// An error if not all that a crew has sent or put somewhere was received or found, once.
pub(crate) fn compare(crew: &[Tally]) -> Result<()> {
    let sum = |part: fn(&Tally) -> u64| crew.iter().map(part).fold(0, u64::wrapping_add);
    let (sum_in, sum_out) = (sum(|tally| tally.sum_in), sum(|tally| tally.sum_out));
    ensure!(
        sum_in == sum_out,
        "the sum of what went in is {sum_in:#x}, of what came out {sum_out:#x}"
    );
    Ok(())
}

/// A worker's place in its crew.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat<'b> {
    pub(crate) number: usize,
    pub(crate) workers: usize,
    pub(crate) board: &'b Board,
    pub(crate) effort: Effort,
}

impl Seat<'_> {
    /// Waits until all workers are warmed up.
    fn all_ready(&self) {
        self.board.meet(2, self.workers);
    }

    /// Waits until all have come to a later meeting of that number, from 3 on.
    fn meet(&self, number: usize) {
        self.board.meet(number, self.workers);
    }
}

/// Does the work as one worker of the crew, or gives up before anything is measured.
pub(crate) fn run<P: Peer>(peer: &P, work: Work, heap: &str, seat: Seat<'_>) -> Result<Tally> {
    match work_through(peer, work, heap, seat) {
        Err(error) if error.is::<GaveUp>() => {
            // Who was faster is waiting.
            seat.all_ready();
            Ok(Tally::given_up(format!("{error:#}")))
        }
        outcome => outcome,
    }
}

fn work_through<P: Peer>(peer: &P, work: Work, heap: &str, seat: Seat<'_>) -> Result<Tally> {
    let join = || join(peer, heap, seat);
    match work {
        Work::Create => start::create(peer, heap, seat.effort),
        Work::Connect => start::connect(peer, heap, seat.effort),
        Work::Churn(churn) => churn.run(&join()?, seat),
        Work::TimedChurn(churn) => latency::run(&join()?, churn, seat),
        Work::HandOff => Ok(handoff::run(&join()?, seat)),
        Work::Depth(objects) => depth::run(&join()?, objects, seat),
        Work::Replay => replay::run(&join()?, seat),
        Work::Exchange => Ok(exchange::run(&join()?, seat)),
        Work::Map(_) | Work::Messages | Work::RoundTrip | Work::Lock => {
            bail!("allocators have none of their own")
        }
    }
}

/// Connects to the crew's heap and waits until all have.
fn join<P: Peer>(peer: &P, heap: &str, seat: Seat<'_>) -> Result<P::Worker> {
    let worker = peer.connect(heap, seat.number)?;
    seat.board.meet(1, seat.workers);
    if seat.number == 0 {
        // From here on, however this ends, nothing is left behind.
        peer.remove(heap);
    }
    worker.prepare()?;
    Ok(worker)
}

/// Makes the pages of the program's own tables resident, before resident memory is looked at.
fn touch<T>(table: &mut [T], value: impl Fn() -> T) {
    for entry in table {
        *std::hint::black_box(entry) = value();
    }
}

/// Frees what a place holds and puts a new object there.
#[inline]
fn replace<W: Worker>(worker: &W, place: &mut Option<Object<W>>, bytes: usize) {
    if let Some(old) = place.take() {
        worker.free(old);
    }
    let mut new = worker.alloc(bytes);
    new.write(bytes as u64);
    *place = Some(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::{self, Mapped};
    use crate::peer::malloc::Malloc;

    #[test]
    fn what_is_lost_or_comes_twice_is_noticed() {
        let tally =
            |sum_in, sum_out| Tally { sum_in, sum_out, ..Tally::from(Stopwatch::start().stop(1)) };
        assert!(compare(&[tally(u64::MAX, 0), tally(3, 2)]).is_ok());
        assert!(compare(&[tally(5, 0), tally(0, 4)]).is_err());
    }

    #[test]
    fn who_gives_up_keeps_nobody_waiting() {
        let file = board::create().unwrap();
        let board = Mapped::inherited(board::number(&file)).unwrap();
        let run = |number, patience_ms| {
            let effort = serde_json::json!({
                "measured_ms": 1, "patience_ms": patience_ms, "warm_up_turns": 0, "starts": 1,
                "entries_max": 1,
            });
            let effort = serde_json::from_value(effort).unwrap();
            let seat = Seat { number, workers: 2, board: &board, effort };
            run(&Malloc, Work::Depth(1000), "", seat).unwrap().gave_up
        };
        std::thread::scope(|scope| {
            let hasty = scope.spawn(|| run(0, 0));
            let patient = scope.spawn(|| run(1, 600_000));
            assert_eq!(hasty.join().unwrap().as_deref(), Some("n = 1000: gave up after 0ns"));
            assert_eq!(patient.join().unwrap(), None);
        });
    }
}
