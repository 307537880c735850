//! `Fork`: a child of a process that has one thread, killed and reaped with its parent's hold of
//! it.
//!
//! # Unsafe code
//!
//! `fork`, `_exit`, and a timer that kills.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getppid, kill_process, set_parent_process_death_signal,
    waitpid,
};

/// How a child ends whose body found nothing wrong, one whose body says what is, and one that
/// panicked.
const EXIT_FINE: i32 = 0;
const EXIT_FAILED: i32 = 1;
const EXIT_PANICKED: i32 = 101;

/// What the kernel counts processes' time in, for all programs there are.
const TICKS_PER_SECOND: u32 = 100;

/// A forked child; killed on drop.
#[derive(Debug)]
pub(crate) struct Fork(Option<Pid>);

impl Fork {
    /// Runs `body` in a child. It ends when that returns, as if killed there: nothing is dropped
    /// that was inherited.
    pub(crate) fn start(body: impl FnOnce() -> Result<()>) -> Result<Self> {
        let parent = rustix::process::getpid();
        // SAFETY: a worker of the torture has one thread, so the child misses none that could hold
        // a lock.
        let pid = unsafe { libc::fork() };
        ensure!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if let Some(pid) = Pid::from_raw(pid) {
            return Ok(Self(Some(pid)));
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            if getppid() == Some(parent) { body() } else { Ok(()) }
        }));
        let code = match outcome {
            Ok(Ok(())) => EXIT_FINE,
            Ok(Err(error)) => {
                complain(&error);
                EXIT_FAILED
            }
            Err(_) => EXIT_PANICKED,
        };
        // SAFETY: ends the child without running what the parent registered for its own end.
        unsafe { libc::_exit(code) }
    }

    pub(crate) fn send(&self, signal: Signal) -> Result<()> {
        kill_process(self.0.context("the child is gone")?, signal).context("signal")
    }

    /// Waits for the child's end.
    pub(crate) fn wait(&mut self) -> Result<WaitStatus> {
        let pid = self.0.context("the child is gone")?;
        let (_, status) = waitpid(Some(pid), WaitOptions::empty())?.context("no child")?;
        self.0 = None;
        Ok(status)
    }

    /// How it has ended, if it has; it is gone then.
    pub(crate) fn ended(&mut self) -> Result<Option<WaitStatus>> {
        let pid = self.0.context("the child is gone")?;
        let ended = waitpid(Some(pid), WaitOptions::NOHANG)?.map(|(_, status)| status);
        if ended.is_some() {
            self.0 = None;
        }
        Ok(ended)
    }

    /// Its number.
    pub(crate) fn number(&self) -> Result<u32> {
        Ok(self.0.context("the child is gone")?.as_raw_nonzero().get().unsigned_abs())
    }

    /// How long a processor has worked for it.
    pub(crate) fn busy(&self) -> Result<Duration> {
        let pid = self.number()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        busy_of(&stat).with_context(|| format!("cannot read {stat:?}"))
    }

    /// Waits until it stops, or ends: `None` while it is stopped.
    pub(crate) fn stopped(&mut self) -> Result<Option<WaitStatus>> {
        let pid = self.0.context("the child is gone")?;
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED)?.context("no child")?;
        if status.stopped() {
            return Ok(None);
        }
        self.0 = None;
        Ok(Some(status))
    }
}

/// Waits until one of some children ends: which, and how. There are no other children.
pub(crate) fn wait_for_any(children: &mut [Fork]) -> Result<(usize, WaitStatus)> {
    let (pid, status) = waitpid(None, WaitOptions::empty())?.context("no child")?;
    let which = children.iter().position(|child| child.0 == Some(pid));
    let which = which.context("a child that nobody knows of")?;
    children[which].0 = None;
    Ok((which, status))
}

/// Has the kernel kill this process so long from now: unlike a signal from another process, that
/// comes at once, at whatever instruction this one is.
pub(crate) fn die_in(time: Duration) -> Result<()> {
    // SAFETY: all-zero values of both are valid ones.
    let (mut event, mut when): (libc::sigevent, libc::itimerspec) = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGKILL;
    when.it_value.tv_sec = time.as_secs() as libc::time_t;
    when.it_value.tv_nsec = libc::c_long::from(time.subsec_nanos());
    let mut timer: libc::timer_t = std::ptr::null_mut();
    let clock = libc::CLOCK_MONOTONIC;
    // SAFETY: the call reads a whole event and writes a whole timer.
    let failed = unsafe { libc::timer_create(clock, &raw mut event, &raw mut timer) };
    ensure!(failed == 0, "timer_create: {}", std::io::Error::last_os_error());
    // SAFETY: the timer was made just now; the call reads a whole time and writes none.
    let failed = unsafe { libc::timer_settime(timer, 0, &raw const when, std::ptr::null_mut()) };
    ensure!(failed == 0, "timer_settime: {}", std::io::Error::last_os_error());
    Ok(())
}

impl Drop for Fork {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// The time in user mode and in the kernel, words 14 and 15 of a line whose second is in
/// parentheses and may be anything.
pub(crate) fn busy_of(stat: &str) -> Option<Duration> {
    let (_, words) = stat.rsplit_once(')')?;
    let mut ticks = words.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = ticks.next()?.ok()? + ticks.next()?.ok()?;
    Some(Duration::from_secs(ticks) / TICKS_PER_SECOND)
}

/// The parent tells where, the child why.
#[allow(clippy::print_stderr, reason = "this is what a child says to its user")]
fn complain(error: &anyhow::Error) {
    eprintln!("a child failed: {error:#}");
}

/// Whether a child ended as its body meant it to.
pub(crate) fn is_fine(status: WaitStatus) -> bool {
    status.exit_status() == Some(EXIT_FINE)
}

/// Whether a child ended by SIGKILL.
pub(crate) fn is_killed(status: WaitStatus) -> bool {
    status.terminating_signal() == Some(libc::SIGKILL)
}

/// What became of a child, in words.
pub(crate) fn spell(status: WaitStatus) -> String {
    match (status.terminating_signal(), status.exit_status()) {
        (Some(signal), _) => format!("ended by signal {signal}"),
        (_, Some(EXIT_PANICKED)) => "panicked".to_owned(),
        (_, Some(code)) => format!("ended with status {code}"),
        _ => format!("{status:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_dies_when_it_has_said() {
        let child = Fork::start(|| {
            die_in(Duration::from_millis(1))?;
            loop {
                std::hint::spin_loop();
            }
        });
        assert!(is_killed(child.unwrap().wait().unwrap()));
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) R 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 9 8 7";
        assert_eq!(busy_of(stat), Some(Duration::from_secs(2)));
        assert_eq!(busy_of("7 (a) R 1"), None);
    }
}
