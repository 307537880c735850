//! A crew: the workers of one figure, from a job to their tallies.
//!
//! The conductor starts this program again, once for each worker, with a [`Job`] in the
//! environment; where a peer is shared by threads only, once for all of them. The children print
//! their tallies as JSON and end. They end with the conductor, too, and a crew of which one fails
//! ends as a whole.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::panic;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::Signal;
use rustix::thread::CpuSet;
use serde::{Deserialize, Serialize};

use crate::board;
use crate::options::Effort;
use crate::peer::{Peer, Sharing};
use crate::workload::{self, Contest, Seat, Tally, Work};

const JOB_VARIABLE: &str = "SHMHEAP_BENCH_JOB";

/// Much longer than any crew takes.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What a child is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    peer: String,
    work: Work,
    heap: String,
    board: i32,
    workers: usize,
    /// Which of the workers this child is.
    seats: Range<usize>,
    effort: Effort,
}

/// A peer of whatever kind.
pub(crate) trait AnyPeer {
    fn name(&self) -> &'static str;
    fn description(&self) -> String;
    fn sharing(&self) -> Sharing;

    /// In which it takes part.
    fn contest(&self) -> Contest;

    /// Why so many workers cannot do that work with it, if so.
    fn refuses(&self, work: Work, workers: usize) -> Option<&'static str>;

    /// Has so many workers do the work, and returns their tallies in order.
    fn run_crew(&self, work: Work, workers: usize, effort: Effort) -> Result<Vec<Tally>>;

    /// A child's part of it.
    fn take_part(&self, job: &Job) -> Result<Vec<Tally>>;
}

impl<P: Peer> AnyPeer for P {
    fn name(&self) -> &'static str {
        Peer::name(self)
    }

    fn description(&self) -> String {
        Peer::description(self)
    }

    fn sharing(&self) -> Sharing {
        Peer::sharing(self)
    }

    fn contest(&self) -> Contest {
        Contest::Allocation
    }

    fn refuses(&self, work: Work, workers: usize) -> Option<&'static str> {
        let lacks_names = work.needs_names() && Peer::sharing(self) == Sharing::Threads;
        let reason = Peer::refuses(self, work.demand(workers));
        reason.or_else(|| lacks_names.then_some("has no heaps to create and connect to"))
    }

    fn run_crew(&self, work: Work, workers: usize, effort: Effort) -> Result<Vec<Tally>> {
        let heap = HeapName::new(self, unique_name());
        if !matches!(work, Work::Create) {
            drop(self.create(&heap.name)?);
        }
        let order = Order { peer: Peer::name(self), work, heap: &heap.name, workers, effort };
        order.carry_out(Peer::sharing(self))
    }

    fn take_part(&self, job: &Job) -> Result<Vec<Tally>> {
        job.seat_workers(|seat| workload::run(self, job.work, &job.heap, seat))
    }
}

/// What a crew is to do, before its members have seats.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'o> {
    pub(crate) peer: &'static str,
    pub(crate) work: Work,
    /// By what the members find what they share.
    pub(crate) heap: &'o str,
    pub(crate) workers: usize,
    pub(crate) effort: Effort,
}

impl Order<'_> {
    /// Starts the processes of the crew, and collects their tallies.
    pub(crate) fn carry_out(self, sharing: Sharing) -> Result<Vec<Tally>> {
        let Self { peer, work, heap, workers, effort } = self;
        let board = board::create()?;
        let seats_of_a_process = match sharing {
            Sharing::Processes => 1,
            Sharing::Threads => workers,
        };
        let mut children = Children::default();
        for first in (0..workers).step_by(seats_of_a_process) {
            children.spawn(&Job {
                peer: peer.to_owned(),
                work,
                heap: heap.to_owned(),
                board: board::number(&board),
                workers,
                seats: first..first + seats_of_a_process,
                effort,
            })?;
        }
        let tallies = children.tallies(&board)?;
        ensure!(tallies.len() == workers, "{} of {workers} workers reported", tallies.len());
        workload::compare(&tallies)?;
        Ok(tallies)
    }
}

impl Job {
    pub(crate) fn work(&self) -> Work {
        self.work
    }

    /// By what the members find what they share.
    pub(crate) fn heap(&self) -> &str {
        &self.heap
    }

