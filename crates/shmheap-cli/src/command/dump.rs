//! `shmheap dump`: the bytes of one object.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use shmheap::Heap;

use crate::args::Dump;
use crate::{Verdict, output};

/// Bytes of an object that are read together; a multiple of those in a line.
const CHUNK_BYTES: usize = 64 << 10;
const LINE_BYTES: usize = 16;

/// An object's bytes as JSON; the names of the fields are promised.
#[derive(Debug, Serialize)]
struct Content {
    name: String,
    handle: String,
    size_bytes: u64,
    bytes: String,
}

pub(crate) fn run(arguments: &Dump, out: &mut dyn Write) -> Result<Verdict> {
    let heap = arguments.heap.connect_read_only()?;
    if arguments.json {
        let mut bytes = String::new();
        let size_bytes = each_chunk(&heap, arguments, |_, chunk| {
            bytes.extend(chunk.iter().map(|byte| format!("{byte:02x}")));
            Ok(())
        })?;
        let name = arguments.heap.to_string();
        output::json(
            out,
            &Content { name, handle: arguments.handle.to_string(), size_bytes, bytes },
        )?;
    } else if arguments.raw {
        each_chunk(&heap, arguments, |_, chunk| out.write_all(chunk))?;
    } else {
        each_chunk(&heap, arguments, |at, chunk| {
            let starts = (at..).step_by(LINE_BYTES);
            starts.zip(chunk.chunks(LINE_BYTES)).try_for_each(|(at, line)| write(out, at, line))
        })?;
    }
    Ok(Verdict::Fine)
}

/// Hands on the object's bytes, a chunk at a time, each with its place in the object; returns how
/// many there are.
fn each_chunk(
    heap: &Heap,
    arguments: &Dump,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<u64> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let count = heap.read_at(arguments.handle, at, &mut buffer)?;
        if count == 0 {
            return Ok(at);
        }
        take(at, &buffer[..count])?;
        at += count as u64;
    }
}

/// A line: where, the bytes as numbers, and those of them that are letters.
fn write(out: &mut dyn Write, at: u64, line: &[u8]) -> io::Result<()> {
    let mut numbers = String::new();
    for (number, byte) in line.iter().enumerate() {
        let gap = if number == LINE_BYTES / 2 { "  " } else { " " };
        numbers.push_str(&format!("{gap}{byte:02x}"));
    }
    let letter = |&byte: &u8| match byte {
        b' '..=b'~' => byte as char,
        _ => '.',
    };
    let letters: String = line.iter().map(letter).collect();
    let address = console::style(format!("{at:08x}")).dim();
    writeln!(out, "{address} {numbers:<50} |{letters}|")
}
