//! shmheap and its peers, side by side: one harness, one set of workloads, one table.
//!
//! ```text
//!   conductor (this process)                  crew (fresh processes, one set for each figure)
//!   for round, experiment, peer:
//!     create the heap, spawn -------- job --> connect, fill, warm up
//!                                             meet at the board, then measure together
//!     collect <--------------------- tally -- span of time, operations, histograms
//!   medians, ratios, targets -> tables, JSON, charts, papers
//! ```
//!
//! Rules that make the figures comparable:
//!
//! - Every figure comes from processes that did nothing before: no peer pays for what another left.
//! - Peers take turns within a round, in another order each round, so that a noisy minute meets
//!   them all. A ratio is the median over the rounds of the ratio within a round.
//! - One operation is one alloc and one free. The first eight bytes of every object are written.
//! - The peer `bump` does next to nothing: its figure is what the harness itself costs.
//! - A peer that cannot do a workload has a row that says why. One that should have and failed has,
//!   too, and the run ends with an error.
//!
//! | module | gives |
//! |---|---|
//! | `options` | the command line |
//! | `measure`, `ticks` | spans of time, medians and spreads; the cheapest clock |
//! | `board`, `ring` | what the workers of a crew share: a meeting point, queues |
//! | `trace` | what a real program allocated and freed |
//! | `peer` | the allocators, behind one small trait |
//! | `typed` | maps, channels and locks, likewise |
//! | `post` | objects from each worker to the next, exactly once |
//! | `workload` | what the workers do |
//! | `crew` | processes and threads: from a job to the tallies of its workers |
//! | `entrant` | what is in `typed`, as peers |
//! | `plan` | the experiments, their tables and the targets |
//! | `report` | medians, verdicts; the printed tables, the JSON, the charts, the papers |
//! | `machine` | what the figures were taken on |
//! | `guard` | instructions instead of time, counted under Valgrind |
//!
//! A new peer is a file in `peer` or `typed` and a line in `plan::peers`. It takes part in one
//! contest: allocators have rows beside allocators, maps beside maps.

mod options;

mod measure;
mod ticks;

mod ring;

mod board;

mod trace;

mod peer;

mod post;
mod typed;

mod workload;

mod crew;

mod entrant;

mod plan;

mod machine;
mod report;

mod guard;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use clap::Parser;

use options::Options;
use plan::Experiment;
use report::{Document, Report};
use trace::Trace;

/// The whole program: of the conductor, and of the workers that it starts.
#[must_use]
pub fn main() -> ExitCode {
    run(Options::parse)
}

/// The same in a few seconds, whatever the command line says: every peer does every workload once.
#[must_use]
pub fn smoke_test() -> ExitCode {
    run(|| Options::parse_from(["smoke", "--smoke", "--rounds", "1"]))
}

/// A trace for workload W10 of what `recorder/record.c` wrote, and what there is in it.
///
/// # Errors
///
/// When the record is cut short, or contradicts itself.
pub fn pack_trace(record: &[u8]) -> Result<(Vec<u8>, String)> {
    let packed = trace::pack::pack(record)?;
    let trace = Trace::read(&packed)?;
    let (objects, peak_bytes) = (trace.objects(), trace.peak.live_bytes);
    Ok((packed, format!("{objects} objects, of which up to {peak_bytes} bytes at a time")))
}

#[allow(clippy::print_stderr, reason = "a program's last word")]
fn run(options: impl FnOnce() -> Options) -> ExitCode {
    let job = crew::job_of_this_process();
    let job = job.map(|job| job.and_then(|job| crew::work(&job, &plan::peers())));
    let outcome = job.or_else(guard::work_of_this_process).unwrap_or_else(|| conduct(&options()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn conduct(options: &Options) -> Result<()> {
    if options.guard {
        return guard::run(options.bless);
    }
    let (document, failures) = match &options.from {
        Some(path) => (Document::read(path)?, Ok(())),
        None => measure(options)?,
    };
    if !options.smoke || failures.is_err() {
        document.print()?;
    }
    if let Some(path) = options.json.as_deref() {
        document.write(path)?;
    }
    if let Some(path) = options.chart.as_deref() {
        document.write_chart(path)?;
    }
    // Papers do not show what failed.
    failures?;
    match (options.docs, options.only.is_empty()) {
        (false, _) => Ok(()),
        (true, true) => document.write_papers(),
        (true, false) => document.write_into_papers(),
    }
}

/// What was found, and an error if not all that should have been.
fn measure(options: &Options) -> Result<(Document, Result<()>)> {
    // Whoever is interrupted still removes his heap.
    let interrupted = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&interrupted);
    ctrlc::set_handler(move || interrupted.store(true, Ordering::Relaxed))?;
    let experiments: Vec<Experiment> =
        plan::experiments().into_iter().filter(|one| one.is_wanted(options)).collect();
    let peers = plan::peers();
    let mut report = Report::new(options, &peers, &experiments);
    for round in 0..options.rounds() {
        for (at, experiment) in experiments.iter().enumerate() {
            report::progress(round, options.rounds(), experiment.name);
            for turn in 0..peers.len() {
                let number = (round + turn) % peers.len();
                if report.expects(at, number) {
                    let outcome = experiment.run(peers[number].as_ref(), options.effort());
                    ensure!(!seen.load(Ordering::Relaxed), "interrupted");
                    report.add(at, number, outcome);
                }
            }
        }
    }
    report::progress_done();
    Ok((report.document(), report.failures()))
}

/// The directory of the workspace's `Cargo.toml`, as cargo tells when it runs this program. What it
/// told when it compiled it may be another checkout.
fn workspace() -> PathBuf {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest_dir.ancestors().nth(2).unwrap_or(&manifest_dir).to_path_buf()
}