    /// Has each worker of this process do its work, and returns their tallies in order.
    pub(crate) fn seat_workers(
        &self,
        work: impl Fn(Seat<'_>) -> Result<Tally> + Sync,
    ) -> Result<Vec<Tally>> {
        let board = board::Mapped::inherited(self.board)?;
        let work = |number| {
            if self.workers > 1 {
                pin(number)?;
            }
            work(Seat { number, workers: self.workers, board: &board, effort: self.effort })
        };
        thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> =
                self.seats.clone().map(|number| scope.spawn(move || work(number))).collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|tally| tally.unwrap_or_else(|_| bail!("a worker panicked"))).collect()
        })
    }
}

/// The job of this process, if it is a child.
pub(crate) fn job_of_this_process() -> Option<Result<Job>> {
    let text = std::env::var(JOB_VARIABLE).ok()?;
    Some(serde_json::from_str(&text).context("a job is handed from parent to child only"))
}

/// The child.
#[allow(clippy::print_stdout, reason = "how a child reports")]
pub(crate) fn work(job: &Job, peers: &[Box<dyn AnyPeer>]) -> Result<()> {
    // A worker has no purpose without the conductor, however that one ends.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Nor without the other threads: they would wait for it.
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(101);
    }));
    let contest = job.work.contest();
    let mut peers = peers.iter().filter(|peer| peer.contest() == contest);
    let peer = peers.find(|peer| peer.name() == job.peer);
    let tallies = peer.context("no such peer")?.take_part(job)?;
    println!("{}", serde_json::to_string(&tallies)?);
    Ok(())
}

/// Gives each worker a processor of its own, as far as there are enough.
fn pin(number: usize) -> Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&at| allowed.is_set(at)).collect();
    let mut own = CpuSet::new();
    own.set(processors[number % processors.len()]);
    rustix::thread::sched_setaffinity(None, &own).context("cannot pin a worker")
}

/// The name of a heap, which is removed in any case.
pub(crate) struct HeapName<'p, P: Peer> {
    peer: &'p P,
    name: String,
}

impl<'p, P: Peer> HeapName<'p, P> {
    pub(crate) fn new(peer: &'p P, name: String) -> Self {
        Self { peer, name }
    }
}

impl<P: Peer> Drop for HeapName<'_, P> {
    fn drop(&mut self) {
        self.peer.remove(&self.name);
    }
}

pub(crate) fn unique_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("shmheap-bench-{}-{count}", std::process::id())
}

/// The processes of a crew; they end with this.
#[derive(Default)]
struct Children(Vec<Process>);

struct Process {
    child: Child,
    /// What it says, read as it comes: a full pipe would hold it up.
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Children {
    fn spawn(&mut self, job: &Job) -> Result<()> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(JOB_VARIABLE, serde_json::to_string(job)?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        let stdout = read_all(child.stdout.take());
        let stderr = read_all(child.stderr.take());
        self.0.push(Process { child, stdout, stderr });
        Ok(())
    }

    /// Waits for all, or for the first that fails. The board outlives their use of it.
    fn tallies(mut self, _board: &File) -> Result<Vec<Tally>> {
        let deadline = Instant::now() + PATIENCE;
        let mut running = true;
        while running {
            running = false;
            for at in 0..self.0.len() {
                match self.0[at].child.try_wait()? {
                    None => running = true,
                    Some(status) if status.success() => {}
                    Some(_) => return Err(reason(self.0.swap_remove(at))),
                }
            }
            ensure!(Instant::now() < deadline, "not done after {} s", PATIENCE.as_secs());
            thread::sleep(LOOK_EVERY);
        }
        let mut tallies = Vec::new();
        for process in self.0.drain(..) {
            let text = process.stdout.join().unwrap_or_default();
            tallies.extend(serde_json::from_str::<Vec<Tally>>(&text).context("a worker's report")?);
        }
        Ok(tallies)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for process in &mut self.0 {
            // An error means that it has ended.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        if let Some(mut pipe) = pipe {
            // What cannot be read is missing, and found to be so.
            let _ = pipe.read_to_string(&mut text);
        }
        text
    })
}

/// Why a child failed, in a line: the text of its error or panic.
fn reason(process: Process) -> anyhow::Error {
    let text = process.stderr.join().unwrap_or_default();
    let mut lines = text.lines().filter(|line| {
        !line.is_empty() && !line.starts_with("thread '") && !line.starts_with("note:")
    });
    let line = lines.next().unwrap_or("a worker was killed");
    anyhow!("{}", line.trim_start_matches("error: "))
}
