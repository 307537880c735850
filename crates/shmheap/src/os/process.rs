//! What a process tells about itself: information for people, on which nothing depends.

use std::io::Read as _;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};

use super::{WipeOnFork, refused};
use crate::Result;

/// How much of a command line is kept.
pub(crate) const COMMAND_BYTES: usize = 88;

/// What does not change while a process runs the same program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// The number of the process in its own PID namespace.
    pub(crate) pid: u32,
    /// The inode of that namespace; 0 if /proc does not tell.
    pub(crate) pid_namespace: u64,
    /// The start of its command line, its words joined by spaces, padded with NULs.
    pub(crate) command: [u8; COMMAND_BYTES],
}

/// What this process knows of itself, and a page that tells whether it was this process.
static KNOWN: Mutex<Option<(WipeOnFork, Known)>> = Mutex::new(None);

impl Known {
    /// This process, as it was when it asked first.
    pub(crate) fn of_this_process() -> Self {
        // A child may find the lock held by a thread that it does not have: nobody waits for it.
        let Ok(mut known) = KNOWN.try_lock() else { return Self::ask() };
        // Relaxed: what the word stands for is seen through the lock.
        match &*known {
            Some((page, known)) if page.word(0).load(Ordering::Relaxed) != 0 => *known,
            _ => {
                let asked = Self::ask();
                *known = WipeOnFork::new().ok().map(|page| {
                    // Relaxed: as above.
                    page.word(0).store(1, Ordering::Relaxed);
                    (page, asked)
                });
                asked
            }
        }
    }

    fn ask() -> Self {
        Self { pid: own_pid(), pid_namespace: own_pid_namespace(), command: own_command() }
    }
}

/// This process's number in its own PID namespace.
pub(crate) fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

/// The inode of this process's PID namespace; 0 if /proc does not tell.
fn own_pid_namespace() -> u64 {
    rustix::fs::stat("/proc/self/ns/pid").map_or(0, |stat| stat.st_ino)
}

/// The start of this process's command line, its words joined by spaces, padded with NULs.
fn own_command() -> [u8; COMMAND_BYTES] {
    let mut command = [0; COMMAND_BYTES];
    let Ok(file) = std::fs::File::open("/proc/self/cmdline") else { return command };
    let mut line = Vec::with_capacity(COMMAND_BYTES + 1);
    // What could be read before an error is as good as any other part of the line.
    let _ = file.take(COMMAND_BYTES as u64 + 1).read_to_end(&mut line);
    let cut = line.len() > COMMAND_BYTES;
    line.truncate(COMMAND_BYTES);
    if cut
        && let Err(error) = std::str::from_utf8(&line)
        && error.error_len().is_none()
    {
        // The cut went through a character.
        line.truncate(error.valid_up_to());
    }
    while line.last() == Some(&0) {
        line.pop();
    }
    for (to, from) in command.iter_mut().zip(line) {
        *to = if from == 0 { b' ' } else { from };
    }
    command
}

/// Nanoseconds since 1970 by this machine's clock; 0 before 1970, stuck at the end of 64 bits.
pub(crate) fn unix_time_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// 128 random bits from the kernel.
pub(crate) fn random_bits() -> Result<u128> {
    let mut bytes = [0_u8; 16];
    // Requests of up to 256 bytes are served whole.
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(refused("getrandom"))?;
    Ok(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{exit_status, fork, in_own_process, raw_clone};

    #[test]
    fn a_process_knows_itself() {
        assert_eq!(own_pid(), std::process::id());
        assert_ne!(own_pid_namespace(), 0);
        assert!(unix_time_ns() > 1_700_000_000_000_000_000);
        assert_ne!(random_bits().unwrap(), random_bits().unwrap());
        let program = std::env::args_os().next().unwrap().into_encoded_bytes();
        let start = program.len().min(COMMAND_BYTES);
        assert_eq!(own_command()[..start], program[..start]);
    }

    #[test]
    fn a_child_does_not_take_itself_for_its_parent() {
        in_own_process(module_path!(), "a_child_does_not_take_itself_for_its_parent", || {
            let is_known = || {
                let known = Known::of_this_process();
                (known.pid, known.pid_namespace) == (own_pid(), own_pid_namespace())
            };
            assert!(is_known() && is_known());
            for make_child in [fork, raw_clone] {
                let child = make_child(|| i32::from(!(is_known() && is_known())));
                assert_eq!(exit_status(child), 0);
            }
            let held = KNOWN.lock().unwrap();
            assert_eq!(exit_status(fork(|| i32::from(!is_known()))), 0, "it does not wait");
            drop(held);
        });
    }
}
