//! What the workers do: from a job's [`Work`] to a [`Tally`].
//!
//! | module | worker does |
//! |---|---|
//! | `random` | nothing: choices that cost next to nothing |
//! | `churn` | replaces random ones of many live objects |
//! | `latency` | the same, each operation timed |
//! | `handoff` | allocates and sends, or receives and frees |
//! | `exchange` | both at once: every object is freed by the other worker |
//! | `start` | makes heaps, or connects to one |

mod churn;
mod exchange;
mod handoff;
mod latency;
mod random;
mod start;

pub(crate) use churn::{Churn, Herd};
pub(crate) use handoff::RECEIVER;
pub(crate) use latency::{Latency, Merged};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::board::Board;
use crate::measure::Span;
use crate::options::Effort;
use crate::peer::{Object, Peer, Worker};

/// What a crew is to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Work {
    Churn(Churn),
    TimedChurn(Churn),
    HandOff,
    Exchange,
    Create,
    Connect,
}

impl Work {
    /// Whether there must be heaps that have a name.
    pub(crate) fn needs_names(self) -> bool {
        matches!(self, Self::Create | Self::Connect)
    }
}

/// What one worker has measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) span: Span,
    /// Bytes that the peer holds for each byte that was asked for.
    pub(crate) footprint: Option<f64>,
    pub(crate) latency: Option<Latency>,
}

impl From<Span> for Tally {
    fn from(span: Span) -> Self {
        Self { span, footprint: None, latency: None }
    }
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
}

/// Does the work as one worker of the crew.
pub(crate) fn run<P: Peer>(peer: &P, work: Work, heap: &str, seat: Seat<'_>) -> Result<Tally> {
    let join = || join(peer, heap, seat);
    match work {
        Work::Create => start::create(peer, heap, seat.effort),
        Work::Connect => start::connect(peer, heap, seat.effort),
        Work::Churn(churn) => churn.run(&join()?, seat),
        Work::TimedChurn(churn) => latency::run(&join()?, churn, seat),
        Work::HandOff => Ok(handoff::run(&join()?, seat)),
        Work::Exchange => Ok(exchange::run(&join()?, seat)),
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
