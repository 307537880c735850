//! `shmheap leaks`: objects that nobody will free, as far as a heap can know.
//!
//! For sure are those that the dead have left in their hands. What no name and no type leads to may
//! still be known to a program by its handle, so that is only listed if it is asked for. Of what
//! labels say is of processes that are gone there are sums.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use shmheap::{Heap, Reached};

use super::blocks::{self, Object};
use crate::args::Leaks;
use crate::inventory::{Inventory, Item, State};
use crate::output::{self, Table};
use crate::{Verdict, size, usage};

/// What was found; the names of the fields are promised.
#[derive(Debug, Default, Serialize)]
struct Found {
    name: String,
    of_dead: Vec<Object>,
    abandoned: Vec<Object>,
    unpublished: Vec<Object>,
    orphaned: Option<Vec<Object>>,
    untraced: Option<Vec<Object>>,
}

/// Why an object is in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    OfDead,
    Abandoned,
    Unpublished,
    Orphaned,
    Untraced,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::OfDead => "of dead process",
            Self::Abandoned => "abandoned",
            Self::Unpublished => "unpublished",
            Self::Orphaned => "orphaned",
            Self::Untraced => "untraced",
        }
    }
}

pub(crate) fn run(arguments: &Leaks, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.reader.heap.connect_read_only()?;
    let has_labels = heap.info().has_labels;
    let found = find(&heap, arguments.untraced);
    let is_fine = found.iter().all(|(kind, _)| *kind >= Kind::Unpublished);
    if arguments.reader.json {
        output::json(out, &listed(arguments, has_labels, &found))?;
    } else {
        write(out, arguments, has_labels, &found)?;
    }
    Ok(Verdict::of(is_fine))
}

fn find(heap: &Heap, untraced: bool) -> Vec<(Kind, Item)> {
    // The walk comes before the trace: what is given away in between is traced.
    let inventory = Inventory::of(heap);
    let items: Vec<Item> = inventory.objects().collect();
    let reached: HashMap<_, _> = heap.traced().into_iter().collect();
    let mut found: Vec<_> = items
        .into_iter()
        .filter_map(|item| {
            let kind = match (item.state, reached.get(&item.block.handle)) {
                (State::OfDead(_), _) => Kind::OfDead,
                (State::Unpublished(_), _) => Kind::Unpublished,
                (_, Some(Reached::Abandoned)) => Kind::Abandoned,
                (_, None) if item.origin.as_ref().is_some_and(|origin| !origin.alive) => {
                    Kind::Orphaned
                }
                (_, None) if untraced => Kind::Untraced,
                _ => return None,
            };
            Some((kind, item))
        })
        .collect();
    found.sort_by_key(|(kind, _)| *kind);
    found
}

fn listed(arguments: &Leaks, has_labels: bool, found: &[(Kind, Item)]) -> Found {
    let of = |kind| -> Vec<Object> {
        let items = found.iter().filter(|(found, _)| *found == kind);
        items.map(|(_, item)| Object::of(item)).collect()
    };
    Found {
        name: arguments.reader.heap.to_string(),
        of_dead: of(Kind::OfDead),
        abandoned: of(Kind::Abandoned),
        unpublished: of(Kind::Unpublished),
        orphaned: has_labels.then(|| of(Kind::Orphaned)),
        untraced: arguments.untraced.then(|| of(Kind::Untraced)),
    }
}

fn write(
    out: &mut dyn Write,
    arguments: &Leaks,
    has_labels: bool,
    found: &[(Kind, Item)],
) -> Result<()> {
    if found.is_empty() {
        writeln!(out, "no leaks in '{}'", arguments.reader.heap)?;
        return Ok(());
    }
    // Most of them are no leaks where a process made something for others and ended.
    let is_listed = |kind: Kind| kind != Kind::Orphaned || arguments.untraced;
    let listed: Vec<_> = found.iter().filter(|(kind, _)| is_listed(*kind)).collect();
    let mut table = Table::new(&[vec!["WHY"], blocks::titles(has_labels)].concat());
    for (kind, item) in &listed {
        let why = match kind {
            Kind::OfDead | Kind::Abandoned => console::style(kind.name()).yellow().to_string(),
            _ => kind.name().to_owned(),
        };
        let mut cells = vec![why];
        cells.extend(blocks::row(item, has_labels));
        table.row(cells);
    }
    if !listed.is_empty() {
        table.write(out)?;
    }
    if has_labels {
        let gap = if listed.is_empty() { "" } else { "\n" };
        write!(out, "{gap}")?;
        write_tags(out, found)?;
        writeln!(out)?;
    }
    let sure = found.iter().filter(|(kind, _)| *kind < Kind::Unpublished);
    let (count, bytes) = sure.fold((0, 0), |(count, bytes), (_, item)| {
        (count + 1, item.block.bytes.saturating_add(bytes))
    });
    match count {
        0 => writeln!(out, "none of these is a leak for sure")?,
        _ => writeln!(out, "{} in leaks, {}", output::counted(count, "object"), size::long(bytes))?,
    }
    Ok(())
}

/// What each tag has of each kind.
fn write_tags(out: &mut dyn Write, found: &[(Kind, Item)]) -> Result<()> {
    let mut sums: BTreeMap<(Kind, &str), (u64, u64)> = BTreeMap::new();
    for (kind, item) in found {
        let Some(origin) = &item.origin else { continue };
        let (count, bytes) = sums.entry((*kind, &origin.tag)).or_default();
        *count += 1;
        *bytes = item.block.bytes.saturating_add(*bytes);
    }
    let mut table = Table::new(&["WHY", "TAG", ">OBJECTS", ">SIZE"]);
    for ((kind, tag), (count, bytes)) in sums {
        let (why, tag) = (kind.name().to_owned(), usage::name(tag));
        table.row(vec![why, tag, count.to_string(), bytes.to_string()]);
    }
    table.write(out)?;
    Ok(())
}
