//! Hand-off: worker 0 allocates, writes and sends; worker 1 receives, reads and frees.
//!
//! The figure is the receiver's: messages for the time from the first to the last. It checks every
//! message, so that a peer which loses or mixes up objects has no figure at all.

use super::random::{Random, Sizes};
use super::{Seat, Tally};
use crate::measure::{Span, Stopwatch, repeat_for};
use crate::peer::{Demand, Object, Worker};
use crate::post::{Parcel, Post};
use crate::ring::CAPACITY;

/// The worker whose figure counts.
pub(crate) const RECEIVER: usize = 1;

const SMALLEST_BYTES: u32 = 64;
const LARGEST_BYTES: u32 = 1024;

pub(super) const DEMAND: Demand =
    Demand { live_objects: CAPACITY as usize, largest_bytes: LARGEST_BYTES as usize };

pub(super) fn run<W: Worker>(worker: &W, seat: Seat<'_>) -> Tally {
    let mut post = Post::new(seat.board, worker, seat.number, seat.workers);
    seat.all_ready();
    if seat.number == RECEIVER {
        receive(worker, &mut post).into()
    } else {
        send(worker, &mut post, seat).into()
    }
}

fn send<W: Worker>(worker: &W, post: &mut Post<'_, W>, seat: Seat<'_>) -> Span {
    let sizes = Sizes::log_uniform(SMALLEST_BYTES, LARGEST_BYTES);
    let mut random = Random::of_worker(seat.number);
    let mut number = 0;
    let span = repeat_for(seat.effort.measured(), || {
        let mut object = worker.alloc(sizes.pick(random.next()));
        object.write(number);
        number += 1;
        post.send(object, |_| {});
    });
    post.send_end(|_| {});
    span
}

fn receive<W: Worker>(worker: &W, post: &mut Post<'_, W>) -> Span {
    let mut expected = 0;
    let mut accept = |object: Object<W>| {
        assert_eq!(object.read(), expected, "a message was lost, or overwritten under way");
        expected += 1;
        worker.free(object);
    };
    let mut parcel = post.wait();
    let stopwatch = Stopwatch::start();
    while let Parcel::Object(object) = parcel {
        accept(object);
        parcel = post.wait();
    }
    stopwatch.stop(expected)
}
