//! Exchange: workers replace random objects of their own, but never free one themselves: what is
//! replaced goes to the next worker, who frees it. All frees are remote, as in the worst moments
//! of the larson benchmark.

use super::random::{Random, Sizes};
use super::{Seat, Tally, replace};
use crate::measure::repeat_for;
use crate::peer::{Demand, Worker};
use crate::post::{Parcel, Post};
use crate::ring::CAPACITY;

/// Live objects of each worker.
const LIVE: usize = 1000;

/// How many objects of the worker before are freed at most for one that is sent: more than one, so
/// that a worker who fell behind catches up.
const FREES_MAX: usize = 2;

const SMALLEST_BYTES: u32 = 16;
const LARGEST_BYTES: u32 = 512;

pub(super) fn demand(workers: usize) -> Demand {
    let live_objects = workers * (LIVE + CAPACITY as usize);
    Demand { live_objects, largest_bytes: LARGEST_BYTES as usize }
}

pub(super) fn run<W: Worker>(worker: &W, seat: Seat<'_>) -> Tally {
    let sizes = Sizes::log_uniform(SMALLEST_BYTES, LARGEST_BYTES);
    let mut random = Random::of_worker(seat.number);
    let mut post = Post::new(seat.board, worker, seat.number, seat.workers);
    let mut places: Vec<_> = (0..LIVE).map(|_| None).collect();
    for place in &mut places {
        replace(worker, place, sizes.pick(random.next()));
    }
    let mut ended = false;
    seat.all_ready();
    let span = repeat_for(seat.effort.measured(), || {
        let bits = random.next();
        let place = &mut places[Random::below(bits, LIVE)];
        if let Some(old) = place.take() {
            post.send(old, |post| free_some(worker, post, &mut ended));
        }
        replace(worker, place, sizes.pick(bits));
        free_some(worker, &mut post, &mut ended);
    });
    // Each goes on freeing until he has the last of the worker before, who would wait for ever.
    post.send_end(|post| free_some(worker, post, &mut ended));
    while !ended {
        match post.wait() {
            Parcel::Object(object) => worker.free(object),
            _ => ended = true,
        }
    }
    span.into()
}

#[inline]
fn free_some<W: Worker>(worker: &W, post: &mut Post<'_, W>, ended: &mut bool) {
    for _ in 0..FREES_MAX {
        match post.receive() {
            Parcel::Object(object) => worker.free(object),
            Parcel::End => *ended = true,
            Parcel::Nothing => return,
        }
    }
}
