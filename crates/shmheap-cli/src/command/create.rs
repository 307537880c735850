//! `shmheap create`.

use std::io::Write;

use anyhow::Result;
use shmheap::{Granule, HeapOptions, Policy};

use crate::Verdict;
use crate::args::Create;
use crate::size;

pub(crate) fn run(arguments: &Create, out: &mut dyn Write) -> Result<Verdict> {
    let mut options = HeapOptions::new(arguments.len)
        .policy(Policy::FirstFit)
        .granule(Granule::from_bytes(arguments.granule)?)
        .mode(arguments.mode);
    if let Some(max_len_bytes) = arguments.max_len {
        options = options.max_len(max_len_bytes);
    }
    if let Some(gid) = arguments.group {
        options = options.group(gid);
    }
    let heap = arguments.heap.create(&options)?;
    let info = heap.info();
    write!(out, "created '{}', {}", arguments.heap, size::long(info.len_bytes))?;
    if info.max_len_bytes > info.len_bytes {
        write!(out, ", may grow to {}", size::long(info.max_len_bytes))?;
    }
    writeln!(out)?;
    Ok(Verdict::Fine)
}
