//! `shmheap blocks`: every object of a heap, and what is known of it.

use std::io::{self, Write};

use anyhow::Result;
use serde::{Serialize, Serializer};
use shmheap::{Error, Site};

use crate::args::Blocks;
use crate::inventory::{Inventory, Item, Origin, State};
use crate::output::{self, Table};
use crate::{Verdict, size, usage};

/// An object; the names of the fields are promised.
#[derive(Debug, Serialize)]
pub(crate) struct Object {
    handle: String,
    offset_bytes: u64,
    size_bytes: u64,
    site: &'static str,
    slab_owner: Option<u16>,
    state: &'static str,
    in_hand_of: Option<u16>,
    root: Option<String>,
    tag: Option<String>,
    by_pid: Option<u32>,
    by_alive: Option<bool>,
}

impl Object {
    pub(crate) fn of(item: &Item) -> Self {
        let (site, slab_owner) = match item.block.site {
            Site::Row => ("row", None),
            Site::Slab { owner } => ("slab", owner),
            _ => ("units", None),
        };
        let (state, in_hand_of) = match item.state {
            State::Free => ("free", None),
            State::Live => ("live", None),
            State::Unpublished(slot) => ("unpublished", Some(slot)),
            State::OfDead(slot) => ("of_dead", Some(slot)),
        };
        Self {
            handle: item.block.handle.to_string(),
            offset_bytes: item.block.offset_bytes,
            size_bytes: item.block.bytes,
            site,
            slab_owner,
            state,
            in_hand_of,
            root: item.root.clone(),
            tag: item.origin.as_ref().map(|origin| origin.tag.to_string()),
            by_pid: item.origin.as_ref().map(|origin| origin.pid),
            by_alive: item.origin.as_ref().map(|origin| origin.alive),
        }
    }
}

pub(crate) fn run(arguments: &Blocks, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.reader.heap.connect_read_only()?;
    let has_labels = heap.info().has_labels;
    if arguments.tag.is_some() && !has_labels {
        return Err(Error::NotLabelled.into());
    }
    let inventory = Inventory::of(&heap);
    let objects = inventory.objects().filter(|item| is_asked_for(arguments, item));
    if arguments.reader.json {
        // One by one: a heap may have more objects than fit in memory twice.
        let mut json = serde_json::Serializer::pretty(&mut *out);
        json.collect_seq(objects.map(|item| Object::of(&item))).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write(out, arguments, has_labels, objects)?;
    }
    Ok(Verdict::Fine)
}

fn is_asked_for(arguments: &Blocks, item: &Item) -> bool {
    let is_large_enough = item.block.bytes >= arguments.min_size.unwrap_or(0);
    let is_small_enough = item.block.bytes <= arguments.max_size.unwrap_or(u64::MAX);
    let is_in_hand = matches!(item.state, State::Unpublished(_) | State::OfDead(_));
    let tag = item.origin.as_ref().map(|origin| &*origin.tag);
    let has_tag = arguments.tag.as_ref().is_none_or(|asked| tag == Some(asked));
    is_large_enough && is_small_enough && has_tag && (is_in_hand || !arguments.unpublished)
}

fn write(
    out: &mut dyn Write,
    arguments: &Blocks,
    has_labels: bool,
    objects: impl Iterator<Item = Item>,
) -> Result<()> {
    let mut table = Table::new(&titles(has_labels));
    let (mut count, mut bytes) = (0_u64, 0_u64);
    for item in objects {
        count += 1;
        bytes = bytes.saturating_add(item.block.bytes);
        table.row(row(&item, has_labels));
    }
    if count == 0 {
        writeln!(out, "no such objects in '{}'", arguments.reader.heap)?;
        return Ok(());
    }
    table.write(out)?;
    writeln!(out, "{}, {}", output::counted(count, "object"), size::long(bytes))?;
    Ok(())
}

/// The titles of a table of objects.
pub(crate) fn titles(has_labels: bool) -> Vec<&'static str> {
    let of_labels: &[_] = if has_labels { &["TAG", "BY"] } else { &[] };
    [&["HANDLE", ">OFFSET", ">SIZE", "IN", "STATE"], of_labels, &["ROOT"]].concat()
}

/// A line of a table of objects.
pub(crate) fn row(item: &Item, has_labels: bool) -> Vec<String> {
    let mut cells = vec![
        item.block.handle.to_string(),
        format!("{:#x}", item.block.offset_bytes),
        item.block.bytes.to_string(),
        match item.block.site {
            Site::Row => "row".to_owned(),
            Site::Slab { owner: Some(slot) } => format!("slab of {slot}"),
            Site::Slab { owner: None } => "shared slab".to_owned(),
            _ => "own units".to_owned(),
        },
        match item.state {
            State::Free => "free".to_owned(),
            State::Live => "live".to_owned(),
            State::Unpublished(slot) => format!("in hand of {slot}"),
            State::OfDead(slot) => {
                console::style(format!("in hand of {slot}, dead")).yellow().to_string()
            }
        },
    ];
    if has_labels {
        cells.extend(item.origin.as_ref().map_or_else(Default::default, by));
    }
    cells.push(item.root.as_ref().map_or_else(String::new, output::plain));
    cells
}

/// Two cells: what an object is for, and who allocated it.
fn by(origin: &Origin) -> [String; 2] {
    let pid = format!("pid {}", origin.pid);
    let by = match origin.alive {
        true => pid,
        false => console::style(format!("{pid}, gone")).yellow().to_string(),
    };
    [usage::name(&origin.tag), by]
}
