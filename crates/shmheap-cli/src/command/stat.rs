//! `shmheap stat`: how full a heap is, once or again and again.

use std::io::Write;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use shmheap::{ClassStats, Heap, Policy, Stats, Usage};

use super::ls::policy_name;
use crate::args::Stat;
use crate::output::{self, Table};
use crate::{Verdict, size, usage};

/// A heap's numbers as JSON; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Numbers {
    name: String,
    #[serde(flatten)]
    stats: Stats,
    fragmentation: f64,
    /// Null if the heap has no labels.
    usage: Option<Usage>,
}

pub(crate) fn run(arguments: &Stat, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.reader.heap.connect_read_only()?;
    let name = arguments.reader.heap.to_string();
    let policy = heap.info().policy;
    let numbers = |stats: Stats| {
        let fragmentation = stats.fragmentation();
        Numbers { name: name.clone(), stats, fragmentation, usage: heap.usage() }
    };
    let Some(seconds) = arguments.watch else {
        if arguments.reader.json {
            output::json(out, &numbers(heap.stats()))?;
        } else {
            write(out, &heap)?;
        }
        return Ok(Verdict::Fine);
    };
    let mut watch = Watch { policy, seconds, earlier: None };
    let mut len_bytes = 0;
    loop {
        let stats = heap.stats();
        // A heap only ever grows. Cut within its first page, nothing faults, and it reads as empty.
        ensure!(
            stats.len_bytes >= len_bytes,
            "another process shortened the heap's object; what is left is no heap any more: \
             remove it with `shmheap destroy --yes`"
        );
        len_bytes = stats.len_bytes;
        if arguments.reader.json {
            output::json_line(out, &numbers(stats))?;
        } else {
            watch.line(out, stats)?;
        }
        out.flush()?;
        thread::sleep(Duration::from_secs(seconds.into()));
    }
}

fn write(out: &mut dyn Write, heap: &Heap) -> Result<()> {
    let (policy, stats) = (heap.info().policy, heap.stats());
    let share =
        |bytes| format!("{} ({} %)", size::long(bytes), output::percent(bytes, stats.len_bytes));
    output::field(out, "policy", policy_name(policy))?;
    output::field(out, "length", size::long(stats.len_bytes))?;
    output::field(out, "maximum", size::long(stats.max_len_bytes))?;
    let live = output::counted(stats.live_objects, "object");
    output::field(out, "live", format!("{} in {live}", share(stats.live_bytes)))?;
    let trimmed = match stats.trimmed_bytes {
        0 => String::new(),
        bytes => format!(", of which {} trimmed", size::long(bytes)),
    };
    output::field(out, "free", format!("{}{trimmed}", share(stats.free_bytes)))?;
    output::field(out, "largest free", size::long(stats.largest_free_bytes))?;
    let scattered = 100.0 * stats.fragmentation();
    output::field(out, "fragmented", format!("{scattered:.1} % of the free bytes"))?;
    if policy == Policy::Scalable {
        output::field(out, "tails", share(stats.tail_bytes))?;
    }
    output::field(out, "records", size::long(stats.metadata_bytes))?;
    if policy == Policy::FirstFit {
        output::field(out, "operations", indicatif::HumanCount(stats.operations))?;
    }
    let peers = format!("{} alive, {} dead", stats.peers_alive, stats.peers_dead);
    output::field(out, "peers", peers)?;
    if let Some(slot) = stats.lock_holder {
        output::field(out, "at work", format!("peer {slot}, inside an operation"))?;
    }
    write_classes(out, &stats.classes)?;
    if let Some(usage) = heap.usage() {
        writeln!(out)?;
        usage::write(out, &usage)?;
    }
    Ok(())
}

/// A line for each size class that has slabs.
fn write_classes(out: &mut dyn Write, classes: &[ClassStats]) -> Result<()> {
    if classes.is_empty() {
        return Ok(());
    }
    let titles =
        [">SIZE", ">SLABS OWNED", ">SHARED", ">LIVE", ">FREE IN OWNED", ">IN SHARED", ">TAILS"];
    let mut table = Table::new(&titles);
    for class in classes {
        table.row(vec![
            class.object_bytes.to_string(),
            class.owned_slabs.to_string(),
            class.shared_slabs.to_string(),
            class.live_objects.to_string(),
            class.free_owned.to_string(),
            class.free_shared.to_string(),
            size::short(class.tail_bytes),
        ]);
    }
    writeln!(out)?;
    table.write(out)?;
    Ok(())
}

/// What `--watch` shows of one moment and the next.
#[derive(Debug)]
struct Watch {
    policy: Policy,
    seconds: u32,
    earlier: Option<Stats>,
}

impl Watch {
    fn line(&mut self, out: &mut dyn Write, stats: Stats) -> Result<()> {
        if self.earlier.is_none() {
            let header = format!(
                "{:>5} {:>5} {:>4} {:>5} {:>5} {:>5} {:>7} {:>5} {:>4}",
                "LEN",
                "LIVE",
                "USE",
                "OBJS",
                "FREE",
                "FRAG",
                self.title(),
                "PEERS",
                "DEAD"
            );
            writeln!(out, "{}", console::style(header).bold())?;
        }
        writeln!(
            out,
            "{:>5} {:>5} {:>3}% {:>5} {:>5} {:>4.0}% {:>7} {:>5} {:>4}",
            size::short(stats.len_bytes),
            size::short(stats.live_bytes),
            output::percent(stats.live_bytes, stats.len_bytes),
            size::short_count(stats.live_objects),
            size::short(stats.free_bytes),
            100.0 * stats.fragmentation(),
            self.measure(&stats),
            stats.peers_alive,
            stats.peers_dead,
        )?;
        self.earlier = Some(stats);
        Ok(())
    }

    /// What tells most of each policy: one counts its operations, the other has no common place to
    /// count them in.
    fn title(&self) -> &'static str {
        if self.policy == Policy::FirstFit { "OPS/S" } else { "TRIMMED" }
    }

    fn measure(&self, stats: &Stats) -> String {
        if self.policy != Policy::FirstFit {
            return size::short(stats.trimmed_bytes);
        }
        let earlier = self.earlier.as_ref().map_or(stats.operations, |stats| stats.operations);
        let done = stats.operations.saturating_sub(earlier);
        size::short_count(done / u64::from(self.seconds))
    }
}
