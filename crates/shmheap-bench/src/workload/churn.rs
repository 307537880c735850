//! Churn: a number of live objects, of which a random one is replaced, again and again.
//!
//! The memory that the peer holds is looked at after the warm-up, a fixed number of replacements:
//! a fast peer does more in the measured time, and would be compared at another age.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::held::Held;
use super::random::{Random, Sizes};
use super::{Seat, Tally, replace, touch};
use crate::measure::{Deadline, repeat_for};
use crate::options::Effort;
use crate::peer::{Demand, Object, Worker};

/// What a replacement in the warm-up may take, beside the general patience: a large herd needs
/// time, but no peer this much of it, unless it walks lists.
const REPLACEMENT_MAX: Duration = Duration::from_micros(2);

/// How many objects, and of which sizes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Churn {
    pub(crate) live: usize,
    pub(crate) least_bytes: u32,
    pub(crate) most_bytes: u32,
}

/// The live objects of one worker.
pub(crate) struct Herd<'w, W> {
    pub(super) worker: &'w W,
    pub(super) places: Vec<Option<Object<W>>>,
    pub(super) sizes: Sizes,
    pub(super) random: Random,
}

impl Churn {
    pub(super) fn demand(self, workers: usize) -> Demand {
        Demand { live_objects: workers * self.live, largest_bytes: self.most_bytes as usize }
    }

    /// For its warm-up.
    pub(super) fn deadline(self, effort: Effort) -> Deadline {
        let replacements = (effort.warm_up_turns + 1) * self.live;
        Deadline::after(effort.patience() + REPLACEMENT_MAX * replacements as u32)
    }

    pub(super) fn run<W: Worker>(self, worker: &W, seat: Seat<'_>) -> Result<Tally> {
        let mut herd = Herd::new(self, worker, seat.number);
        let footprint = herd
            .warm_up(seat.effort.warm_up_turns, self.deadline(seat.effort))
            .with_context(|| format!("warm-up of {} workers", seat.workers))?;
        seat.all_ready();
        let span = repeat_for(seat.effort.measured(), || herd.replace_one());
        Ok(Tally { footprint, ..Tally::from(span) })
    }
}

impl<'w, W: Worker> Herd<'w, W> {
    pub(crate) fn new(churn: Churn, worker: &'w W, number: usize) -> Self {
        let mut places: Vec<_> = (0..churn.live).map(|_| None).collect();
        touch(&mut places, || None);
        let sizes = Sizes::log_uniform(churn.least_bytes, churn.most_bytes);
        Self { worker, places, sizes, random: Random::of_worker(number) }
    }

    #[inline]
    pub(crate) fn replace_one(&mut self) {
        let bits = self.random.next();
        let place = Random::below(bits, self.places.len());
        replace(self.worker, &mut self.places[place], self.sizes.pick(bits));
    }

    /// Fills all places and replaces each `turns` times on average. Returns how many bytes the peer
    /// holds for each byte asked for.
    pub(crate) fn warm_up(&mut self, turns: usize, mut deadline: Deadline) -> Result<Option<f64>> {
        let count = self.places.len();
        let mut bytes_of = vec![0; count];
        touch(&mut bytes_of, || 0_usize);
        let held = Held::from_now()?;
        for step in 0..count * (turns + 1) {
            deadline.check()?;
            let bits = self.random.next();
            let place = if step < count { step } else { Random::below(bits, count) };
            bytes_of[place] = self.sizes.pick(bits);
            replace(self.worker, &mut self.places[place], bytes_of[place]);
        }
        let live_bytes: usize = bytes_of.iter().sum();
        let held_bytes = held.bytes(self.worker)?;
        Ok(held_bytes.map(|held_bytes| held_bytes as f64 / live_bytes as f64))
    }
}
