//! A look at all heaps by another process, for a server that must not end with it.
//!
//! Whoever may write to a heap may cut it short while it is read, and that ends the reader (see
//! `truncation.rs`). So each look is a process of its own, which may die of it, or take too long:
//! then it is one answer that fails, and the next finds the heap unreadable.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a look at all heaps may take: as long as Prometheus waits, unless it is told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of a complaint is passed on.
const COMPLAINT_BYTES_MAX: u64 = 4096;

/// All metrics of all heaps, by one look at each.
pub(super) fn page() -> Result<String> {
    // This very program, also if its file was replaced since.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("shmheap").arg("watch-page");
    answer_of(command, PATIENCE)
}

/// A process that is killed if it is still there at the end.
struct Looker(Child);

impl Drop for Looker {
    fn drop(&mut self) {
        // One that has ended cannot be killed, and need not be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the command prints within that time.
fn answer_of(mut command: Command, patience: Duration) -> Result<String> {
    let deadline = Instant::now() + patience;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut looker = Looker(command.spawn().context("cannot start a look at all heaps")?);
    let mut output = looker.0.stdout.take().context("a process without an output")?;
    let (mut answer, mut buffer) = (vec![], vec![0; 64 << 10]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        if poll(&mut [PollFd::new(&output, PollFlags::IN)], Some(&timeout)) == Ok(0) {
            bail!("the look at all heaps took longer than {} s", patience.as_secs_f32());
        }
        let count = output.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..count]);
    }
    // It has closed its output, so its end is near.
    let status = looker.0.wait()?;
    if !status.success() {
        let mut complaint = vec![];
        if let Some(errors) = looker.0.stderr.take() {
            errors.take(COMPLAINT_BYTES_MAX).read_to_end(&mut complaint)?;
        }
        let complaint = String::from_utf8_lossy(&complaint);
        bail!("the look at all heaps failed, {status}: {}", complaint.trim_end());
    }
    String::from_utf8(answer).context("the look at all heaps gave no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> Result<String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        answer_of(command, patience)
    }

    #[test]
    fn a_look_that_dies_or_takes_too_long_is_an_error() {
        let minute = Duration::from_secs(60);
        assert_eq!(shell("echo one; echo two", minute).unwrap(), "one\ntwo\n");
        let large = shell("head -c 1000000 /dev/zero", minute).unwrap();
        assert_eq!(large.len(), 1_000_000);
        for (script, complaint) in [
            ("echo half; kill -BUS $$", "signal: 7"),
            ("echo cut short >&2; exit 3", "exit status: 3: cut short"),
            ("printf '\\377'", "no text"),
        ] {
            let error = shell(script, minute).unwrap_err().to_string();
            assert!(error.contains(complaint), "{script}: {error}");
        }
        let begin = Instant::now();
        let error = shell("exec sleep 600", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("longer than 0.05 s"), "{error}");
        assert!(begin.elapsed() < minute, "it waited for the end");
    }
}
