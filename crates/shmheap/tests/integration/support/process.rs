//! Processes: this program started again for one of its tests, and forks of such a process.
//!
//! ```text
//!   #[test] fn a_test() {                       #[test] fn worker() {
//!       let worker = Worker::start(                 let Some(me) = Role::of("m::worker")
//!           "m::worker", &["arguments"]);               else { return };
//!       worker.say(..); worker.hear();  <------>    me.hear(); me.say(..);
//!       worker.finish();                        }
//!   }
//! ```
//!
//! A worker's standard input is a socket to the test that started it. All but the thread of its
//! test only wait for that, so a worker may fork; and it is killed when the test that started it
//! ends.
//!
//! # Unsafe code
//!
//! `fork` and `_exit`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getppid, kill_process, pidfd_open,
    set_parent_process_death_signal, waitpid,
};
use rustix::thread::{UnshareFlags, futex, unshare_unsafe};

/// How long a process that should answer or end may take: much longer than it ever does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

const ROLE: &str = "SHMHEAP_TEST_ROLE";
const ARGUMENTS: &str = "SHMHEAP_TEST_ARGUMENTS";

/// A process that runs one test of this program and nothing else; killed on drop.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    channel: BufReader<UnixStream>,
}

impl Worker {
    /// Starts the test `path`, which finds the arguments in its [`Role`].
    pub(crate) fn start(path: &str, arguments: &[&str]) -> Self {
        Self::start_with(path, arguments, |command| command)
    }

    /// As [`start`](Self::start), with more said about the process.
    pub(crate) fn start_with(
        path: &str,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        Self::start_program(Path::new("/proc/self/exe"), path, arguments, prepare)
    }

    /// As [`start_with`](Self::start_with), from a copy of this program.
    pub(crate) fn start_program(
        program: &Path,
        path: &str,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(program);
        command
            .args([path, "--exact", "--nocapture", "--test-threads=1"])
            .env(ROLE, path)
            .env(ARGUMENTS, arguments.join("\n"))
            .stdin(Stdio::from(OwnedFd::from(there)))
            .stdout(Stdio::null());
        let child = prepare(&mut command).spawn().unwrap();
        Self { child, channel: BufReader::new(here) }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The socket to the worker.
    pub(crate) fn socket(&self) -> &UnixStream {
        self.channel.get_ref()
    }

    /// Sends a line.
    #[track_caller]
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.channel.get_mut(), "{line}").unwrap();
    }

    /// Waits for a line.
    #[track_caller]
    pub(crate) fn hear(&mut self) -> String {
        hear(&mut self.channel).expect("the worker has ended")
    }

    /// Kills it in the middle of whatever it does; it must not have ended by itself.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "it ended before: {status}");
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the end of a worker that found nothing wrong.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        let status = self.wait(PATIENCE).expect("the worker hangs");
        assert!(status.success(), "a worker failed: {status}; its words stand above");
    }

    /// Waits for the worker's end; `None` if it does not come in time.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        ends_within(self.pid(), patience).then(|| self.child.wait().unwrap())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process that [`Worker`] started is there for.
#[derive(Debug)]
pub(crate) struct Role {
    arguments: Vec<String>,
    channel: BufReader<UnixStream>,
}

impl Role {
    /// `None` unless this process was started for the test `path`.
    pub(crate) fn of(path: &str) -> Option<Self> {
        if std::env::var_os(ROLE)? != path {
            return None;
        }
        die_with_parent();
        let arguments = std::env::var(ARGUMENTS).unwrap().split('\n').map(str::to_owned).collect();
        let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        Some(Self { arguments, channel: BufReader::new(socket.into()) })
    }

    pub(crate) fn argument(&self, index: usize) -> &str {
        &self.arguments[index]
    }

    pub(crate) fn number(&self, index: usize) -> u64 {
        self.argument(index).parse().unwrap()
    }

    /// The socket to the test.
    pub(crate) fn socket(&self) -> &UnixStream {
        self.channel.get_ref()
    }

    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.channel.get_mut(), "{line}").unwrap();
    }

    /// Waits for a line; `None` if the test has nothing more to say.
    pub(crate) fn hear(&mut self) -> Option<String> {
        hear(&mut self.channel)
    }
}

fn hear(channel: &mut BufReader<UnixStream>) -> Option<String> {
    let mut line = String::new();
    let count = channel.read_line(&mut line).unwrap();
    (count > 0).then(|| line.trim_end().to_owned())
}

/// A forked child; killed on drop.
#[derive(Debug)]
pub(crate) struct Fork(Option<Pid>);

