//! `shmheap stat`: how full a heap is, once or again and again.

use std::io::Write;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use shmheap::Stats;

use crate::args::Stat;
use crate::output;
use crate::{Verdict, size};

/// A heap's numbers as JSON; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Numbers {
    name: String,
    #[serde(flatten)]
    stats: Stats,
    fragmentation: f64,
}

pub(crate) fn run(arguments: &Stat, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.reader.heap.connect_read_only()?;
    let name = arguments.reader.heap.to_string();
    let numbers = |stats: Stats| {
        let fragmentation = stats.fragmentation();
        Numbers { name: name.clone(), stats, fragmentation }
    };
    let Some(seconds) = arguments.watch else {
        if arguments.reader.json {
            output::json(out, &numbers(heap.stats()))?;
        } else {
            write(out, &heap.stats())?;
        }
        return Ok(Verdict::Fine);
    };
    let mut earlier: Option<Stats> = None;
    loop {
        let stats = heap.stats();
        if arguments.reader.json {
            serde_json::to_writer(&mut *out, &numbers(stats.clone()))
                .map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            watch_line(out, &stats, earlier.as_ref(), seconds)?;
        }
        out.flush()?;
        earlier = Some(stats);
        thread::sleep(Duration::from_secs(seconds.into()));
    }
}

fn write(out: &mut dyn Write, stats: &Stats) -> Result<()> {
    let share =
        |bytes| format!("{} ({} %)", size::long(bytes), output::percent(bytes, stats.len_bytes));
    output::field(out, "length", size::long(stats.len_bytes))?;
    output::field(out, "maximum", size::long(stats.max_len_bytes))?;
    let live = output::counted(stats.live_objects, "object");
    output::field(out, "live", format!("{} in {live}", share(stats.live_bytes)))?;
    output::field(out, "free", share(stats.free_bytes))?;
    output::field(out, "largest free", size::long(stats.largest_free_bytes))?;
    let scattered = 100.0 * stats.fragmentation();
    output::field(out, "fragmented", format!("{scattered:.1} % of the free bytes"))?;
    output::field(out, "records", size::long(stats.metadata_bytes))?;
    output::field(out, "operations", indicatif::HumanCount(stats.operations))?;
    let peers = format!("{} alive, {} dead", stats.peers_alive, stats.peers_dead);
    output::field(out, "peers", peers)?;
    if let Some(slot) = stats.lock_holder {
        output::field(out, "at work", format!("peer {slot}; the others wait for it"))?;
    }
    Ok(())
}

fn watch_line(
    out: &mut dyn Write,
    stats: &Stats,
    earlier: Option<&Stats>,
    seconds: u32,
) -> Result<()> {
    let header = format!(
        "{:>5} {:>5} {:>4} {:>5} {:>5} {:>5} {:>7} {:>5} {:>4}",
        "LEN", "LIVE", "USE", "OBJS", "FREE", "FRAG", "OPS/S", "PEERS", "DEAD"
    );
    if earlier.is_none() {
        writeln!(out, "{}", console::style(header).bold())?;
    }
    let done = earlier.map_or(0, |earlier| stats.operations.saturating_sub(earlier.operations));
    writeln!(
        out,
        "{:>5} {:>5} {:>3}% {:>5} {:>5} {:>4.0}% {:>7} {:>5} {:>4}",
        size::short(stats.len_bytes),
        size::short(stats.live_bytes),
        output::percent(stats.live_bytes, stats.len_bytes),
        size::short_count(stats.live_objects),
        size::short(stats.free_bytes),
        100.0 * stats.fragmentation(),
        size::short_count(done / u64::from(seconds)),
        stats.peers_alive,
        stats.peers_dead,
    )?;
    Ok(())
}
