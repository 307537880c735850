//! "truncate": somebody shortens the object under a heap.
//!
//! A heap in a memfd is sealed: it cannot be shortened. A named one can, by whoever may write to
//! it; the `shmheap` command must then say so, at whatever moment of its reading that happens, and
//! not die of it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use shmheap::{HeapOptions, Policy};

use crate::bytes;
use crate::name::Name;
use crate::random::Random;
use crate::readers::{self, EXIT_REFUSED};
use crate::section::Rounds;
use crate::site::{POLICIES, policy_name};
use crate::tally::Tally;

const LEN_BYTES: u64 = 16 << 20;
const OBJECTS: u64 = 4000;
/// The command runs for up to so long before the heap is cut.
const RUN_NS_MAX: u64 = 4_000_000;
/// Where object space and the records of the policy, and those before them, may be cut.
const CUTS: [u64; 5] = [0, 1, 4096, 140_000, 700_000];

#[derive(Debug)]
pub(crate) struct Truncate(PathBuf);

impl Truncate {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(readers::command()?))
    }
}

impl Rounds for Truncate {
    fn round(&mut self, round: u64, random: &mut Random, tally: &mut Tally) -> Result<()> {
        let policy = POLICIES[(round % 2) as usize];
        tally.point(memfds_are_sealed(policy).context(policy_name(policy)));
        let name = furnish(policy)?;
        let watched = cut_while_watched(&self.0, &name, CUTS[(round / 2) as usize % CUTS.len()]);
        tally.point(watched.context(policy_name(policy)));
        for command in ["info", "stat", "check"] {
            let name = furnish(policy)?;
            let refused = cut_while_read(&self.0, &name, command, random);
            if matches!(refused, Ok(true)) {
                tally.count("caught in the act or before it", 1);
            }
            tally.point(refused.map(drop).with_context(|| format!("shmheap {command}")));
        }
        Ok(())
    }
}

fn furnish(policy: Policy) -> Result<Name> {
    let name = Name::new();
    let heap = HeapOptions::new(LEN_BYTES).policy(policy).create(name.as_str())?;
    for size in 0..OBJECTS {
        bytes::alloc(&heap, size)?;
    }
    Ok(name)
}

fn memfds_are_sealed(policy: Policy) -> Result<()> {
    let heap = HeapOptions::new(LEN_BYTES).policy(policy).create_memfd()?;
    let cut = rustix::fs::ftruncate(heap.to_fd()?, LEN_BYTES / 2);
    ensure!(cut == Err(Errno::PERM), "cutting it gives {cut:?}");
    Ok(())
}

fn cut(name: &Name, len_bytes: u64) -> Result<()> {
    Ok(std::fs::File::options().write(true).open(name.path())?.set_len(len_bytes)?)
}

/// Cuts a heap under a command that has read it and is about to read it again.
fn cut_while_watched(command: &Path, name: &Name, len_bytes: u64) -> Result<()> {
    let words = ["stat", name.as_str(), "--watch", "1", "--json"];
    let mut child = readers::start(command, &words)?;
    let mut out = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    ensure!(out.read_line(&mut line)? > 0, "it says nothing");
    cut(name, len_bytes)?;
    let output = readers::finish(child)?;
    ensure!(is_diagnosed(&output), "cut to {len_bytes}: {output:?}");
    Ok(())
}

/// Cuts a heap while a command reads it, maybe; whether that was early enough to be noticed.
fn cut_while_read(command: &Path, name: &Name, reader: &str, random: &mut Random) -> Result<bool> {
    let child = readers::start(command, &[reader, name.as_str()])?;
    std::thread::sleep(Duration::from_nanos(random.log_uniform(RUN_NS_MAX)));
    cut(name, CUTS[random.below(CUTS.len() as u64) as usize])?;
    let output = readers::finish(child)?;
    readers::judge(&output)?;
    let is_refused = output.status.code() == Some(EXIT_REFUSED);
    ensure!(!is_refused || is_diagnosed(&output), "{output:?}");
    Ok(is_refused)
}

/// Whether the command has refused in one line that says what is wrong with the heap.
fn is_diagnosed(output: &std::process::Output) -> bool {
    let words = String::from_utf8_lossy(&output.stderr);
    let says = ["shortened", "truncated", "heap"].iter().any(|word| words.contains(word));
    output.status.code() == Some(EXIT_REFUSED) && words.lines().count() == 1 && says
}
