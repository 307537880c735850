//! `shmheap gc`: cleans up after processes that died.
//!
//! Leftovers, from harmless to wanted: records of dead processes (swept), counts of tags that are
//! too high since (counted anew), unfinished heaps of crashed creators (removed), and heaps without
//! a living process: those that were made to go with the last one (removed), and others, which may
//! well be meant to stay (removed only when asked for). A heap with a living process is never
//! removed.

use std::ffi::{OsStr, OsString};
use std::io::Write;

use anyhow::Result;
use serde::{Serialize, Serializer};
use shmheap::{Heap, Listing};

use crate::Verdict;
use crate::args::Gc;
use crate::output;

/// Why a heap is still miscounted.
const NOT_RECOUNTED: &str = "some counts may be too high, and cannot be put right while processes \
                             allocate and free, or are stopped in the middle of it";

/// What was done; the names of the fields are promised in the help text.
#[derive(Debug, Serialize)]
struct Account {
    dry_run: bool,
    unfinished_removed: Option<Vec<Name>>,
    heaps: Vec<Entry>,
}

/// What was done to one heap.
#[derive(Debug, Serialize)]
struct Entry {
    name: Name,
    peers_alive: u32,
    peers_dead: u32,
    swept: u32,
    recounted: bool,
    removed: bool,
    error: Option<String>,
}

/// The name of a heap, which need be no text: in JSON as near to it as text can be.
#[derive(Debug)]
struct Name(OsString);

impl AsRef<OsStr> for Name {
    fn as_ref(&self) -> &OsStr {
        &self.0
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string_lossy())
    }
}

pub(crate) fn run(arguments: &Gc, out: &mut dyn Write) -> Result<Verdict> {
    let listings = shmheap::list()?;
    let abandoned = if arguments.dry_run { vec![] } else { shmheap::sweep_abandoned()? };
    let heaps = listings.iter().map(|listing| collect(arguments, listing, &abandoned)).collect();
    let unfinished_removed = if arguments.dry_run {
        None
    } else {
        Some(shmheap::sweep_unfinished()?.into_iter().map(Name).collect())
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
    let mut entry = Entry {
        name: Name(listing.name.clone()),
        peers_alive: 0,
        peers_dead: 0,
        swept: 0,
        recounted: false,
        removed: false,
        error: None,
    };
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
        return Ok(());
    }
    let was_miscounted = is_miscounted(heap);
    if arguments.dry_run {
        (entry.swept, entry.recounted) = (stats.peers_dead, was_miscounted);
    } else if stats.peers_dead > 0 || was_miscounted {
        let heap = Heap::connect(name)?;
        entry.swept = heap.sweep()?;
        let is_miscounted = is_miscounted(&heap);
        entry.recounted = was_miscounted && !is_miscounted;
        entry.error = is_miscounted.then(|| NOT_RECOUNTED.to_owned());
    }
    Ok(())
}

/// Whether a process was killed in the middle of counting, was swept, and nobody has counted anew
/// since.
fn is_miscounted(heap: &Heap) -> bool {
    heap.usage().is_some_and(|usage| usage.is_recount_due)
}

fn write(out: &mut dyn Write, account: &Account) -> Result<()> {
    let would = if account.dry_run { "would " } else { "" };
    let (sweep, recount, destroy) = match account.dry_run {
        true => ("sweep", "count anew", "destroy"),
        false => ("swept", "counted anew", "destroyed"),
    };
    let mut quiet = true;
    for heap in &account.heaps {
        let name = output::plain(&heap.name);
        if let Some(error) = &heap.error {
            let error = output::plain(error);
            writeln!(out, "{} {name}: {error}", console::style("left alone:").yellow())?;
        }
        if heap.removed {
            writeln!(out, "{would}{destroy} '{name}': no living process")?;
        }
        if heap.swept > 0 {
            let dead = output::counted(heap.swept.into(), "dead peer");
            writeln!(out, "{would}{sweep} '{name}': {dead}, {} alive", heap.peers_alive)?;
        }
        if heap.recounted {
            writeln!(out, "{would}{recount} '{name}': a process was killed as it counted")?;
        }
        let is_as_it_was = heap.swept == 0 && !heap.recounted && !heap.removed;
        quiet &= is_as_it_was && heap.error.is_none();
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
