//! Locks: every worker locks, adds 1 to two numbers, and unlocks. In the end the numbers tell
//! whether the lock let two in at once.

use anyhow::{Result, ensure};

use super::{Seat, Tally};
use crate::measure::repeat_for;
use crate::typed::{Lock, Locks};

pub(crate) fn run<L: Locks>(site: &L, seat: Seat<'_>) -> Result<Tally> {
    let lock = site.lock()?;
    seat.all_ready();
    let mut is_torn = false;
    let span = repeat_for(seat.effort.measured(), || {
        let [one, other] = lock.count();
        is_torn |= one != other;
    });
    ensure!(!is_torn, "the two numbers differ");
    seat.meet(3);
    // The first looks at the end, and has counted once more for that.
    let total = if seat.number == 0 { lock.count()[0] - 1 } else { 0 };
    Ok(Tally { sum_in: span.operations, sum_out: total, ..Tally::from(span) })
}
