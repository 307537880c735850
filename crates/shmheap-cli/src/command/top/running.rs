//! Whether a peer runs, is stopped, or is dead.
//!
//! Heaps tell who lives; that a living process is stopped is told by `/proc`, and only of processes
//! in this PID namespace. A process number may be another's by now: then that one is younger than
//! the peer's connection.

use std::fs;
use std::os::unix::fs::MetadataExt;

use shmheap::Peer;

/// What a peer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It lives; it may be stopped where that cannot be seen.
    Alive,
    /// By SIGSTOP, SIGTSTP or a debugger.
    Stopped,
    Dead,
}

/// How long before its connection a process may seem to have started: the two clocks differ by the
/// part of a second that the time of the boot lacks.
const SLACK_NS: u64 = 2_000_000_000;

/// What is needed to compare processes with peers.
#[derive(Debug)]
pub(crate) struct Clock {
    pid_namespace: Option<u64>,
    boot_unix_s: Option<u64>,
    ticks_per_second: u64,
}

impl Clock {
    pub(crate) fn read() -> Self {
        let namespace = fs::metadata("/proc/self/ns/pid").ok();
        Self {
            pid_namespace: namespace.map(|namespace| namespace.ino()),
            boot_unix_s: fs::read_to_string("/proc/stat").ok().and_then(|text| boot(&text)),
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
        }
    }

    pub(crate) fn state_of(&self, peer: &Peer) -> State {
        if !peer.alive {
            return State::Dead;
        }
        if self.pid_namespace != Some(peer.pid_namespace) {
            return State::Alive;
        }
        let stat = fs::read_to_string(format!("/proc/{}/stat", peer.pid)).unwrap_or_default();
        let is_stopped = process(&stat).is_some_and(|(state, start_ticks)| {
            matches!(state, 'T' | 't') && self.is_older(start_ticks, peer.connected_unix_ns)
        });
        if is_stopped { State::Stopped } else { State::Alive }
    }

    /// Whether a process that started then may have connected at that time.
    fn is_older(&self, start_ticks: u64, connected_unix_ns: u64) -> bool {
        let Some(boot_unix_s) = self.boot_unix_s else { return false };
        let start_s = boot_unix_s.saturating_add(start_ticks / self.ticks_per_second);
        start_s.saturating_mul(1_000_000_000) <= connected_unix_ns.saturating_add(SLACK_NS)
    }
}

fn boot(proc_stat: &str) -> Option<u64> {
    proc_stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// State and start of a process, from its `stat`, whose second field may hold anything.
fn process(stat: &str) -> Option<(char, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    // The 22nd of the whole, the third being the state.
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some((state, start_ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_a_program_is_called() {
        let stat = "42 (a) T 1 (b) T 1 42 42 0 -1 4194304 1 0 0 0 2 3 0 0 20 0 1 0 777 8 9";
        assert_eq!(process(stat), Some(('T', 777)));
        assert_eq!(process(""), None);
        assert_eq!(process("42 (x) R 1"), None);
        assert_eq!(boot("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
    }

    #[test]
    fn a_younger_process_is_another() {
        let clock = Clock { pid_namespace: None, boot_unix_s: Some(1000), ticks_per_second: 100 };
        let connected = |second: u64| second * 1_000_000_000;
        assert!(clock.is_older(500, connected(1005)));
        assert!(clock.is_older(500, connected(1004)), "clocks differ");
        assert!(!clock.is_older(500, connected(1002)));
    }
}
