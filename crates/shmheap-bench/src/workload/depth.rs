//! Depth: how far an allocator has to look for room when there are many holes that are too small.
//!
//! ```text
//!   | 64 | free | 64 | free | 64 | free | 64 | ... | 64 |        room
//!                                                         ^ the 128 bytes fit here
//! ```
//!
//! Every hole is as large as one small object, for the last object stays. Holes are made from the
//! last to the first, which is the cheapest order for an allocator that keeps them in a list by
//! address: in the other, such a list would take hours to be ready.

use anyhow::{Context, Result};

use super::{Seat, Tally, replace, touch};
use crate::measure::{Deadline, GaveUp, repeat_for};
use crate::peer::{Demand, Object, Worker};

const SMALL_BYTES: usize = 64;
const LARGE_BYTES: usize = 128;

/// All depths together are measured for about as long as anything else.
const PART: u32 = 4;

pub(super) fn demand(objects: usize) -> Demand {
    Demand { live_objects: objects, largest_bytes: LARGE_BYTES }
}

pub(super) fn run<W: Worker>(worker: &W, objects: usize, seat: Seat<'_>) -> Result<Tally> {
    let mut places: Vec<_> = (0..objects).map(|_| None).collect();
    touch(&mut places, || None);
    let deadline = Deadline::after(seat.effort.patience());
    make_holes(worker, &mut places, deadline).with_context(|| format!("n = {objects}"))?;
    let once = || {
        let mut object = worker.alloc(LARGE_BYTES);
        object.write(0);
        worker.free(object);
    };
    // Whatever has to be made room for is done now.
    once();
    seat.all_ready();
    Ok(repeat_for(seat.effort.measured() / PART, once).into())
}

/// Fills all places and empties every second.
fn make_holes<W: Worker>(
    worker: &W,
    places: &mut [Option<Object<W>>],
    mut deadline: Deadline,
) -> Result<(), GaveUp> {
    for place in places.iter_mut() {
        deadline.check()?;
        replace(worker, place, SMALL_BYTES);
    }
    for place in places.iter_mut().rev().skip(1).step_by(2) {
        deadline.check()?;
        if let Some(object) = place.take() {
            worker.free(object);
        }
    }
    Ok(())
}
