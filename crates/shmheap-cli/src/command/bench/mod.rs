//! `shmheap bench`: how fast a heap is on this machine, beside what a single process has.
//!
//! A look in some seconds, on whatever else the machine is doing. The project's benchmark is
//! another program, with other allocators, many repetitions and confidence intervals.

mod pairs;
mod partner;
mod table;

use std::io::{self, Write};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use shmheap::{Heap, HeapOptions};

use crate::args::Bench;
use crate::output::{self, Table};
use crate::{Verdict, size};
pub(super) use partner::run as run_partner;

const LEN_BYTES: u64 = 16 << 20;
const LEN_BYTES_MAX: u64 = 1 << 30;
/// How many times are taken, for all rows together.
const MEASUREMENTS: u32 = 10;

/// What was measured; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Results {
    threads: u16,
    rows: Vec<Row>,
}

/// Something that a heap does, and what a process does without one.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    per_second: f64,
    beside: &'static str,
    beside_per_second: f64,
    ratio: f64,
}

impl Row {
    fn new(what: &'static str, per_second: f64, beside: &'static str, other: f64) -> Self {
        let ratio = if other > 0.0 { per_second / other } else { 0.0 };
        Self { what, per_second, beside, beside_per_second: other, ratio }
    }
}

pub(crate) fn run(arguments: &Bench, out: &mut dyn Write) -> Result<Verdict> {
    let available =
        || thread::available_parallelism().map_or(1, |count| count.get().min(64) as u16);
    let threads = arguments.threads.unwrap_or_else(available);
    let name = format!("shmheap-bench-{}", std::process::id());
    let options = HeapOptions::new(LEN_BYTES).max_len(LEN_BYTES_MAX).ephemeral();
    let heap = options.create(&name).context("cannot create a heap to measure")?;
    crate::demo::destroy_on_interrupt(name.clone().into())?;
    let time = Duration::from_secs(arguments.seconds.into()) / MEASUREMENTS;
    let results = Results { threads, rows: measure(&heap, &name, threads, time)? };
    if arguments.json {
        output::json(out, &results)?;
    } else {
        write(out, &results)?;
    }
    Ok(Verdict::Fine)
}

fn measure(heap: &Heap, name: &str, threads: u16, time: Duration) -> Result<Vec<Row>> {
    let pairs = |bytes| -> Result<(f64, f64)> {
        let shared = rate(threads, time, |ends| pairs::of_heap(heap, bytes, ends))?;
        Ok((shared, rate(threads, time, |ends| pairs::of_malloc(bytes, ends))?))
    };
    let (small, small_malloc) = pairs(64)?;
    let (large, large_malloc) = pairs(4096)?;
    let map = table::of_heap(heap, threads, time)?;
    let map_beside = table::of_process(threads, time)?;
    let mut partner = partner::Partner::start(heap, name)?;
    let (objects, values) = (partner.objects(time)?, partner.values(time)?);
    partner.finish()?;
    let (boxes, numbers) = (partner::boxes(time)?, partner::numbers(time)?);
    Ok(vec![
        Row::new("alloc and free, 64 bytes", small, "malloc and free", small_malloc),
        Row::new("alloc and free, 4096 bytes", large, "malloc and free", large_malloc),
        Row::new("operations of a map", map, "HashMap in a Mutex", map_beside),
        Row::new("objects to another process", objects, "boxes to another thread", boxes),
        Row::new("messages to another process", values, "messages to another thread", numbers),
    ])
}

/// How often in a second all threads together do what `work` counts until it ends.
fn rate(
    threads: u16,
    time: Duration,
    work: impl Fn(&AtomicBool) -> Result<u64> + Sync,
) -> Result<f64> {
    let ends = AtomicBool::new(false);
    // Shut until all are there: those that work already keep others from being started.
    let gate = RwLock::new(());
    let shut = gate.write();
    let work = || {
        drop(gate.read());
        work(&ends)
    };
    let (counts, passed) = thread::scope(|scope| {
        let start = || thread::Builder::new().spawn_scoped(scope, work);
        let workers = (0..threads).map(|_| start()).collect::<io::Result<Vec<_>>>();
        let begin = Instant::now();
        drop(shut);
        if workers.is_ok() {
            thread::sleep(time);
        }
        ends.store(true, Ordering::Relaxed);
        let workers = workers.context("cannot start so many threads; --threads takes fewer")?;
        let panicked = |_| Err(anyhow!("a thread of the measurement panicked"));
        let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(panicked));
        joined.collect::<Result<Vec<u64>>>().map(|counts| (counts, begin.elapsed()))
    })?;
    Ok(counts.iter().sum::<u64>() as f64 / passed.as_secs_f64())
}

fn write(out: &mut dyn Write, results: &Results) -> Result<()> {
    let mut table = Table::new(&["IN A SECOND", ">HEAP", ">PROCESS", ">RATIO", "BESIDE"]);
    for row in &results.rows {
        table.row(vec![
            row.what.to_owned(),
            size::short_count(row.per_second as u64),
            size::short_count(row.beside_per_second as u64),
            format!("{:.2}", row.ratio),
            row.beside.to_owned(),
        ]);
    }
    table.write(out)?;
    let threads = output::counted(results.threads.into(), "thread");
    writeln!(out)?;
    writeln!(
        out,
        "By {threads} in each of the first three rows. A short look at this machine as it"
    )?;
    writeln!(out, "is now, and not the project's benchmark: figures vary from run to run.")?;
    Ok(())
}
