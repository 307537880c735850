//! `shmheap check`: the full audit of a heap.
//!
//! First as an observer, without a change to the heap. Where that settles nothing, because
//! processes are at work or a dead one left something to be finished, once more as a peer, which
//! finishes it: under first fit with the heap's lock, so that the records stand still.
//!
//! A scalable heap has no lock and never stands still for an audit. A change under way looks like a
//! flaw there, for as long as the processor is with others; so what counts is what is found again
//! and again.

use std::io::Write;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use shmheap::{Heap, Policy, Report};

use super::ls::policy_name;
use crate::args::Reader;
use crate::target::HeapRef;
use crate::{Verdict, output, size};

/// A process may be kept from a busy processor for some time inside a change; a second in all tells
/// that from damage.
const LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// An audit as JSON; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Audit {
    name: String,
    policy: Policy,
    sound: bool,
    #[serde(flatten)]
    report: Report,
}

pub(crate) fn run(arguments: &Reader, out: &mut dyn Write) -> Result<Verdict> {
    let observer = arguments.heap.connect_read_only()?;
    let policy = observer.info().policy;
    let report = match policy {
        Policy::Scalable => persistent(&arguments.heap, &observer)?,
        _ => settled(&arguments.heap, &observer)?,
    };
    let sound = report.is_sound();
    let name = arguments.heap.to_string();
    let audit = Audit { name, policy, sound, report };
    if arguments.json {
        output::json(out, &audit)?;
    } else {
        write(out, &audit)?;
    }
    Ok(Verdict::of(sound))
}

fn settled(target: &HeapRef, observer: &Heap) -> Result<Report> {
    let report = observer.check();
    if report.stood_still && !report.recovery_pending {
        return Ok(report);
    }
    Ok(target.connect_if_allowed()?.map_or(report, |peer| peer.check()))
}

/// The audit of a scalable heap, with those findings only that outlast a change under way.
fn persistent(target: &HeapRef, observer: &Heap) -> Result<Report> {
    let mut report = observer.check();
    if report.recovery_pending {
        report = target.connect_if_allowed()?.map_or(report, |peer| peer.check());
    }
    for _ in 0..LOOKS {
        if report.is_sound() || observer.stats().peers_alive == 0 {
            break;
        }
        thread::sleep(BETWEEN_LOOKS);
        let mut again = observer.check();
        again.findings.retain(|finding| report.findings.contains(finding));
        report = again;
    }
    Ok(report)
}

fn write(out: &mut dyn Write, audit: &Audit) -> Result<()> {
    let Audit { name, policy, sound, report } = audit;
    let verdict = match sound {
        true => console::style("sound").green().bold(),
        false => console::style("not sound").red().bold(),
    };
    writeln!(out, "{verdict}: '{name}', {}", policy_name(*policy))?;
    let content = format!(
        "{} walked, {} with {}, {} free{}",
        output::counted(report.blocks, "block"),
        output::counted(report.live_objects, "object"),
        size::long(report.live_bytes),
        size::long(report.free_bytes),
        match report.tail_bytes {
            0 => String::new(),
            bytes => format!(", {} in tails", size::long(bytes)),
        }
    );
    writeln!(out, "  {}", output::wrapped(&content, 2))?;
    for finding in &report.findings {
        writeln!(out, "  {:#x}  {}: {}", finding.offset_bytes, finding.rule, finding.detail)?;
    }
    if report.more_findings {
        writeln!(out, "  ... and more than these {}", report.findings.len())?;
    }
    for advice in advice(audit) {
        writeln!(out, "{}", output::wrapped(advice, 0))?;
    }
    Ok(())
}

/// What to know of the circumstances of an audit, and what to do about them.
fn advice(Audit { policy, sound, report, .. }: &Audit) -> Vec<&'static str> {
    let is_scalable = *policy == Policy::Scalable;
    let mut advice = vec![];
    match (is_scalable, sound, report.stood_still) {
        (_, _, true) | (false, true, false) => {}
        (true, true, false) => advice.push(
            "processes changed the heap meanwhile, so the numbers are not of one moment; nothing \
             was wrong each time that the audit looked",
        ),
        (true, false, false) => advice.push(
            "processes changed the heap meanwhile; what is listed was found each time that the \
             audit looked: audit again, and what comes again is damage",
        ),
        (false, false, false) => advice.push(
            "the heap was changed during the audit; these may be changes under way: audit again \
             as a user who may write it, or when its processes are quiet",
        ),
    }
    match (report.recovery_pending, is_scalable) {
        (false, _) => {}
        (true, true) => advice.push(
            "a dead process still has a part of the heap; the next that connects or runs out of \
             room takes it over, and so does `shmheap gc`",
        ),
        (true, false) => advice.push(
            "a dead process left an operation half done, which the next operation finishes: audit \
             again as a user who may write it, or after `shmheap gc`",
        ),
    }
    advice
}
