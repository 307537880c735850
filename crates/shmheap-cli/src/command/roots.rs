//! `shmheap roots`: the names in a heap, and what has them.
//!
//! Whoever may write to a heap may store any bytes as a name; so what a terminal would take for a
//! command is escaped.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;
use shmheap::{Heap, Root};

use crate::args::Reader;
use crate::output::{self, Table};
use crate::{Verdict, size};

/// A root; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Named {
    name: String,
    handle: String,
    size_bytes: Option<u64>,
    made: bool,
    r#type: Option<String>,
}

pub(crate) fn run(arguments: &Reader, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.heap.connect_read_only()?;
    let mut roots: Vec<Named> = heap.roots().into_iter().map(|root| named(&heap, root)).collect();
    roots.sort_by(|one, other| one.name.cmp(&other.name));
    if arguments.json {
        output::json(out, &roots)?;
    } else {
        write(out, arguments, &roots)?;
    }
    Ok(Verdict::Fine)
}

fn named(heap: &Heap, root: Root) -> Named {
    let size = heap.resolve(root.handle).and_then(|object| heap.usable_size(object));
    Named {
        name: root.name,
        handle: root.handle.to_string(),
        size_bytes: size.ok().map(|bytes| bytes as u64),
        made: root.is_made,
        r#type: (root.fingerprint != 0).then(|| format!("{:016x}", root.fingerprint)),
    }
}

fn write(out: &mut dyn Write, arguments: &Reader, roots: &[Named]) -> Result<()> {
    if roots.is_empty() {
        writeln!(out, "no roots: nothing in '{}' has a name", arguments.heap)?;
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "HANDLE", ">SIZE", "TYPE", "STATE"]);
    for root in roots {
        let state = match (root.made, root.size_bytes) {
            (false, _) => console::style("in the making").yellow().to_string(),
            (true, None) => console::style("object freed").yellow().to_string(),
            (true, Some(_)) => "made".to_owned(),
        };
        table.row(vec![
            output::plain(&root.name),
            root.handle.clone(),
            root.size_bytes.map_or_else(|| "-".to_owned(), size::short),
            root.r#type.clone().unwrap_or_else(|| "-".to_owned()),
            state,
        ]);
    }
    table.write(out)?;
    Ok(())
}
