//! The subject of the liveness tests: this test binary, started once more for `subject` alone.
//!
//! It joins a scene, and then does what it is told, a line at a time; its answers are lines that
//! start with `@`. All waiting is for lines, for ends of processes, and for the kernel to take a
//! memory apart.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::*;
use crate::Result;
use crate::os::testing::{
    NameGuard, alone, close_all_descriptors, exit_status, fork, is_alone, leave_pid_namespace,
    raw_clone, wait_for_end_of_input,
};
use crate::os::{Access, Futex, Mapping, Object, ObjectPath, Unpublished};
use crate::segment::words::Row;
use crate::units::{WORD_BYTES, WordIndex};

/// The table starts behind one word, which tells how many records were used.
pub(super) const BASE: u64 = 1;
pub(super) const SUBJECT_PATH: &str = "SHMHEAP_TEST_SUBJECT_PATH";
/// How long the kernel may take to notice a death before a test fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// An object with nothing but a record table, mapped here.
pub(super) struct Scene {
    pub(super) object: Object,
    pub(super) mapping: Mapping,
    pub(super) table: RecordTable,
}

impl Scene {
    pub(super) fn words_bytes(records: u16) -> u64 {
        (BASE + u64::from(records) * RECORD_WORDS) * WORD_BYTES
    }

    pub(super) fn create(guard: &NameGuard, records: u16) -> Self {
        let unpublished = Unpublished::create(guard.at(), 0o600, None).unwrap();
        unpublished.object.reserve(0..Self::words_bytes(records)).unwrap();
        Self::of(unpublished.publish().unwrap())
    }

    pub(super) fn open(path: &Path) -> Self {
        let at = ObjectPath::file(path).unwrap();
        Self::of(Object::open(&at, Access::ReadWrite).unwrap().keep().unwrap())
    }

    pub(super) fn of(object: Object) -> Self {
        let size = object.size_bytes().unwrap();
        let mapping = Mapping::aligned(&object, size, crate::units::PAGE_BYTES).unwrap();
        let records = (size / WORD_BYTES - BASE) / RECORD_WORDS;
        let table =
            RecordTable::new(WordIndex(BASE), u16::try_from(records).unwrap(), WordIndex(0));
        Self { object, mapping, table }
    }

    pub(super) fn row(&self) -> Row<'_, Futex> {
        Row::new(self.mapping.words(u64::MAX), Futex)
    }

    pub(super) fn join_and(&self, adopt: &dyn Surroundings) -> Result<Membership> {
        let membership = Membership::new(Witness::new(&self.object)?, self.table)?;
        membership.join(&self.row(), None, adopt)?;
        Ok(membership)
    }

    pub(super) fn join(&self) -> Membership {
        self.join_and(&|_| true).unwrap()
    }
}

/// A process that joined the scene under test; killed with the test.
pub(super) struct Subject {
    pub(super) process: Child,
    pub(super) input: Option<ChildStdin>,
    pub(super) output: BufReader<ChildStdout>,
    pub(super) slot: PeerSlot,
}

impl Subject {
    pub(super) fn start(guard: &NameGuard) -> Self {
        let mut command = alone(module_path!(), "subject");
        command.env(SUBJECT_PATH, guard.at().path());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut subject = Self { process, input, output, slot: PeerSlot(0) };
        subject.slot = slot_of(&subject.answer());
        subject
    }

    pub(super) fn tell(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
        self.answer()
    }

    /// The next line that starts with `@`, without it.
    pub(super) fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the subject has ended");
            if let Some(answer) = line.trim_end().strip_prefix('@') {
                return answer.to_owned();
            }
        }
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    pub(super) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // Its forked children read the same input and end with it.
        drop(self.input.take());
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub(super) fn slot_of(answer: &str) -> PeerSlot {
    PeerSlot(answer.split(' ').next_back().unwrap().parse().unwrap())
}

