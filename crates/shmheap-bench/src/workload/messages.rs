//! Messages: half of the workers produce, the others consume, by way of one line.
//!
//! The figures are the consumers': messages for the time from the first to the last. A consumer
//! checks that each message is whole, and that those of each producer come in the order in which
//! they were sent; that none is lost or comes twice, the sums tell.

use std::hint::black_box;

use anyhow::{Result, ensure};

use super::{Seat, Tally};
use crate::board::WORKERS_MAX;
use crate::measure::{Stopwatch, repeat_for};
use crate::typed::{Lines, Receiver, Sender};

/// Numbers of a message.
pub(crate) const NUMBERS: usize = 8;

/// The number of the message behind which its producer sends none. Each producer sends one, each
/// consumer gets one, and the last comes behind everything else.
const END: u64 = SEQUENCE;

const SEQUENCE_BITS: u32 = 48;
const SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;

/// The workers before this one produce.
pub(crate) fn first_consumer(workers: usize) -> usize {
    workers / 2
}

pub(crate) fn run<L: Lines<NUMBERS>>(site: &L, seat: Seat<'_>) -> Result<Tally> {
    if seat.number < first_consumer(seat.workers) {
        // Consumers are there before anything is sent.
        seat.meet(2);
        produce(site.sender(0)?, seat)
    } else {
        let receiver = site.receiver(0)?;
        seat.meet(2);
        consume(receiver, seat)
    }
}

fn produce(mut sender: impl Sender<NUMBERS>, seat: Seat<'_>) -> Result<Tally> {
    let producer = (seat.number as u64) << SEQUENCE_BITS;
    let mut sequence = 0;
    let mut sum = 0_u64;
    let span = repeat_for(seat.effort.measured(), || {
        let message = message(producer | sequence);
        sequence += 1;
        sum = sum.wrapping_add(message[0]);
        sender.send(message).expect("a line that works");
    });
    sender.send(message(producer | END))?;
    sender.flush()?;
    // Not before all is received, for lines whose messages end with their sender.
    seat.meet(3);
    Ok(Tally { sum_in: sum, ..Tally::from(span) })
}

fn consume(mut receiver: impl Receiver<NUMBERS>, seat: Seat<'_>) -> Result<Tally> {
    let mut last = [None; WORKERS_MAX];
    let (mut count, mut sum) = (0, 0_u64);
    let mut received = receiver.receive()?;
    let stopwatch = Stopwatch::start();
    while received[0] & SEQUENCE != END {
        ensure!(black_box(received) == message(received[0]), "half of a message");
        let [producer, sequence] = [received[0] >> SEQUENCE_BITS, received[0] & SEQUENCE];
        let last = &mut last[producer as usize];
        ensure!(*last < Some(sequence), "a message before its predecessor");
        *last = Some(sequence);
        count += 1;
        sum = sum.wrapping_add(received[0]);
        received = receiver.receive()?;
    }
    let span = stopwatch.stop(count);
    seat.meet(3);
    Ok(Tally { sum_out: sum, ..Tally::from(span) })
}

/// The message of that number.
#[inline]
fn message(number: u64) -> [u64; NUMBERS] {
    std::array::from_fn(|at| number.rotate_left(at as u32))
}
