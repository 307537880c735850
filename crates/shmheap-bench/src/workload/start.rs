//! Start: how long it takes until a process has its first object in its hands.
//!
//! # Unsafe code
//!
//! Takes the one object of the heap that is connected to.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Tally;
use crate::crew::HeapName;
use crate::measure::{Span, Stopwatch};
use crate::options::Effort;
use crate::peer::{Demand, Peer, Worker};

/// Bytes of the first object.
const OBJECT_BYTES: usize = 64;

/// Where a heap's storage is all reserved at once, one takes so long that few must do.
const TIME_MAX: Duration = Duration::from_secs(1);

pub(super) const DEMAND: Demand = Demand { live_objects: 1, largest_bytes: OBJECT_BYTES };

/// Makes a heap and allocates and writes an object in it; many times, each heap a new one.
pub(super) fn create<P: Peer>(peer: &P, heap: &str, effort: Effort) -> Result<Tally> {
    median(effort, || {
        let _guard = HeapName::new(peer, heap.to_owned());
        let start = Instant::now();
        let worker = peer.create(heap)?;
        let mut object = worker.alloc(OBJECT_BYTES);
        object.write(1);
        let taken = start.elapsed();
        worker.free(object);
        Ok(taken)
    })
}

/// Connects to the heap, finds an object by its number, reads it, disconnects; many times.
pub(super) fn connect<P: Peer>(peer: &P, heap: &str, effort: Effort) -> Result<Tally> {
    const VALUE: u64 = 0x600d;
    let owner = peer.connect(heap, 0)?;
    let mut object = owner.alloc(OBJECT_BYTES);
    object.write(VALUE);
    let mut given = owner.give(object);
    median(effort, || {
        let start = Instant::now();
        let worker = peer.connect(heap, 1)?;
        // SAFETY: the number was given by a worker of this heap, and is taken once until it is
        // given again.
        let object = unsafe { worker.take(given) };
        let value = object.read();
        given = worker.give(object);
        drop(worker);
        let taken = start.elapsed();
        anyhow::ensure!(value == VALUE, "the object holds {value:#x}");
        Ok(taken)
    })
}

fn median(effort: Effort, mut once: impl FnMut() -> Result<Duration>) -> Result<Tally> {
    let stopwatch = Stopwatch::start();
    let mut durations = Vec::new();
    while durations.len() < effort.starts && stopwatch.elapsed() < TIME_MAX {
        durations.push(once()?);
    }
    durations.sort();
    let ns = durations[durations.len() / 2].as_nanos() as f64;
    Ok(Span { operations: 1, ns, ..stopwatch.stop(1) }.into())
}
