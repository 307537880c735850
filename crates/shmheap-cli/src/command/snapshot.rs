//! `shmheap snapshot` and `shmheap restore`: a heap copied to a file while others work, and a heap
//! made from such a file.

use std::io::Write;

use anyhow::Result;
use shmheap::{Heap, Policy};

use crate::args::{Restore, Snapshot};
use crate::target::HeapRef;
use crate::{Verdict, output, size};

/// Takes a snapshot.
pub(crate) fn run(arguments: &Snapshot, out: &mut dyn Write) -> Result<Verdict> {
    let target = HeapRef::File(arguments.file.clone());
    let objects = copy(&arguments.heap, &target)?;
    writeln!(out, "copied '{}' to '{target}', {objects}", arguments.heap)?;
    Ok(Verdict::Fine)
}

/// Makes a heap from one.
pub(crate) fn restore(arguments: &Restore, out: &mut dyn Write) -> Result<Verdict> {
    let source = HeapRef::File(arguments.file.clone());
    let objects = copy(&source, &arguments.heap)?;
    writeln!(out, "restored '{}' from '{source}', {objects}", arguments.heap)?;
    Ok(Verdict::Fine)
}

/// Returns what is in the copy, in words.
fn copy(source: &HeapRef, target: &HeapRef) -> Result<String> {
    let heap = connected(source)?;
    target.copy_from(&heap)?;
    // One of a same-address heap cannot be connected to beside that.
    drop(heap);
    let stats = target.connect_read_only()?.stats();
    let objects = output::counted(stats.live_objects, "object");
    Ok(format!("{objects}, {}", size::long(stats.live_bytes)))
}

/// As a reader, if that will do: a first-fit heap at work is held for the copying of its records.
fn connected(source: &HeapRef) -> Result<Heap> {
    let observer = source.connect_read_only()?;
    let is_at_work = observer.stats().peers_alive > 0;
    if observer.info().policy != Policy::FirstFit || !is_at_work {
        return Ok(observer);
    }
    // One that has to lie at an address has to leave it.
    drop(observer);
    source.connect_if_allowed()?.map_or_else(|| source.connect_read_only(), Ok)
}
