//! `shmheap create`.

use std::io::Write;

use anyhow::Result;
use shmheap::{Granule, HeapOptions};

use super::ls::policy_name;
use crate::args::Create;
use crate::{Verdict, size};

pub(crate) fn run(arguments: &Create, out: &mut dyn Write) -> Result<Verdict> {
    let mut options =
        HeapOptions::new(arguments.len).policy(arguments.policy.into()).mode(arguments.mode);
    if let Some(granule_bytes) = arguments.granule {
        options = options.granule(Granule::from_bytes(granule_bytes)?);
    }
    if let Some(max_len_bytes) = arguments.max_len {
        options = options.max_len(max_len_bytes);
    }
    if arguments.same_address {
        options = options.same_address();
    }
    if arguments.labels {
        options = options.labels();
    }
    if let Some(gid) = arguments.group {
        options = options.group(gid);
    }
    let heap = arguments.heap.create(&options)?;
    let info = heap.info();
    let policy = policy_name(info.policy);
    write!(out, "created '{}', {policy}, {}", arguments.heap, size::long(info.len_bytes))?;
    if info.max_len_bytes > info.len_bytes {
        write!(out, ", may grow to {}", size::long(info.max_len_bytes))?;
    }
    if let Some(address) = info.address {
        write!(out, ", at {address:#x} in every process")?;
    }
    if info.has_labels {
        write!(out, ", with labels")?;
    }
    writeln!(out)?;
    Ok(Verdict::Fine)
}
