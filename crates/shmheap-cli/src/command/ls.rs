//! `shmheap ls`: every heap on the machine, those that cannot be read with the reason.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use anyhow::Result;
use serde::Serialize;
use shmheap::{Info, Listing, Policy, Stats};

use crate::args::Ls;
use crate::output::{self, Table};
use crate::target::HeapRef;
use crate::{Verdict, account, size};

/// One heap. The names of the fields are promised in the help text.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    readable: bool,
    error: Option<String>,
    #[serde(flatten)]
    content: Content,
    #[serde(flatten)]
    ownership: Ownership,
}

/// What only a heap that can be read tells.
#[derive(Debug, Default, Serialize)]
struct Content {
    policy: Option<Policy>,
    len_bytes: Option<u64>,
    max_len_bytes: Option<u64>,
    live_bytes: Option<u64>,
    live_objects: Option<u64>,
    peers_alive: Option<u32>,
    peers_dead: Option<u32>,
    created_unix_ns: Option<u64>,
}

/// What the system tells about any object.
#[derive(Debug, Default, Serialize)]
struct Ownership {
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    owner: Option<String>,
}

pub(crate) fn run(arguments: &Ls, out: &mut dyn Write) -> Result<Verdict> {
    let listings = shmheap::list()?;
    if arguments.json {
        let entries: Vec<Entry> = listings.iter().map(entry).collect();
        output::json(out, &entries)?;
        return Ok(Verdict::Fine);
    }
    if listings.is_empty() {
        writeln!(out, "no heaps; `shmheap create NAME --len 16M` makes one")?;
        return Ok(Verdict::Fine);
    }
    let titles = [
        "NAME", "POLICY", ">LEN", ">MAX", ">LIVE", ">USE", ">OBJS", ">PEERS", ">DEAD", ">MODE",
        "OWNER", ">AGE",
    ];
    let mut table = Table::new(&titles).dense();
    let mut unreadable = Vec::new();
    for listing in &listings {
        match &listing.heap {
            Ok(heap) => table.row(row(listing, &heap.info(), &heap.stats())),
            Err(error) => unreadable.push((listing, error)),
        }
    }
    if unreadable.len() < listings.len() {
        table.write(out)?;
    }
    for (listing, error) in unreadable {
        let (name, error) = (output::plain(&listing.name), output::plain(&error.to_string()));
        writeln!(out, "{} {name}: {error}", console::style("not readable:").yellow())?;
    }
    Ok(Verdict::Fine)
}

fn row(listing: &Listing, info: &Info, stats: &Stats) -> Vec<String> {
    let ownership = ownership(listing);
    let dead = match stats.peers_dead {
        0 => "0".to_owned(),
        dead => console::style(dead).yellow().to_string(),
    };
    vec![
        output::plain(&listing.name),
        policy_name(info.policy).to_owned(),
        size::short(info.len_bytes),
        size::short(info.max_len_bytes),
        size::short(stats.live_bytes),
        format!("{}%", output::percent(stats.live_bytes, info.len_bytes)),
        size::short_count(stats.live_objects),
        stats.peers_alive.to_string(),
        dead,
        ownership.mode.unwrap_or_default(),
        ownership.owner.unwrap_or_default(),
        output::age(info.created_unix_ns, output::now_unix_ns()),
    ]
}

fn entry(listing: &Listing) -> Entry {
    let (error, content) = match &listing.heap {
        Err(error) => (Some(error.to_string()), Content::default()),
        Ok(heap) => {
            let (info, stats) = (heap.info(), heap.stats());
            let content = Content {
                policy: Some(info.policy),
                len_bytes: Some(info.len_bytes),
                max_len_bytes: Some(info.max_len_bytes),
                live_bytes: Some(stats.live_bytes),
                live_objects: Some(stats.live_objects),
                peers_alive: Some(stats.peers_alive),
                peers_dead: Some(stats.peers_dead),
                created_unix_ns: Some(info.created_unix_ns),
            };
            (None, content)
        }
    };
    Entry {
        name: listing.name.to_string_lossy().into_owned(),
        readable: error.is_none(),
        error,
        content,
        ownership: ownership(listing),
    }
}

fn ownership(listing: &Listing) -> Ownership {
    match fs::metadata(HeapRef::Named(listing.name.clone()).path()) {
        // It may be gone since it was listed.
        Err(_) => Ownership::default(),
        Ok(metadata) => Ownership {
            mode: Some(format!("{:04o}", metadata.mode() & 0o7777)),
            uid: Some(metadata.uid()),
            gid: Some(metadata.gid()),
            owner: Some(account::user_name(metadata.uid())),
        },
    }
}

/// The policy as text for people.
pub(crate) fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::FirstFit => "first fit",
        Policy::Scalable => "scalable",
        _ => "unknown",
    }
}
