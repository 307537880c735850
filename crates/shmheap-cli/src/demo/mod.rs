//! `shmheap demo`: several processes, one heap, one of them killed.
//!
//! ```text
//!   parent ----- creates the heap, puts documents in, starts workers, kills one,
//!      |         frees what it left, compares with a plain count, audits, destroys
//!      +-- worker 1..n   claim documents, enter every word into one index, commit  (`worker`)
//!      +-- query         connects read-only by name and answers                    (`query`)
//! ```
//!
//! What makes it safe to kill a worker at any instruction: the heap repairs itself, a document's
//! words count only once its attempt is committed (`plan`), and chains grow by single swaps
//! (`index`). This file tells the story from the parent's side; `proof` holds its second half.

mod corpus;
mod count;
mod crew;
mod directory;
mod index;
mod object;
mod plan;
mod proof;
mod query;
mod report;
mod setup;
mod speed;
mod sweep;
mod words;
mod worker;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::HumanCount;

use self::count::Count;
use self::crew::{Crew, Member};
use self::directory::Directory;
use self::report::{Progress, Report};
use self::setup::Ground;
pub(crate) use self::setup::destroy_on_interrupt;
use crate::args::{Demo, DemoQuery, DemoWorker};
use crate::output::Table;
use crate::{Verdict, output, size};

/// How often the parent looks at the workers' counters.
const LOOK: Duration = Duration::from_millis(1);

/// The worker process.
pub(crate) fn run_worker(arguments: &DemoWorker, out: &mut dyn Write) -> Result<Verdict> {
    worker::run(arguments, out)
}

/// The query process.
pub(crate) fn run_query(arguments: &DemoQuery, out: &mut dyn Write) -> Result<Verdict> {
    query::run(arguments, out)
}

/// The demo.
pub(crate) fn run(arguments: &Demo, out: &mut dyn Write) -> Result<Verdict> {
    let mut report = Report::new(out);
    report.title("Several processes build one index in one heap, and one of them is killed")?;
    let waiting = report.busy("reading and counting the text");
    let ground = setup::prepare(arguments)?;
    waiting.finish_and_clear();
    tell_ground(&mut report, &ground)?;

    let buckets = (ground.count.words() as usize).next_power_of_two().max(64);
    let documents = &ground.corpus.documents;
    let directory = Directory::create(&ground.heap, documents, ground.workers, buckets)?;
    let victim = setup::choose_victim(ground.workers, documents.len(), &ground.count);
    let mut crew = Crew::start(&ground.name, directory.handle, ground.workers, victim)?;
    report.step("workers", &format!("{} processes that know two things:", ground.workers))?;
    report.more(&format!("the heap's name and one handle, {}", directory.handle))?;
    let taken = index(&mut crew, &directory, &ground.count, &mut report)?;
    tell_workers(&mut report, &crew, &directory, &ground, taken)?;

    proof::run(&ground, directory, &mut report)?;
    let name = ground.name.clone();
    drop(ground);
    let gone = setup::is_gone(&name);
    report.promise(gone, "destroyed  nothing is left on this machine".to_owned());
    let kept = report.promises()?;
    let last = if kept {
        "All as promised. Make a heap of your own: shmheap create NAME --len 16M"
    } else {
        "Not all is as promised; please report it with this output."
    };
    report.end(last)?;
    Ok(Verdict::of(kept))
}

fn tell_ground(report: &mut Report<'_>, ground: &Ground) -> Result<()> {
    let info = ground.heap.info();
    let corpus = &ground.corpus;
    report.step(
        "heap",
        &format!(
            "/dev/shm/{}, {}, may grow to {}",
            ground.name.display(),
            size::long(info.len_bytes),
            size::long(info.max_len_bytes)
        ),
    )?;
    report.step("text", &corpus.source)?;
    report.more(&format!(
        "{}, {}, {}",
        output::counted(corpus.documents.len() as u64, "document"),
        output::counted(ground.count.places, "word"),
        size::long(corpus.bytes()),
    ))?;
    if corpus.skipped > 0 {
        let files = output::counted(corpus.skipped, "file");
        report.more(&format!("{files} passed over, binary or not readable"))?;
    }
    Ok(())
}

