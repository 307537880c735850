//! What is written over a heap's records: nonsense of all kinds, most of it near to sense.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::Result;
use shmheap::{Info, Policy};

use crate::random::Random;

/// Where FORMAT.md puts what is overwritten on purpose.
const CHECKED_BYTES: u64 = 104;
const LENGTH_AT: u64 = 128;
const LOCK_AT: u64 = 192;
const CURRENT_AT: u64 = 256;
const THREADS_USED_AT: u64 = 384;
const PROCESSES_AT: u64 = 4096;
const THREADS_AT: u64 = 135_168;
const THREAD_BYTES: u64 = 128;
const POLICY_AT: u64 = 659_456;
const HEAD_BYTES: u64 = 4096;
/// Words that are overwritten before some are given back.
const MEMORY: usize = 24;
/// No more peers than this are ever connected in the torture.
const NOBODY: u64 = 900;

/// Somebody who overwrites the records of a heap, and now and then repents.
#[derive(Debug)]
pub(crate) struct Mutator<'f> {
    file: &'f File,
    info: Info,
    /// What stood where before.
    overwritten: Vec<(u64, u64)>,
}

impl<'f> Mutator<'f> {
    pub(crate) fn new(file: &'f File, info: Info) -> Self {
        Self { file, info, overwritten: vec![] }
    }

    /// Overwrites a word, or a byte of it.
    pub(crate) fn mutate(&mut self, random: &mut Random) -> Result<()> {
        if self.overwritten.len() == MEMORY || random.one_in(64) {
            // Else all that is left soon is nonsense, and every operation an early error.
            for (at, word) in self.overwritten.drain(..).rev() {
                self.file.write_all_at(&word.to_le_bytes(), at)?;
            }
        }
        let at = self.place(random);
        let old = self.read(at)?;
        if at == LOCK_AT {
            // As a peer leaves it that died with the lock; of a living one it would be waited for,
            // as it should be. Nearly always in the area that holds the truth: nothing would be
            // found in another.
            let areas =
                if random.one_in(64) { random.below(16) } else { self.read(at)? >> 17 & 15 };
            let nobody = areas << 17 | random.below(2) << 16 | (NOBODY + random.below(99));
            let nobody = random.next() << 21 | nobody;
            return Ok(self.file.write_all_at(&nobody.to_le_bytes(), at)?);
        }
        self.overwritten.push((at, old));
        if random.one_in(8) {
            let byte = random.next() as u8;
            return Ok(self.file.write_all_at(&[byte], at + random.below(8))?);
        }
        let word = self.nonsense(old, random);
        Ok(self.file.write_all_at(&word.to_le_bytes(), at)?)
    }

    fn read(&self, at: u64) -> Result<u64> {
        let mut word = [0; 8];
        self.file.read_exact_at(&mut word, at)?;
        Ok(u64::from_le_bytes(word))
    }

    /// Any word of the records, those oftener by which others are found.
    fn place(&self, random: &mut Random) -> u64 {
        let of_policy = self.info.data_offset_bytes - POLICY_AT;
        match random.below(16) {
            0 => LENGTH_AT,
            1 => LOCK_AT,
            // The area for readers, and the pins.
            2 => CURRENT_AT + 8 * random.below(5),
            // Journal, counters and length in the first area; or units.
            3 => POLICY_AT + 8 * random.below(16),
            4 => THREADS_USED_AT,
            // All of the header, what is checked at the connection as well.
            5 if random.one_in(4) => 8 * random.below(CHECKED_BYTES / 8),
            5 => CHECKED_BYTES + 8 * random.below((4096 - CHECKED_BYTES) / 8),
            6 => PROCESSES_AT + 8 * random.below(64),
            // Rarely an owner: thread records that are said to have one are never used again.
            7 if random.one_in(16) => THREADS_AT + 8 * random.below(96),
            7 | 8 => THREADS_AT + random.below(6) * THREAD_BYTES + 8 * (1 + random.below(15)),
            // Regions, or units and hints.
            9..14 => self.arrays_at() + 8 * random.below(192.min(of_policy / 40)),
            _ => POLICY_AT + 8 * random.below(of_policy / 8),
        }
        .next_multiple_of(8)
    }

    /// Behind the head of the first area, which the scalable policy has not.
    fn arrays_at(&self) -> u64 {
        match self.info.policy {
            Policy::FirstFit => POLICY_AT + HEAD_BYTES,
            _ => POLICY_AT,
        }
    }

    fn nonsense(&self, old: u64, random: &mut Random) -> u64 {
        let most = self.info.max_len_bytes;
        match random.below(12) {
            0 => 0,
            1 => u64::MAX,
            2 => random.below(8),
            3 => 1 << random.below(64),
            // Granules, bytes and offsets inside the heap and a little beyond.
            4 => random.below(most / 16 + 2),
            5 => random.below(most / 16 * 5 / 4) * 16,
            6 => self.info.data_offset_bytes + random.below(most / 8) * 8 + random.below(8),
            7 | 8 => old ^ 1 << random.below(64),
            9 => old.wrapping_add(random.below(5)).wrapping_sub(2),
            10 if self.info.policy == Policy::Scalable => {
                let operand = if random.one_in(4) { random.next() } else { random.below(120) };
                let head = random.below(7) << 60 | random.below(8) << 48 | random.below(4) << 32;
                head | operand & 0xffff_ffff
            }
            _ => random.next(),
        }
    }
}
