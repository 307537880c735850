//! `shmheap info`: what a heap is, and who is connected to it.

use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;

use anyhow::Result;
use serde::Serialize;
use shmheap::{Heap, Peer, Policy, Stats};

use super::ls::policy_name;
use crate::args::Reader;
use crate::output::{self, Table};
use crate::{Verdict, account, size};

/// Bytes in the block that `stat(2)` counts storage in.
const STAT_BLOCK_BYTES: u64 = 512;
/// How much of a command line fits a table.
const COMMAND_CHARACTERS: usize = 44;

/// A heap as JSON; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Description {
    name: String,
    format_version: u32,
    policy: Policy,
    granule_bytes: u64,
    len_bytes: u64,
    max_len_bytes: u64,
    data_offset_bytes: u64,
    object_bytes: Option<u64>,
    reserved_bytes: Option<u64>,
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    peer_limit: u32,
    created_unix_ns: u64,
    id: String,
    /// Null if each process has the heap somewhere else.
    address: Option<NonZeroUsize>,
    /// Whether it is removed with its last process.
    is_ephemeral: bool,
    /// Whether its objects have labels.
    has_labels: bool,
    peers: Vec<Member>,
}

/// A peer, and what it has in hand.
#[derive(Debug, Serialize)]
struct Member {
    #[serde(flatten)]
    peer: Peer,
    /// Live objects in slabs that its threads own; null under first fit, where nobody owns any.
    objects_owned: Option<u64>,
}

pub(crate) fn run(arguments: &Reader, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.heap.connect_read_only()?;
    let description = describe(arguments, &heap);
    if arguments.json {
        output::json(out, &description)?;
    } else {
        write(out, arguments, &description)?;
    }
    Ok(Verdict::Fine)
}

fn describe(arguments: &Reader, heap: &Heap) -> Description {
    let info = heap.info();
    let metadata = fs::metadata(arguments.heap.path()).ok();
    let object = metadata.as_ref();
    Description {
        name: arguments.heap.to_string(),
        format_version: info.format_version,
        policy: info.policy,
        granule_bytes: info.granule_bytes,
        len_bytes: info.len_bytes,
        max_len_bytes: info.max_len_bytes,
        data_offset_bytes: info.data_offset_bytes,
        object_bytes: object.map(MetadataExt::size),
        reserved_bytes: object.map(|object| object.blocks() * STAT_BLOCK_BYTES),
        mode: object.map(|object| format!("{:04o}", object.mode() & 0o7777)),
        uid: object.map(MetadataExt::uid),
        gid: object.map(MetadataExt::gid),
        peer_limit: info.peer_limit,
        created_unix_ns: info.created_unix_ns,
        id: format!("{:032x}", info.id),
        address: info.address,
        is_ephemeral: info.is_ephemeral,
        has_labels: info.has_labels,
        peers: members(heap, info.policy),
    }
}

fn members(heap: &Heap, policy: Policy) -> Vec<Member> {
    let stats = heap.stats();
    let member =
        |peer: Peer| Member { objects_owned: objects_owned(policy, &stats, peer.slot), peer };
    heap.peers().into_iter().map(member).collect()
}

/// Live objects in slabs of that peer; none under first fit, where nobody owns any.
pub(super) fn objects_owned(policy: Policy, stats: &Stats, slot: u16) -> Option<u64> {
    let owner = stats.owners.iter().find(|owner| owner.slot == slot);
    (policy == Policy::Scalable).then(|| owner.map_or(0, |owner| owner.live_objects))
}

fn write(out: &mut dyn Write, arguments: &Reader, heap: &Description) -> Result<()> {
    let age = output::age(heap.created_unix_ns, output::now_unix_ns());
    output::field(out, "name", &heap.name)?;
    output::field(out, "object", arguments.heap.path().display())?;
    output::field(out, "policy", policy_name(heap.policy))?;
    if heap.policy == Policy::FirstFit {
        output::field(out, "granule", format!("{} bytes", heap.granule_bytes))?;
    }
    output::field(out, "length", size::long(heap.len_bytes))?;
    let growth = if heap.max_len_bytes > heap.len_bytes { "" } else { ", does not grow" };
    output::field(out, "maximum", format!("{}{growth}", size::long(heap.max_len_bytes)))?;
    output::field(out, "records", format!("up to {}", size::long(heap.data_offset_bytes)))?;
    if let (Some(object), Some(reserved)) = (heap.object_bytes, heap.reserved_bytes) {
        let text = format!("{} of {} reserved", size::long(reserved), size::long(object));
        output::field(out, "storage", text)?;
    }
    if let (Some(mode), Some(uid), Some(gid)) = (&heap.mode, heap.uid, heap.gid) {
        let owner = account::user_name(uid);
        output::field(out, "access", format!("{mode}, user {owner}, group {gid}"))?;
    }
    if let Some(address) = heap.address {
        output::field(out, "address", format!("{address:#x} in every process"))?;
    }
    if heap.is_ephemeral {
        output::field(out, "lifetime", "until its last process is gone")?;
    }
    if heap.has_labels {
        output::field(out, "labels", "each object knows who allocated it and under which tag")?;
    }
    output::field(out, "created", format!("{age} ago"))?;
    output::field(out, "format", format!("version {}", heap.format_version))?;
    output::field(out, "id", &heap.id)?;
    output::field(out, "peers", format!("{} of {}", heap.peers.len(), heap.peer_limit))?;
    if heap.peers.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let is_scalable = heap.policy == Policy::Scalable;
    let titles: &[_] = match is_scalable {
        true => &[">SLOT", ">PID", "STATE", ">OWNS", ">AGE", "COMMAND"],
        false => &[">SLOT", ">PID", "STATE", ">AGE", "COMMAND"],
    };
    let mut table = Table::new(titles);
    for member in &heap.peers {
        table.row(row(member));
    }
    table.write(out)?;
    Ok(())
}

fn row(Member { peer, objects_owned }: &Member) -> Vec<String> {
    let state = match (peer.alive, peer.is_self) {
        (true, true) => "this process".to_owned(),
        (true, false) => "alive".to_owned(),
        (false, _) => console::style("dead").yellow().to_string(),
    };
    let mut cells = vec![peer.slot.to_string(), peer.pid.to_string(), state];
    cells.extend(objects_owned.map(size::short_count));
    cells.push(output::age(peer.connected_unix_ns, output::now_unix_ns()));
    let command = output::plain(&peer.command);
    cells.push(console::truncate_str(&command, COMMAND_CHARACTERS, "...").into_owned());
    cells
}
