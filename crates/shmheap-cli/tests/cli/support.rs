//! Runs the command, and removes the heaps that a test made, also when it fails.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// The command with these arguments, without colours and without a terminal.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shmheap"));
    command.args(arguments).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// What a run of the command gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Its output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the command to its end.
pub(crate) fn run(arguments: &[&str]) -> Run {
    Run::of(&command(arguments).output().unwrap())
}

/// Runs the command, which has to succeed; returns its output.
pub(crate) fn succeed(arguments: &[&str]) -> String {
    let run = run(arguments);
    assert_eq!(run.code, Some(0), "{arguments:?}: {run:?}");
    run.out
}

/// Runs the command, which has to fail with `code` and one line that holds `text`.
pub(crate) fn fail(arguments: &[&str], code: i32, text: &str) {
    let run = run(arguments);
    assert_eq!(run.code, Some(code), "{arguments:?}: {run:?}");
    assert!(run.err.contains(text), "{arguments:?}: {run:?}");
    if code == 3 {
        assert!(run.err.starts_with("shmheap: "), "{run:?}");
        assert_eq!(run.err.lines().count(), 1, "{run:?}");
    }
    assert!(!run.err.contains("panicked"), "{run:?}");
}

/// A name of its own, removed from shared memory at the end.
pub(crate) struct Name(pub(crate) String);

impl Name {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!("cli-test-{}-{number}", std::process::id()))
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        Path::new("/dev/shm").join(&self.0)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
    }
}

/// This very test program as another process that is connected to a heap, until it is dropped.
pub(crate) struct Peer {
    process: Child,
}

/// Set for a process that is to connect; the test `be_a_peer` does it.
const PEER_VARIABLE: &str = "SHMHEAP_TEST_PEER_OF";
/// Whether it is to work.
const PART_VARIABLE: &str = "SHMHEAP_TEST_PEER_PART";

impl Peer {
    /// Starts it and waits until it is connected and has allocated one object.
    pub(crate) fn connect(name: &str) -> Self {
        Self::start(name, "rest", "")
    }

    /// The same, but it goes on to allocate and free.
    pub(crate) fn at_work(name: &str) -> Self {
        Self::start(name, "work", "")
    }

    /// The same at rest, with an unpublished object in its hand and a shared value that it holds.
    pub(crate) fn connect_and_hold(name: &str) -> Self {
        Self::start(name, "hold", "")
    }

    /// The same with a tag, from its environment.
    pub(crate) fn hold_under_tag(name: &str, tag: &str) -> Self {
        Self::start(name, "hold", tag)
    }

    fn start(name: &str, part: &str, tag: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let process = Command::new(program)
            .args(["support::be_a_peer", "--exact", "--nocapture"])
            .env(PEER_VARIABLE, name)
            .env(PART_VARIABLE, part)
            .env("SHMHEAP_TAG", tag)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut peer = Self { process };
        let output = BufReader::new(peer.process.stdout.as_mut().unwrap());
        assert!(output.lines().any(|line| line.unwrap().contains("connected")), "no peer");
        peer
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops it with SIGSTOP, wherever it is.
    pub(crate) fn stop(&mut self) {
        let process = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(self) {}
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process behind [`Peer`]; does nothing in an ordinary run of the tests.
#[test]
fn be_a_peer() {
    let Ok(name) = std::env::var(PEER_VARIABLE) else { return };
    let heap = match name.contains('/') {
        true => shmheap::Heap::connect_file(name).unwrap(),
        false => shmheap::Heap::connect(name).unwrap(),
    };
    heap.alloc(std::alloc::Layout::new::<u64>()).unwrap();
    let part = std::env::var(PART_VARIABLE).unwrap_or_default();
    let held = (part == "hold").then(|| {
        let object = heap.alloc_unpublished(std::alloc::Layout::new::<u64>()).unwrap();
        (object, shmheap::ShmArc::new(&heap, 5_u64).unwrap())
    });
    println!("\nconnected");
    std::io::stdout().flush().unwrap();
    if part == "work" {
        work(&heap);
    }
    // Until the parent ends this process, or its own end closes the pipe.
    let _ = std::io::stdin().lines().count();
    drop(held);
}

/// Allocates and frees small and large objects until another ends the process; or, if nobody does,
/// until a test would have failed long since.
fn work(heap: &shmheap::Heap) {
    let mut held: [Option<std::ptr::NonNull<u8>>; 64] = [None; 64];
    for round in 0..100_000_000_usize {
        if let Some(object) = held[round % 64].take() {
            // SAFETY: it is this process's, and nobody else knows of it.
            #[allow(unsafe_code)]
            unsafe {
                heap.free(object).unwrap();
            }
        }
        let bytes = round * 97 % 900 + if round % 100 == 0 { 600_000 } else { 0 };
        let layout = std::alloc::Layout::from_size_align(bytes, 8).unwrap();
        held[round % 64] = heap.alloc(layout).ok();
    }
}
