//! The worker processes as their parent sees them: started, watched, killed, waited for.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use shmheap::Handle;

use super::plan::Plan;
use super::worker::READY;

/// Who is to be killed, and after how many objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Victim {
    pub(super) number: u16,
    pub(super) busy_after: u64,
}

/// One worker.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) number: u16,
    pub(super) process: Child,
    pub(super) status: Option<ExitStatus>,
}

impl Member {
    /// Whether SIGKILL ended it.
    pub(super) fn was_killed(&self) -> bool {
        self.status.and_then(|status| status.signal()) == Some(libc::SIGKILL)
    }
}

/// All workers. Those still running are killed when it goes out of scope.
#[derive(Debug)]
pub(super) struct Crew {
    pub(super) members: Vec<Member>,
    pub(super) victim: Victim,
}

impl Crew {
    /// Starts the workers and waits until each has connected.
    pub(super) fn start(
        heap: &OsStr,
        directory: Handle,
        count: u16,
        victim: Victim,
    ) -> Result<Self> {
        let mut crew = Self { members: Vec::new(), victim };
        for number in 0..count {
            let mut command = this_program()?;
            command.arg("demo-worker").arg(heap);
            command.arg(format!("--directory={directory}")).arg(format!("--number={number}"));
            if number == victim.number {
                command.arg(format!("--busy-after={}", victim.busy_after));
            }
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let process = command.spawn().context("cannot start a worker process")?;
            crew.members.push(Member { number, process, status: None });
        }
        for member in &mut crew.members {
            let output = member.process.stdout.as_mut().context("a worker without an output")?;
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line)?;
            if line.trim() != READY {
                bail!("worker {} did not start", member.number + 1);
            }
        }
        Ok(crew)
    }

    /// Lets all workers begin at once.
    pub(super) fn go(&mut self) -> Result<()> {
        for member in &mut self.members {
            let mut input = member.process.stdin.take().context("a worker without an input")?;
            input.write_all(b"go\n")?;
        }
        Ok(())
    }

    pub(super) fn victim_process(&self) -> u32 {
        self.members.get(usize::from(self.victim.number)).map_or(0, |member| member.process.id())
    }

    /// Sends SIGKILL to the victim and watches the others. Returns the longest time that passed
    /// until another worker was seen to allocate again.
    pub(super) fn kill_victim(&mut self, plan: &Plan<'_>) -> Result<Duration> {
        let number = self.victim.number;
        let before: Vec<u64> =
            (0..plan.worker_count()).map(|worker| plan.worker(worker).allocations()).collect();
        let victim = self.members.get_mut(usize::from(number)).context("no such worker")?;
        let killed = Instant::now();
        victim.process.kill()?;
        let mut longest = Duration::ZERO;
        for (member, before) in self.members.iter_mut().zip(before) {
            if member.number == number {
                continue;
            }
            loop {
                if plan.worker(member.number).allocations() != before {
                    longest = longest.max(killed.elapsed());
                    break;
                }
                member.status = member.process.try_wait()?;
                if member.status.is_some() {
                    break;
                }
                thread::yield_now();
            }
        }
        Ok(longest)
    }

    /// Notes who has ended; returns how many still run. Fails if one ended that should not have.
    pub(super) fn reap(&mut self) -> Result<usize> {
        let mut running = 0;
        for member in &mut self.members {
            if member.status.is_none() {
                member.status = member.process.try_wait()?;
            }
            let number = member.number;
            match member.status {
                None => running += 1,
                Some(status) if status.success() => {}
                Some(_) if number == self.victim.number && member.was_killed() => {}
                Some(status) => bail!("worker {} ended with {status}", number + 1),
            }
        }
        Ok(running)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Those that have ended already cannot be killed, and need not be.
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

/// This very program.
pub(super) fn this_program() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("cannot find this program")?))
}
