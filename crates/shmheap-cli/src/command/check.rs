//! `shmheap check`: the full audit of a heap.
//!
//! First as an observer, without a change to the heap. Where that settles nothing, because
//! processes are at work or a dead one left an operation to be finished, once more as a peer: under
//! the heap's lock, which finishes that operation. Not behind a process that keeps the lock, for
//! that one may be stopped, and the audit would wait for it.

use std::io::Write;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use shmheap::{Error, Heap, Report};

use crate::Verdict;
use crate::args::Reader;
use crate::target::HeapRef;
use crate::{output, size};

/// A process may be kept from a busy processor for some time inside an operation; a second in all
/// tells it from a stopped one.
const LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// An audit as JSON; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Audit {
    name: String,
    sound: bool,
    #[serde(flatten)]
    report: Report,
}

pub(crate) fn run(arguments: &Reader, out: &mut dyn Write) -> Result<Verdict> {
    let report = settled(&arguments.heap)?;
    let sound = report.is_sound();
    if arguments.json {
        output::json(out, &Audit { name: arguments.heap.to_string(), sound, report })?;
    } else {
        write(out, &arguments.heap.to_string(), &report)?;
    }
    Ok(Verdict::of(sound))
}

fn settled(target: &HeapRef) -> Result<Report> {
    let observer = target.connect_read_only()?;
    let report = observer.check();
    if report.stood_still && !report.recovery_pending {
        return Ok(report);
    }
    if !report.recovery_pending
        && let Some(slot) = lasting_holder(&observer)
    {
        let peers = observer.peers();
        let pid = peers.iter().find(|peer| peer.slot == slot).map_or(0, |peer| peer.pid);
        bail!(
            "peer {slot} (process {pid}) stays inside an operation, so '{target}' cannot be \
             audited; if it is stopped, continue it (kill -CONT {pid}) or end it"
        );
    }
    match target.connect() {
        Ok(peer) => Ok(peer.check()),
        Err(Error::PermissionDenied { .. }) => Ok(report),
        Err(error) => Err(error.into()),
    }
}

/// The peer that stays inside one operation for as long as an observer has patience.
fn lasting_holder(observer: &Heap) -> Option<u16> {
    let at_first = observer.stats();
    let mut now = at_first.clone();
    for _ in 0..LOOKS {
        if now.lock_holder.is_none() || now.operations != at_first.operations {
            return None;
        }
        thread::sleep(BETWEEN_LOOKS);
        now = observer.stats();
    }
    now.lock_holder
}

fn write(out: &mut dyn Write, name: &str, report: &Report) -> Result<()> {
    let content = format!(
        "{} walked, {} with {}, {} free",
        output::counted(report.blocks, "block"),
        output::counted(report.live_objects, "object"),
        size::long(report.live_bytes),
        size::long(report.free_bytes)
    );
    if report.is_sound() {
        writeln!(out, "{}: '{name}': {content}", console::style("sound").green().bold())?;
        return Ok(());
    }
    writeln!(out, "{}: '{name}': {content}", console::style("not sound").red().bold())?;
    for finding in &report.findings {
        writeln!(out, "  {:#x}  {}: {}", finding.offset_bytes, finding.rule, finding.detail)?;
    }
    if report.more_findings {
        writeln!(out, "  ... and more than these {}", report.findings.len())?;
    }
    if !report.stood_still {
        writeln!(out, "the heap was changed during the audit; these may be changes under way")?;
        writeln!(out, "audit again as a user who may write it, or when its processes are quiet")?;
    }
    if report.recovery_pending {
        writeln!(
            out,
            "a dead process left an operation half done; the next operation finishes it"
        )?;
        writeln!(out, "audit again as a user who may write it, or after `shmheap gc`")?;
    }
    Ok(())
}
