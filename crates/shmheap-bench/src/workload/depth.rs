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

use super::{Seat, Tally, replace, touch};
use crate::measure::{Deadline, repeat_for};
use crate::peer::{Demand, Object, Worker};

const SMALL_BYTES: usize = 64;
const LARGE_BYTES: usize = 128;

/// All depths together are measured for about as long as anything else.
const PART: u32 = 4;

pub(super) fn demand(objects: usize) -> Demand {
    Demand { live_objects: objects, largest_bytes: LARGE_BYTES }
}

pub(super) fn run<W: Worker>(worker: &W, objects: usize, seat: Seat<'_>) -> Tally {
    let mut places: Vec<_> = (0..objects).map(|_| None).collect();
    touch(&mut places, || None);
    if !make_holes(worker, &mut places, Deadline::after(seat.effort.patience())) {
        let patience = seat.effort.patience();
        return Tally::given_up(format!("gave up n = {objects} after {patience:?}"));
    }
    let once = || {
        let mut object = worker.alloc(LARGE_BYTES);
        object.write(0);
        worker.free(object);
    };
    // Whatever has to be made room for is done now.
    once();
    seat.all_ready();
    repeat_for(seat.effort.measured() / PART, once).into()
}

/// Fills all places and empties every second; false if the time was over before.
fn make_holes<W: Worker>(
    worker: &W,
    places: &mut [Option<Object<W>>],
    mut deadline: Deadline,
) -> bool {
    for place in places.iter_mut() {
        if deadline.is_over() {
            return false;
        }
        replace(worker, place, SMALL_BYTES);
    }
    for place in places.iter_mut().rev().skip(1).step_by(2) {
        if deadline.is_over() {
            return false;
        }
        if let Some(object) = place.take() {
            worker.free(object);
        }
    }
    true
}