impl Fork {
    /// Runs `body` in a child of this process, which must be a [`Worker`]. The child ends with
    /// status 0 when `body` returns, with 101 if it panics, and without dropping what it inherited.
    pub(crate) fn start(body: impl FnOnce()) -> Self {
        let parent = rustix::process::getpid();
        // SAFETY: the threads that the child misses hold no lock that `body` takes: those of the
        // test program wait, others work in heaps, which have none, and the C library sees to its
        // own.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if let Some(pid) = Pid::from_raw(pid) {
            return Self(Some(pid));
        }
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            die_with_parent();
            assert_eq!(getppid(), Some(parent), "the parent was faster");
            body();
        }));
        // SAFETY: ends the child without running what the parent registered for its own end.
        unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 101 }) }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.0.unwrap()
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> Option<WaitStatus> {
        let (_, status) = waitpid(self.0, WaitOptions::NOHANG).unwrap()?;
        self.0 = None;
        Some(status)
    }

    /// Kills it in the middle of whatever it does; it must not have ended by itself.
    pub(crate) fn kill(&mut self) {
        self.send(Signal::KILL);
        self.reap_killed();
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end of a child that was sent the signal to, if that has not been done.
    pub(crate) fn reap_killed(&mut self) {
        let Some(pid) = self.0.take() else { return };
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(libc::SIGKILL), "it ended before: {status:?}");
    }

    /// Stops it in the middle of whatever it does, and waits until no thread of it runs.
    pub(crate) fn stop(&self) {
        self.send(Signal::STOP);
        let (_, status) = waitpid(self.0, WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "it ended before: {status:?}");
    }

    /// Waits for the end of a child that found nothing wrong.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        assert!(ends_within(self.pid(), PATIENCE), "the child hangs");
        let (_, status) = waitpid(self.0.take(), WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0), "a child failed: its words stand above");
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Closes all but the standard descriptors, as a program does that becomes a daemon.
pub(crate) fn close_all_descriptors() {
    // SAFETY: whose descriptors are closed is the test's point; nothing else runs meanwhile.
    assert_eq!(unsafe { libc::close_range(3, u32::MAX, 0) }, 0);
}

/// Gives this process mounts of its own; `false` where that is not permitted.
fn leave_mount_namespace() -> bool {
    let alone = UnshareFlags::NEWNS;
    // SAFETY: the flags unshare mounts and users, and no descriptors.
    let leave = |flags| unsafe { unshare_unsafe(flags) };
    leave(alone).is_ok() || leave(alone | UnshareFlags::NEWUSER).is_ok()
}

/// Mounts a tmpfs that only this process sees.
pub(crate) fn mount_own_tmpfs(at: &Path, options: &str) -> bool {
    let options = CString::new(options).unwrap();
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    leave_mount_namespace()
        && mount_change("/", private).is_ok()
        && mount("tmpfs", at, "tmpfs", MountFlags::empty(), options.as_c_str()).is_ok()
}

/// Waits until the condition holds, without sleeping: processes yield to each other.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        std::thread::yield_now();
        assert!(Instant::now() < deadline, "waited in vain: {what}");
    }
}

/// Sets a word in a heap and wakes all that wait for it.
pub(crate) fn set_word(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::SeqCst);
    wake(word);
}

/// Adds one to a word in a heap and wakes all that wait for it.
pub(crate) fn count_in_word(word: &AtomicU64) {
    word.fetch_add(1, Ordering::SeqCst);
    wake(word);
}

fn wake(word: &AtomicU64) {
    futex::wake(low_half(word), futex::Flags::empty(), i32::MAX as u32).unwrap();
}

/// Sleeps while a word in a heap has the value.
#[track_caller]
pub(crate) fn wait_while_word(word: &AtomicU64, value: u64) {
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let deadline = Instant::now() + PATIENCE;
    while word.load(Ordering::SeqCst) == value {
        assert!(Instant::now() < deadline, "the word stays {value}");
        // Whatever the call says, the word tells.
        let _ = futex::wait(low_half(word), futex::Flags::empty(), value as u32, Some(&timeout));
    }
}

/// Sleeps until a word in a heap has the value; `look` is called once in a while.
#[track_caller]
pub(crate) fn wait_for_word(word: &AtomicU64, value: u64, mut look: impl FnMut()) {
    let deadline = Instant::now() + PATIENCE;
    let timeout = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    loop {
        let found = word.load(Ordering::SeqCst);
        if found == value {
            return;
        }
        look();
        assert!(Instant::now() < deadline, "the word stays {found}");
        // Whatever the call says, the word tells.
        let _ = futex::wait(low_half(word), futex::Flags::empty(), found as u32, Some(&timeout));
    }
}

/// The half of a word that the kernel compares; the tests use small numbers only.
fn low_half(word: &AtomicU64) -> &AtomicU32 {
    // SAFETY: an atomic word holds two aligned atomic halves, the low one first on a little-endian
    // machine; the kernel only compares it, and nobody stores to it.
    unsafe { &*std::ptr::from_ref(word).cast() }
}

fn ends_within(pid: Pid, patience: Duration) -> bool {
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let timeout = Timespec::try_from(patience).unwrap();
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    poll(&mut ended, Some(&timeout)).unwrap() > 0
}

/// Takes back what ends this process with its parent; it must have an end of its own.
pub(crate) fn outlive_parent() {
    set_parent_process_death_signal(None).unwrap();
}

fn die_with_parent() {
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
}
