//! A consumer in Rust whose producer is written in C: `examples/c/sensor.c`.
//!
//! ```sh
//! ./sensor /sensor &
//! cargo run --release --example sensor -- /sensor
//! ```
//!
//! What the two share are structs of the same layout: samples, which come through a channel, and
//! totals under a mutex, by their name.

#![allow(unsafe_code, clippy::print_stdout)]

use std::env;
use std::error::Error;

use shmheap::{Channel, Heap, Shareable, ShmMutex};

/// The same as in C.
#[derive(Debug, Clone, Copy, Shareable)]
#[repr(C)]
struct Sample {
    number: u64,
    value: f64,
}

/// Behind a `shmheap_mutex` in C.
#[derive(Debug, Shareable)]
#[repr(C)]
struct Totals {
    count: u64,
    sum: f64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(name) = env::args().nth(1) else {
        return Err("usage: sensor HEAP (made by the producer, examples/c/sensor.c)".into());
    };
    let heap = Heap::connect(&name)?;
    let channel = Channel::<Sample>::find_or_create(&heap, "samples", 64)?;
    let (mut count, mut sum) = (0, 0.0);
    loop {
        let sample = match channel.recv() {
            Ok(sample) => sample,
            Err(shmheap::Error::Closed { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        assert_eq!(sample.number, count, "none is lost, and none comes twice");
        count += 1;
        sum += sample.value;
    }
    let totals = heap.root_handle("totals")?.cast::<ShmMutex<Totals>>();
    // SAFETY: the producer never frees the totals, and they are changed under their mutex.
    let totals = unsafe { heap.get(totals) }?.lock(&heap)?;
    assert_eq!((totals.count, totals.sum), (count, sum));
    println!("{count} samples, {:.3} on average", sum / count as f64);
    drop(totals);
    drop(channel);
    Heap::destroy(&name)?;
    Ok(())
}
