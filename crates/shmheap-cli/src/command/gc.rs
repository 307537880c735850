//! `shmheap gc`: cleans up after processes that died.
//!
//! Leftovers, from harmless to wanted: records of dead processes (swept), unfinished heaps of
//! crashed creators (removed), and heaps without a living process: those that were made to go with
//! the last one (removed), and others, which may well be meant to stay (removed only when asked
//! for). A heap with a living process is never removed.

use std::ffi::OsString;
use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use shmheap::{Heap, Listing};

use crate::Verdict;
use crate::args::Gc;
use crate::output;

/// What was done; the names of the fields are promised in the help text.
#[derive(Debug, Serialize)]
struct Account {
    dry_run: bool,
    unfinished_removed: Option<Vec<String>>,
    heaps: Vec<Entry>,
}

/// What was done to one heap.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    peers_alive: u32,
    peers_dead: u32,
    swept: u32,
    removed: bool,
    error: Option<String>,
}

pub(crate) fn run(arguments: &Gc, out: &mut dyn Write) -> Result<Verdict> {
    let listings = shmheap::list()?;
    let abandoned = if arguments.dry_run { vec![] } else { shmheap::sweep_abandoned()? };
    let heaps = listings.iter().map(|listing| collect(arguments, listing, &abandoned)).collect();
    let unfinished_removed = if arguments.dry_run {
        None
    } else {
        let names = shmheap::sweep_unfinished()?;
        Some(names.iter().map(|name| name.to_string_lossy().into_owned()).collect())
    };
    let account = Account { dry_run: arguments.dry_run, unfinished_removed, heaps };
    if arguments.json {
        output::json(out, &account)?;
    } else {
        write(out, &account)?;
    }
    Ok(Verdict::Fine)
}

fn collect(arguments: &Gc, listing: &Listing, abandoned: &[OsString]) -> Entry {
    let name = listing.name.to_string_lossy().into_owned();
    let mut entry =
        Entry { name, peers_alive: 0, peers_dead: 0, swept: 0, removed: false, error: None };
    match &listing.heap {
        Err(error) => entry.error = Some(error.to_string()),
        Ok(_) if abandoned.contains(&listing.name) => entry.removed = true,
        Ok(heap) => {
            if let Err(error) = clean(arguments, &listing.name, heap, &mut entry) {
                entry.error = Some(error.to_string());
            }
        }
    }
    entry
}

fn clean(arguments: &Gc, name: &OsString, heap: &Heap, entry: &mut Entry) -> shmheap::Result<()> {
    let stats = heap.stats();
    entry.peers_alive = stats.peers_alive;
    entry.peers_dead = stats.peers_dead;
    let is_ephemeral = heap.info().is_ephemeral;
    if stats.peers_alive == 0 && (arguments.remove_idle || is_ephemeral) {
        if !arguments.dry_run {
            Heap::destroy(name)?;
        }
        entry.removed = true;
    } else if stats.peers_dead > 0 || is_miscounted(heap) {
        entry.swept =
            if arguments.dry_run { stats.peers_dead } else { Heap::connect(name)?.sweep()? };
    }
    Ok(())
}

/// Whether a process was killed in the middle of counting, and nobody has counted anew since.
fn is_miscounted(heap: &Heap) -> bool {
    heap.usage().is_some_and(|usage| usage.is_recount_due)
}

fn write(out: &mut dyn Write, account: &Account) -> Result<()> {
    let would = if account.dry_run { "would " } else { "" };
    let (sweep, destroy) =
        if account.dry_run { ("sweep", "destroy") } else { ("swept", "destroyed") };
    let mut quiet = true;
    for heap in &account.heaps {
        let name = output::plain(&heap.name);
        if let Some(error) = &heap.error {
            let error = output::plain(error);
            writeln!(out, "{} {name}: {error}", console::style("left alone:").yellow())?;
        } else if heap.removed {
            writeln!(out, "{would}{destroy} '{name}': no living process")?;
        } else if heap.swept > 0 {
            let dead = output::counted(heap.swept.into(), "dead peer");
            writeln!(out, "{would}{sweep} '{name}': {dead}, {} alive", heap.peers_alive)?;
        } else {
            continue;
        }
        quiet = false;
    }
    for name in account.unfinished_removed.iter().flatten() {
        let name = output::plain(name);
        writeln!(out, "removed '{name}': its creator died before it was finished")?;
        quiet = false;
    }
    if quiet {
        let heaps = output::counted(account.heaps.len() as u64, "heap");
        writeln!(out, "nothing to clean up ({heaps})")?;
    }
    Ok(())
}
