//! The second half of the demo: clean up after the killed worker, then prove that all is well.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use indicatif::HumanCount;
use shmheap::{Handle, Heap};

use super::crew::this_program;
use super::directory::Directory;
use super::query::Answer;
use super::report::{self, Report};
use super::setup::Ground;
use super::{speed, sweep};
use crate::{output, size};

/// Alloc and free pairs of the measurement.
const PAIRS: usize = if cfg!(debug_assertions) { 20_000 } else { 500_000 };

/// Cleans up, asks, compares, audits, measures and frees everything.
pub(super) fn run(
    ground: &Ground,
    directory: Directory<'_>,
    report: &mut Report<'_>,
) -> Result<()> {
    let directory = directory.with_chain_limit();
    let heap = &ground.heap;
    let reachable = clean_up(heap, &directory, report)?;
    ask(ground, &directory, report)?;
    compare(ground, &directory, report)?;
    audit(heap, &reachable, report);
    measure(ground, report)?;
    free_everything(heap, &reachable, report)
}

/// Sweeps the dead peer and frees what it left; returns all objects that remain.
fn clean_up(
    heap: &Heap,
    directory: &Directory<'_>,
    report: &mut Report<'_>,
) -> Result<Vec<Handle>> {
    let waiting = report.busy("looking for what the dead worker left");
    heap.sweep()?;
    let reachable = sweep::mark(directory)?;
    let orphans = sweep::orphans(heap, &reachable);
    sweep::free_all(heap, &orphans)?;
    let stats = heap.stats();
    waiting.finish_and_clear();
    let found = output::counted(orphans.len() as u64, "object");
    report.step("cleaned", &format!("{found} of the dead worker, found by walking the heap"))?;
    report.promise(
        stats.peers_dead == 0 && stats.live_objects == reachable.len() as u64,
        format!(
            "recovered  {} freed, {} stay, {}",
            HumanCount(orphans.len() as u64),
            HumanCount(stats.live_objects),
            output::counted(stats.peers_dead.into(), "dead peer")
        ),
    );
    Ok(reachable)
}

/// Lets another process answer a query, and checks every number of the answer.
fn ask(ground: &Ground, directory: &Directory<'_>, report: &mut Report<'_>) -> Result<()> {
    let documents = &ground.corpus.documents;
    let query = ground.count.query(documents.len());
    let mut command = this_program()?;
    command.arg("demo-query").arg(&ground.name);
    command.arg(format!("--directory={}", directory.handle)).arg("--").args(&query);
    let waiting = report.busy("another process reads the index");
    let output = command.stderr(Stdio::inherit()).output().context("cannot start the reader")?;
    waiting.finish_and_clear();
    if !output.status.success() {
        bail!("the query process ended with {}", output.status);
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).context("the query's answer")?;
    report.step("query", "by another process, connected read-only by name")?;
    let top: Vec<String> =
        answer.top.iter().map(|(word, count)| format!("{word} {}", HumanCount(*count))).collect();
    report.more(&format!("most frequent: {}", top.join(", ")))?;
    if !query.is_empty() {
        report.more(&format!(
            "'{}': in {} of {}",
            query.join("' and '"),
            HumanCount(answer.documents),
            output::counted(documents.len() as u64, "document")
        ))?;
    }
    let right = answer == ground.count.answer(&query, documents);
    report.promise(right, "shared     the other process read the same answers".to_owned());
    Ok(())
}

/// Compares every place of every word with the plain count.
fn compare(ground: &Ground, directory: &Directory<'_>, report: &mut Report<'_>) -> Result<()> {
    let waiting = report.busy("comparing every word with a plain count");
    let difference = ground.count.compare(directory)?;
    waiting.finish_and_clear();
    let exact = difference == super::count::Difference::default();
    let places = HumanCount(ground.count.places);
    let text = if exact {
        format!("exact      all {places} words, each once, as in a plain count")
    } else {
        let differences = report::difference(difference.missing, difference.extra);
        format!("exact      of {places} words: {differences}")
    };
    report.promise(exact, text);
    Ok(())
}

fn audit(heap: &Heap, reachable: &[Handle], report: &mut Report<'_>) {
    let waiting = report.busy("auditing the heap");
    let audit = heap.check();
    waiting.finish_and_clear();
    let sound = audit.is_sound() && audit.live_objects == reachable.len() as u64;
    let findings = output::counted(audit.findings.len() as u64, "finding");
    let blocks = output::counted(audit.blocks, "block");
    report.promise(sound, format!("sound      audit of {blocks}: {findings}"));
    for finding in &audit.findings {
        report.promise(false, format!("  {}: {}", finding.rule, finding.detail));
    }
}

fn measure(ground: &Ground, report: &mut Report<'_>) -> Result<()> {
    let heap = &ground.heap;
    let len_bytes = heap.info().len_bytes;
    if len_bytes > ground.len_bytes {
        let (from, to) = (size::long(ground.len_bytes), size::long(len_bytes));
        report.step("growth", &format!("from {from} to {to}, while in use, on its own"))?;
    }
    let waiting = report.busy("measuring");
    let taken = speed::pairs(heap, PAIRS)?;
    waiting.finish_and_clear();
    let (smallest, largest) = speed::SIZES;
    let rate = report::rate(PAIRS as u64, taken, "alloc+free");
    report.step("speed", &format!("{rate} in one process"))?;
    report.more(&format!("{smallest} to {largest} bytes, beside the index"))?;
    Ok(())
}

fn free_everything(heap: &Heap, reachable: &[Handle], report: &mut Report<'_>) -> Result<()> {
    let started = Instant::now();
    sweep::free_all(heap, reachable)?;
    let taken = started.elapsed();
    // This process has slabs in hand until it lets them go.
    let given_back = heap.trim()?;
    let stats = heap.stats();
    let objects = output::counted(reachable.len() as u64, "object");
    let rate = report::rate(reachable.len() as u64, taken, "objects");
    report.step("freed", &format!("{objects} in {}: {rate}", report::duration(taken)))?;
    let empty = stats.live_objects == 0
        && stats.live_bytes == 0
        && stats.largest_free_bytes == stats.len_bytes;
    let left = output::counted(stats.live_objects, "object");
    let space = if empty { "in one block" } else { "in pieces" };
    let given_back = size::long(given_back);
    report.promise(empty, format!("empty      {left} left, {given_back} {space} given back"));
    Ok(())
}
