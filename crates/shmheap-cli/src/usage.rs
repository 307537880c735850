//! Who has how much of a heap with labels, as people read it.

use std::cmp::Reverse;
use std::io::Write;

use anyhow::Result;
use shmheap::{PeerUsage, TagUsage, Usage};

use crate::output::{self, Table};
use crate::size;

/// What is written for the tag of what has none.
const NO_TAG: &str = "(no tag)";
/// Processes in a table: of those that are gone there may be thousands.
const PEERS_MAX: usize = 50;

/// The sums, a line for each tag, and one for each process, the largest first.
pub(crate) fn write(out: &mut dyn Write, usage: &Usage) -> Result<()> {
    let objects = output::counted(usage.objects, "object");
    let quota = quota_of(usage.quota_bytes);
    output::field(out, "counted", format!("{} in {objects}, {quota}", size::long(usage.bytes)))?;
    output::field(out, "each process", quota_of(usage.peer_quota_bytes))?;
    if usage.is_recount_due {
        let note = "a process was killed as it counted: some numbers may be too high, until \
                    `shmheap gc` or an allocation beyond a quota counts anew";
        output::field(out, "note", console::style(note).yellow())?;
    }
    writeln!(out)?;
    write_tags(out, &usage.tags)?;
    write_peers(out, usage)
}

fn quota_of(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "no quota".to_owned(), |bytes| format!("quota {}", size::long(bytes)))
}

fn write_tags(out: &mut dyn Write, tags: &[TagUsage]) -> Result<()> {
    let mut table = Table::new(&["TAG", ">OBJECTS", ">USED", ">QUOTA", ">USE"]);
    for tag in by_size(tags) {
        let mut cells = vec![name(&tag.name), tag.objects.to_string()];
        cells.extend(used(tag.bytes, tag.quota_bytes));
        table.row(cells);
    }
    table.write(out)?;
    Ok(())
}

fn write_peers(out: &mut dyn Write, usage: &Usage) -> Result<()> {
    if usage.peers.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[">SLOT", ">PID", "STATE", ">OBJECTS", ">USED", ">QUOTA", ">USE"]);
    for peer in usage.peers.iter().take(PEERS_MAX) {
        let mut cells = vec![peer.slot.to_string(), peer.pid.to_string(), state(peer)];
        cells.push(peer.objects.to_string());
        // Who is gone allocates no more.
        cells.extend(used(peer.bytes, usage.peer_quota_bytes.filter(|_| peer.alive)));
        table.row(cells);
    }
    writeln!(out)?;
    table.write(out)?;
    if let Some(more @ 1..) = usage.peers.len().checked_sub(PEERS_MAX) {
        writeln!(out, "and {more} with less; --json lists all")?;
    }
    Ok(())
}

fn state(peer: &PeerUsage) -> String {
    if peer.alive { "alive".to_owned() } else { console::style("gone").yellow().to_string() }
}

/// Three cells: what is used, what may be, and the share.
fn used(bytes: u64, quota_bytes: Option<u64>) -> [String; 3] {
    let none = || "-".to_owned();
    let share = quota_bytes.map(|quota| match quota {
        0 => "100%".to_owned(),
        _ => format!("{}%", output::percent(bytes, quota)),
    });
    [size::short(bytes), quota_bytes.map_or_else(none, size::short), share.unwrap_or_else(none)]
}

/// A tag's name as it is printed: that of a damaged heap may be anything.
pub(crate) fn name(tag: &str) -> String {
    if tag.is_empty() { NO_TAG.to_owned() } else { output::plain(tag) }
}

/// The tags with the most bytes first.
pub(crate) fn by_size(tags: &[TagUsage]) -> Vec<&TagUsage> {
    let mut tags: Vec<_> = tags.iter().collect();
    tags.sort_by_key(|tag| Reverse(tag.bytes));
    tags
}
