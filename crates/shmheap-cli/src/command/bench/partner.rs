//! Another process, to which objects and messages go; and a thread of this one, for comparison.

use std::alloc::Layout;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use shmheap::{Channel, Error, Heap, ObjectChannel};

use crate::Verdict;
use crate::args::BenchPartner;

/// What may be on its way at a time.
const CAPACITY: u64 = 1024;
/// What is sent between two looks at the clock.
const BURST: u64 = 64;
const OBJECT_BYTES: usize = 64;
/// How long the other may take for one.
const PATIENCE: Duration = Duration::from_secs(10);
const READY: &str = "ready";

/// The other process, and the channels to it. It is killed if it is still there at the end.
#[derive(Debug)]
pub(super) struct Partner<'h> {
    process: Child,
    heap: &'h Heap,
    objects: ObjectChannel<'h>,
    values: Channel<'h, u64>,
}

impl<'h> Partner<'h> {
    pub(super) fn start(heap: &'h Heap, name: &str) -> Result<Self> {
        let objects = ObjectChannel::find_or_create(heap, "objects", CAPACITY)?;
        let values = Channel::find_or_create(heap, "values", CAPACITY)?;
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.arg("bench-partner").arg(name).stdin(Stdio::null()).stdout(Stdio::piped());
        let process = command.spawn().context("cannot start another process")?;
        let mut partner = Self { process, heap, objects, values };
        let output = partner.process.stdout.as_mut().context("a process without an output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == READY, "the other process did not start");
        Ok(partner)
    }

    /// Objects a second that are made here and freed there.
    pub(super) fn objects(&self, time: Duration) -> Result<f64> {
        let layout = Layout::from_size_align(OBJECT_BYTES, 16)?;
        let send = || {
            let sent = self.objects.send_timeout(self.heap.alloc_unpublished(layout)?, PATIENCE);
            sent.map_err(|refused| refused.error)?;
            Ok(())
        };
        let rate = paced(time, send, || self.objects.len())?;
        self.objects.close()?;
        Ok(rate)
    }

    /// Messages a second.
    pub(super) fn values(&self, time: Duration) -> Result<f64> {
        let rate =
            paced(time, || Ok(self.values.send_timeout(1, PATIENCE)?), || self.values.len())?;
        self.values.close()?;
        Ok(rate)
    }

    /// Waits for its end.
    pub(super) fn finish(&mut self) -> Result<()> {
        let status = self.process.wait()?;
        ensure!(status.success(), "the other process ended with {status}");
        Ok(())
    }
}

impl Drop for Partner<'_> {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The other process: takes what comes until the channels are closed.
pub(crate) fn run(arguments: &BenchPartner, out: &mut dyn Write) -> Result<Verdict> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let heap = Heap::connect(&arguments.heap)?;
    let objects = ObjectChannel::find_or_create(&heap, "objects", CAPACITY)?;
    let values = Channel::<u64>::find_or_create(&heap, "values", CAPACITY)?;
    writeln!(out, "{READY}")?;
    out.flush()?;
    while !is_closed(objects.recv().map(drop))? {}
    while !is_closed(values.recv().map(drop))? {}
    Ok(Verdict::Fine)
}

fn is_closed(received: shmheap::Result<()>) -> Result<bool> {
    match received {
        Ok(()) => Ok(false),
        Err(Error::Closed { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Boxes a second to another thread, which frees them.
pub(super) fn boxes(time: Duration) -> Result<f64> {
    to_thread(time, || Box::new([0_u8; OBJECT_BYTES]))
}

/// Numbers a second to another thread.
pub(super) fn numbers(time: Duration) -> Result<f64> {
    to_thread(time, || 1_u64)
}

fn to_thread<T: Send>(time: Duration, make: impl Fn() -> T) -> Result<f64> {
    let (sender, receiver): (SyncSender<T>, _) = mpsc::sync_channel(CAPACITY as usize);
    thread::scope(|scope| {
        scope.spawn(move || receiver.iter().for_each(|one| drop(std::hint::black_box(one))));
        let rate =
            paced(time, || sender.send(make()).ok().context("the other thread is gone"), || 0);
        drop(sender);
        rate
    })
}

/// What is sent in a second, without what nobody has received yet.
fn paced(
    time: Duration,
    mut send: impl FnMut() -> Result<()>,
    waiting: impl Fn() -> u64,
) -> Result<f64> {
    let start = Instant::now();
    let mut count = 0_u64;
    while start.elapsed() < time {
        for _ in 0..BURST {
            send()?;
        }
        count += BURST;
    }
    Ok(count.saturating_sub(waiting()) as f64 / start.elapsed().as_secs_f64())
}
