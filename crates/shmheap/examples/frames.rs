//! Frames of a camera, handed from process to process without a copy.
//!
//! ```sh
//! cargo run --release --example frames
//! ```
//!
//! A producer writes each frame into an object of the heap and sends it through a channel; what is
//! sent is the object itself, which is in one place at any time. Consumers receive frames, look at
//! them where they are, and free them. One consumer is killed on the way: the others go on, the
//! frame in its hands is freed, and no other is lost.

#![allow(clippy::print_stdout)]

use std::env;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use shmheap::{Heap, HeapOptions, ObjectChannel, Shareable, ShmBox};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const FRAMES: u64 = 600;
const CONSUMERS: usize = 3;
/// Frames that may be on their way at once: what a slow consumer costs in memory.
const IN_FLIGHT: u64 = 16;

#[derive(Clone, Copy, Shareable)]
#[repr(C)]
struct Frame {
    number: u64,
    checksum: u64,
    pixels: [u8; WIDTH * HEIGHT],
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    if let [_, name] = arguments.as_slice() {
        return consume(name);
    }
    let name = format!("/shmheap-frames-{}", std::process::id());
    let heap = HeapOptions::new(1 << 20).max_len(64 << 20).create(&name)?;
    let outcome = produce(&heap, &name);
    Heap::destroy(&name)?;
    outcome
}

fn produce(heap: &Heap, name: &str) -> Result<(), Box<dyn Error>> {
    let channel = ObjectChannel::find_or_create(heap, "frames", IN_FLIGHT)?;
    let mut consumers = (0..CONSUMERS).map(|_| start(name)).collect::<Result<Vec<_>, _>>()?;

    for number in 0..FRAMES {
        if number == FRAMES / 2 {
            consumers[0].0.kill()?;
        }
        let mut frame = ShmBox::<Frame>::new_zeroed(heap)?;
        frame.number = number;
        frame.pixels.fill(number as u8);
        frame.checksum = checksum(&frame.pixels);
        channel.send(ShmBox::into_unpublished(frame)).map_err(shmheap::Error::from)?;
    }
    channel.close()?;

    let mut received = 0;
    for (number, (mut consumer, said)) in consumers.into_iter().enumerate() {
        for line in said.lines() {
            assert_eq!(line?, "intact");
            received += 1;
        }
        let status = consumer.wait()?;
        assert_eq!(status.success(), number != 0, "all but the first come to their end");
    }
    // What the dead one had in its hands is freed by whoever looks.
    heap.sweep()?;
    println!("{received} of {FRAMES} frames were reported");
    // It may have been killed between a frame's end and the report of it.
    assert!(FRAMES - received <= 2, "frames were lost");
    Ok(())
}

fn start(name: &str) -> io::Result<(Child, BufReader<ChildStdout>)> {
    let mut consumer =
        Command::new(env::current_exe()?).arg(name).stdout(Stdio::piped()).spawn()?;
    let said = consumer.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((consumer, BufReader::new(said)))
}

/// Receives frames and frees them, until the channel is closed and empty.
fn consume(name: &str) -> Result<(), Box<dyn Error>> {
    let heap = Heap::connect(name)?;
    let channel = ObjectChannel::find_or_create(&heap, "frames", IN_FLIGHT)?;
    loop {
        let object = match channel.recv_timeout(Duration::from_secs(10)) {
            Ok(object) => object,
            Err(shmheap::Error::Closed { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let frame = ShmBox::<Frame>::from_plain(object)?;
        let is_intact = frame.checksum == checksum(&frame.pixels);
        writeln!(io::stdout(), "{}", if is_intact { "intact" } else { "broken" })?;
    }
}

fn checksum(pixels: &[u8]) -> u64 {
    pixels.iter().fold(0, |sum, &pixel| sum.wrapping_mul(31).wrapping_add(u64::from(pixel)))
}
