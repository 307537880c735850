//! A look at all heaps by another process, for a server that must not end with it.
//!
//! Whoever may write to a heap may cut it short while it is read, and that ends the reader (see
//! `truncation.rs`). So each look is a process of its own, which may die of it, or take too long:
//! then it is one answer that fails, and the next finds the heap unreadable.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a look at all heaps may take: half of what Prometheus waits by default,
/// so that request and answer have their time as well.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of a complaint is passed on.
const COMPLAINT_BYTES_MAX: usize = 4096;
/// How much is read at a time: what a pipe holds by default.
const BUFFER_BYTES: usize = 64 << 10;

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

/// What a process prints, or says of what went wrong, as far as it is kept.
struct Pipe {
    file: File,
    is_open: bool,
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Pipe {
    fn new(pipe: impl Into<OwnedFd>, bytes_max: usize) -> Self {
        Self { file: File::from(pipe.into()), is_open: true, bytes: vec![], bytes_max }
    }

    /// Reads what is there, or waits for it; what is too much to keep is gone.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; BUFFER_BYTES];
        let count = self.file.read(&mut buffer)?;
        self.is_open = count > 0;
        let room = self.bytes_max - self.bytes.len();
        self.bytes.extend_from_slice(&buffer[..count.min(room)]);
        Ok(())
    }
}

/// What the command prints within that time.
fn answer_of(mut command: Command, patience: Duration) -> Result<String> {
    let deadline = Instant::now() + patience;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut looker = Looker(command.spawn().context("cannot start a look at all heaps")?);
    let output = looker.0.stdout.take().context("a process without an output")?;
    let errors = looker.0.stderr.take().context("a process that cannot complain")?;
    let (mut output, mut errors) =
        (Pipe::new(output, usize::MAX), Pipe::new(errors, COMPLAINT_BYTES_MAX));
    // Both by turns: whose pipe is full waits until it is read.
    while output.is_open || errors.is_open {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            bail!("the look at all heaps took longer than {} s", patience.as_secs_f32());
        }
        let mut open: Vec<_> =
            [&mut output, &mut errors].into_iter().filter(|pipe| pipe.is_open).collect();
        let mut polled: Vec<_> =
            open.iter().map(|pipe| PollFd::new(&pipe.file, PollFlags::IN)).collect();
        // A signal ends the wait, and there is another.
        let _ = poll(&mut polled, Some(&Timespec::try_from(left).unwrap_or_default()));
        let ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        for (pipe, _) in open.iter_mut().zip(ready).filter(|(_, is_ready)| *is_ready) {
            pipe.read()?;
        }
    }
    // It has closed its output, so its end is near.
    let status = looker.0.wait()?;
    if !status.success() {
        let complaint = String::from_utf8_lossy(&errors.bytes);
        bail!("the look at all heaps failed, {status}: {}", complaint.trim_end());
    }
    String::from_utf8(output.bytes).context("the look at all heaps gave no text")
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
            // More than a pipe holds, before its output is closed.
            ("head -c 1000000 /dev/zero >&2; echo done; exit 4", "exit status: 4: \0"),
        ] {
            let error = shell(script, minute).unwrap_err().to_string();
            assert!(error.contains(complaint), "{script}: {error}");
            assert!(error.len() < 5000, "{script}: {} bytes", error.len());
        }
        let begin = Instant::now();
        let error = shell("exec sleep 600", Duration::from_millis(50)).unwrap_err().to_string();
        assert!(error.contains("longer than 0.05 s"), "{error}");
        assert!(begin.elapsed() < minute, "it waited for the end");
    }
}
