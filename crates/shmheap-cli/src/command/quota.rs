//! `shmheap quota`: who may have how much of a heap, and has.

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;
use shmheap::{Error, Quota, Usage};

use crate::args;
use crate::size::Limit;
use crate::{Verdict, output, usage};

/// A heap's use as JSON; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Told {
    name: String,
    #[serde(flatten)]
    usage: Usage,
}

pub(crate) fn run(arguments: &args::Quota, out: &mut dyn Write) -> Result<Verdict> {
    let reader = &arguments.reader;
    set(arguments)?;
    let usage = reader.heap.connect_read_only()?.usage().ok_or(Error::NotLabelled)?;
    if reader.json {
        output::json(out, &Told { name: reader.heap.to_string(), usage })?;
    } else {
        usage::write(out, &usage)?;
    }
    Ok(Verdict::Fine)
}

/// Sets what is to be set; the heap is written to only then. Tags come first: they may be wrong, or
/// too many.
fn set(arguments: &args::Quota) -> Result<()> {
    let of_tags = arguments.tag.iter().map(|of| (Quota::Tag(&of.tag), of.limit));
    let whole = arguments.whole.map(|limit| (Quota::Heap, limit));
    let peer = arguments.peer.map(|limit| (Quota::Peer, limit));
    let quotas: Vec<_> = of_tags.chain(whole).chain(peer).collect();
    if quotas.is_empty() {
        return Ok(());
    }
    let heap = arguments.reader.heap.connect().context("cannot set quotas")?;
    for (number, &(quota, limit)) in quotas.iter().enumerate() {
        heap.set_quota(quota, limit.0).with_context(|| outcome(&quotas[..number]))?;
    }
    Ok(())
}

/// What came of it when the quota behind these could not be set.
fn outcome(set: &[(Quota<'_>, Limit)]) -> String {
    let options: Vec<_> = set
        .iter()
        .map(|(quota, _)| match quota {
            Quota::Tag(tag) => format!("--tag '{}'", output::plain(tag)),
            Quota::Peer => "--peer".to_owned(),
            _ => "--heap".to_owned(),
        })
        .collect();
    match options.is_empty() {
        true => "no quota was set".to_owned(),
        false => format!("of the quotas only {} was set", options.join(", ")),
    }
}
