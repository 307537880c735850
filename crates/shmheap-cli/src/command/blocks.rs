//! `shmheap blocks`: every object of a heap, and what is known of it.

use std::io::{self, Write};

use anyhow::Result;
use serde::{Serialize, Serializer};
use shmheap::Site;

use crate::args::Blocks;
use crate::inventory::{Inventory, Item, State};
use crate::output::{self, Table};
use crate::{Verdict, size};

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
        }
    }
}

pub(crate) fn run(arguments: &Blocks, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.reader.heap.connect_read_only()?;
    let inventory = Inventory::of(&heap);
    let objects = inventory.objects().filter(|item| is_asked_for(arguments, item));
    if arguments.reader.json {
        // One by one: a heap may have more objects than fit in memory twice.
        let mut json = serde_json::Serializer::pretty(&mut *out);
        json.collect_seq(objects.map(|item| Object::of(&item))).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write(out, arguments, objects)?;
    }
    Ok(Verdict::Fine)
}

fn is_asked_for(arguments: &Blocks, item: &Item) -> bool {
    let is_large_enough = item.block.bytes >= arguments.min_size.unwrap_or(0);
    let is_small_enough = item.block.bytes <= arguments.max_size.unwrap_or(u64::MAX);
    let is_in_hand = matches!(item.state, State::Unpublished(_) | State::OfDead(_));
    is_large_enough && is_small_enough && (is_in_hand || !arguments.unpublished)
}

fn write(
    out: &mut dyn Write,
    arguments: &Blocks,
    objects: impl Iterator<Item = Item>,
) -> Result<()> {
    let mut table = Table::new(&["HANDLE", ">OFFSET", ">SIZE", "IN", "STATE", "ROOT"]);
    let (mut count, mut bytes) = (0_u64, 0_u64);
    for item in objects {
        count += 1;
        bytes = bytes.saturating_add(item.block.bytes);
        table.row(row(&item));
    }
    if count == 0 {
        writeln!(out, "no such objects in '{}'", arguments.reader.heap)?;
        return Ok(());
    }
    table.write(out)?;
    writeln!(out, "{}, {}", output::counted(count, "object"), size::long(bytes))?;
    Ok(())
}

/// A line of a table of objects.
pub(crate) fn row(item: &Item) -> Vec<String> {
    vec![
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
        item.root.as_ref().map_or_else(String::new, output::plain),
    ]
}
