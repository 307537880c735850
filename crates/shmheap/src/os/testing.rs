//! What the tests of `os` and `peers` need: names that are cleaned up, processes of their own.
//!
//! # Unsafe code
//!
//! `fork` and its kin, in processes where one thread works and the test harness's only waits.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, WaitOptions, waitpid};

use super::object::unlink;
use super::path::ObjectPath;

/// Set to the name of the one test that a process was started for.
const OWN_PROCESS: &str = "SHMHEAP_TEST_OWN_PROCESS";

/// A name of its own in POSIX shared memory, gone when the test is.
#[derive(Debug)]
pub(crate) struct NameGuard(ObjectPath);

impl NameGuard {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("/shmheap-unit-{}-{number}", std::process::id());
        Self(ObjectPath::named(name.as_ref()).unwrap())
    }

    pub(crate) fn at(&self) -> &ObjectPath {
        &self.0
    }
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        let _ = unlink(&self.0);
    }
}

/// The command that runs one test of this binary, in the only thread of a process of its own.
pub(crate) fn alone(module: &str, test: &str) -> Command {
    let path = module.split_once("::").map_or(test.to_owned(), |(_, m)| format!("{m}::{test}"));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&path, "--exact", "--nocapture", "--test-threads=1"]).env(OWN_PROCESS, test);
    command
}

/// Whether this process was started by [`alone`] for that test.
pub(crate) fn is_alone(test: &str) -> bool {
    std::env::var_os(OWN_PROCESS).is_some_and(|name| name == test)
}

/// Runs `body` in a process of its own, where nothing else runs: the test calls this first thing,
/// with its own name, and is called again there.
pub(crate) fn in_own_process(module: &str, test: &str, body: impl FnOnce()) {
    if is_alone(test) {
        return body();
    }
    let output = alone(module, test).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(text.contains("1 passed"), "no test {module}::{test}");
}

/// Runs `body` in a forked child, whose exit status is what it returns; 101 if it panics.
pub(crate) fn fork(body: impl FnOnce() -> i32) -> Pid {
    // SAFETY: the only other thread waits for this one and holds no lock that the child could need.
    child_of(unsafe { libc::fork() }, body)
}

/// As [`fork`], by a system call that no library notices.
pub(crate) fn raw_clone(body: impl FnOnce() -> i32) -> Pid {
    let none = 0_usize;
    // SAFETY: without flags but the signal, `clone` is `fork`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, none, none, none, none) };
    child_of(i32::try_from(pid).unwrap(), body)
}

fn child_of(pid: i32, body: impl FnOnce() -> i32) -> Pid {
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid > 0 {
        return Pid::from_raw(pid).unwrap();
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    // SAFETY: ends the child without running what the parent registered to run at its own end.
    unsafe { libc::_exit(outcome.unwrap_or(101)) }
}

/// Waits for a child to end; how it exited, -1 if it was killed.
pub(crate) fn exit_status(child: Pid) -> i32 {
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().unwrap_or(-1)
}

/// Makes this process another user's, for good.
pub(crate) fn become_user(user: u32) {
    // SAFETY: plain system call on a number.
    assert_eq!(unsafe { libc::setuid(user) }, 0);
}

/// Leaves the PID namespace, for the children to come; `false` where that is not permitted.
pub(crate) fn leave_pid_namespace() -> bool {
    unshare(libc::CLONE_NEWPID)
}

/// Leaves the namespace, with the user's own as well if need be.
fn unshare(namespace: i32) -> bool {
    [namespace, namespace | libc::CLONE_NEWUSER].into_iter().any(|flags| {
        // SAFETY: plain system call on flags.
        unsafe { libc::unshare(flags) == 0 }
    })
}

/// Blocks until the standard input, a pipe, has no writer any more. Reads nothing from it.
pub(crate) fn wait_for_end_of_input() {
    let mut input = libc::pollfd { fd: 0, events: 0, revents: 0 };
    // SAFETY: plain system call on one descriptor record that lives across it. Without events, only
    // the end of the pipe is reported.
    while unsafe { libc::poll(&raw mut input, 1, -1) } < 1 {}
}

/// Closes every descriptor but the standard ones, as a daemoniser does.
pub(crate) fn close_all_descriptors() {
    // SAFETY: whose descriptors are closed is the test's point; nothing else runs meanwhile.
    assert_eq!(unsafe { libc::close_range(3, u32::MAX, 0) }, 0);
}

/// A small tmpfs that only this process sees, unmounted on drop.
#[derive(Debug)]
pub(crate) struct OwnMount(CString);

/// Mounts one; `None`, and a line that says so, where that is not permitted.
pub(crate) fn tmpfs_of_own(directory: &Path, options: &str) -> Option<OwnMount> {
    let at = CString::new(directory.as_os_str().as_bytes()).unwrap();
    let options = CString::new(options).unwrap();
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let mount = |kind: &CStr, at: &CStr, flags, options: &CStr| {
        let source = kind.as_ptr();
        // SAFETY: plain system call; the strings live across it.
        unsafe {
            libc::mount(source, at.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) == 0
        }
    };
    // Private before anything is mounted, so that no other process sees it.
    let mounted = unshare(libc::CLONE_NEWNS)
        && mount(c"none", c"/", private, c"")
        && mount(c"tmpfs", &at, 0, &options);
    if !mounted {
        println!("skipped: mounting is not permitted ({})", std::io::Error::last_os_error());
        return None;
    }
    Some(OwnMount(at))
}

impl Drop for OwnMount {
    fn drop(&mut self) {
        // SAFETY: plain system call; the string lives across it.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}
