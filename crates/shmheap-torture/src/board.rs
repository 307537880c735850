//! `Board`: words that a process and its children share besides the heap under test. It outlives
//! whoever writes on it, so it tells what a killed child was doing.
//!
//! # Unsafe code
//!
//! One cast, from mapped zeros to words.
#![allow(unsafe_code)]

use std::fs::File;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::MemfdFlags;

/// Words that are 0 at first; children get them by fork.
#[derive(Debug)]
pub(crate) struct Board {
    map: MmapRaw,
    count: usize,
}

impl Board {
    pub(crate) fn new(count: usize) -> Result<Self> {
        let memory = rustix::fs::memfd_create("shmheap-torture", MemfdFlags::CLOEXEC)
            .context("no memory for a board")?;
        let file = File::from(memory);
        let len_bytes = count * size_of::<AtomicU64>();
        file.set_len(len_bytes as u64)?;
        let map = MmapOptions::new().len(len_bytes).map_raw(&file)?;
        Ok(Self { map, count })
    }

    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, has `count` words and lives as long as `self`; any
        // bytes are words, and all processes reach them as atomics only.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.count) }
    }
}
