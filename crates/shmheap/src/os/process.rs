//! What a process tells about itself: information for people, on which nothing depends.

use std::io::Read as _;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};

use super::refused;
use crate::Result;

/// How much of a command line is kept.
pub(crate) const COMMAND_BYTES: usize = 88;

/// This process's number in its own PID namespace.
pub(crate) fn own_pid() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

/// The inode of this process's PID namespace; 0 if /proc does not tell.
pub(crate) fn own_pid_namespace() -> u64 {
    rustix::fs::stat("/proc/self/ns/pid").map_or(0, |stat| stat.st_ino)
}

/// The start of this process's command line, its words joined by spaces, padded with NULs.
pub(crate) fn own_command() -> [u8; COMMAND_BYTES] {
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
}