/// The kernel takes the memory of a process apart a moment after it has ended: the moment it
/// takes is waited for, never longer than a test may last.
pub(super) fn dies(membership: &Membership, slot: PeerSlot) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if membership.is_dead(slot) {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

pub(super) fn say(answer: &str) {
    // In one write, so that lines of parent and child do not mix.
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("\n@{answer}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// What the started process does. Under any other circumstances it is a test of nothing.
#[test]
fn subject() {
    let Some(path) = std::env::var_os(SUBJECT_PATH).filter(|_| is_alone("subject")) else { return };
    let scene = Scene::open(path.as_ref());
    // In a thread that ends at once: the place is the process's.
    let joined = std::thread::scope(|scope| scope.spawn(|| scene.join()).join().unwrap());
    say(&format!("joined {}", joined.slot().unwrap().0));
    let mut joined = Some(joined);
    let stdin = std::io::stdin();
    // A byte at a time, as children read the same input.
    let next_line = || {
        let mut line = Vec::new();
        let mut byte = [0];
        while rustix::io::read(&stdin, &mut byte).is_ok_and(|count| count == 1) {
            if byte[0] == b'\n' {
                return Some(String::from_utf8(line).unwrap());
            }
            line.push(byte[0]);
        }
        None
    };
    while let Some(line) = next_line() {
        let place = joined.as_ref().unwrap();
        let answer = match line.as_str() {
            "leave" => {
                place.leave(&scene.row());
                "left".to_owned()
            }
            "exec" => panic!("{}", std::process::Command::new("cat").exec()),
            "close descriptors" => {
                close_all_descriptors();
                "closed".to_owned()
            }
            "open and close" => {
                drop(Scene::open(path.as_ref()));
                "closed".to_owned()
            }
            "fork, leave and exit" => {
                let child = fork(|| {
                    joined.as_ref().unwrap().leave(&scene.row());
                    drop(joined.take());
                    0
                });
                format!("exit {}", exit_status(child))
            }
            "fork" => {
                format!("forked {}", fork(|| child_joins_or_says(&scene, place)).as_raw_nonzero())
            }
            "clone" => {
                format!(
                    "forked {}",
                    raw_clone(|| child_joins_or_says(&scene, place)).as_raw_nonzero()
                )
            }
            "leave namespace" => format!("left {}", leave_pid_namespace()),
            probe => format!("{}", place.is_dead(slot_of(probe))),
        };
        say(&answer);
    }
}

/// [`child_joins`]; a panic in it is an answer, so that nobody waits for another.
pub(super) fn child_joins_or_says(scene: &Scene, joined: &Membership) -> i32 {
    let child = std::panic::AssertUnwindSafe(|| child_joins(scene, joined));
    std::panic::catch_unwind(child).unwrap_or_else(|_| {
        say("child panicked");
        101
    })
}

/// A forked child's first use of the heap, by several threads at once.
pub(super) fn child_joins(scene: &Scene, joined: &Membership) -> i32 {
    assert_eq!(joined.slot(), None);
    let adopted = std::sync::atomic::AtomicU32::new(0);
    let slots: Vec<PeerSlot> = std::thread::scope(|scope| {
        let join = || {
            let adopt = |_| {
                adopted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                true
            };
            joined.join(&scene.row(), None, &adopt).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(join)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(slots.iter().all(|&slot| Some(slot) == joined.slot()), "{slots:?}");
    assert_eq!(adopted.into_inner(), 1);
    say(&format!("child {}", slots[0].0));
    wait_for_end_of_input();
    0
}

/// The forked child of a subject: its process number here, and its slot.
pub(super) fn fork_in(subject: &mut Subject, command: &str) -> (Pid, PeerSlot) {
    writeln!(subject.input.as_mut().unwrap(), "{command}").unwrap();
    // The lines of parent and child come in any order.
    let answers = [subject.answer(), subject.answer()];
    let of = |start: &str| {
        let answer = answers.iter().find_map(|answer| answer.strip_prefix(start));
        answer.unwrap_or_else(|| panic!("{answers:?}")).parse::<i32>().unwrap()
    };
    (Pid::from_raw(of("forked ")).unwrap(), PeerSlot(u16::try_from(of("child ")).unwrap()))
}