/// Lets the workers work, kills one of them on the way, and waits for the others.
fn index(
    crew: &mut Crew,
    directory: &Directory<'_>,
    count: &Count,
    report: &mut Report<'_>,
) -> Result<Duration> {
    let plan = &directory.plan;
    let mut progress = Progress::new(count.places);
    let started = Instant::now();
    let mut killed = false;
    crew.go()?;
    while crew.reap()? > 0 {
        progress.show(plan.words_done(), report)?;
        let victim = crew.victim;
        if !killed && plan.worker(victim.number).allocations() >= victim.busy_after {
            killed = true;
            let pause = crew.kill_victim(plan)?;
            let allocated = plan.worker(victim.number).allocations();
            progress.aside(|| tell_kill(report, crew, allocated, pause))?;
        }
        thread::sleep(LOOK);
    }
    let taken = started.elapsed();
    progress.show(plan.words_done(), report)?;
    progress.finish();
    Ok(taken)
}

fn tell_kill(report: &mut Report<'_>, crew: &Crew, allocated: u64, pause: Duration) -> Result<()> {
    let (number, process) = (crew.victim.number + 1, crew.victim_process());
    let object = HumanCount(allocated);
    report.alarm(
        "SIGKILL",
        &format!("to worker {number} (process {process}) as it allocates object {object}"),
    )?;
    let pause = report::duration(pause);
    report.more(&format!("the others all allocated again within {pause}"))?;
    Ok(())
}

fn tell_workers(
    report: &mut Report<'_>,
    crew: &Crew,
    directory: &Directory<'_>,
    ground: &Ground,
    taken: Duration,
) -> Result<()> {
    let plan = &directory.plan;
    let rows = crew.members.iter().map(|member| plan.worker(member.number));
    let objects: u64 = rows.clone().map(|row| row.allocations()).sum();
    let speed = report::rate(objects, taken, "objects");
    let megabytes = ground.corpus.bytes() as f64 / 1e6 / taken.as_secs_f64().max(1e-9);
    let text = format!("in {}: {speed}, {megabytes:.1} MB of text/s", report::duration(taken));
    report.step("indexed", &text)?;
    let mut table = Table::new(&["WORKER", ">PROCESS", ">OBJECTS", ">DOCUMENTS", "FATE"]);
    for member in &crew.members {
        let row = plan.worker(member.number);
        table.row(vec![
            (member.number + 1).to_string(),
            member.process.id().to_string(),
            HumanCount(row.allocations()).to_string(),
            HumanCount(row.documents()).to_string(),
            fate(member),
        ]);
    }
    report.table(&table)?;
    tell_adoption(report, directory)?;

    let killed = crew.members.iter().filter(|member| member.was_killed()).count();
    let finished = crew.members.len() - killed;
    report.promise(
        killed == 1 && plan.all_done(),
        format!("resilient  1 worker killed while allocating, {finished} finished all the work"),
    );
    Ok(())
}

fn fate(member: &Member) -> String {
    if member.was_killed() {
        console::style("killed").red().to_string()
    } else {
        "finished".to_owned()
    }
}

/// Names the documents that one worker began and another finished.
fn tell_adoption(report: &mut Report<'_>, directory: &Directory<'_>) -> Result<()> {
    let plan = &directory.plan;
    for document in 0..plan.document_count() {
        let claim = plan.claim_of(document);
        if claim.attempt() > 1 {
            let (worker, document) = (claim.worker() + 1, HumanCount(document as u64 + 1));
            report.more(&format!(
                "worker {worker} noticed the death and indexed document {document} again"
            ))?;
        }
    }
    Ok(())
}
