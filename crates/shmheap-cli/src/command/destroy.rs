//! `shmheap destroy`: removes a heap, after asking the person or looking for users.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Result, bail};
use shmheap::{Heap, Peer};

use crate::Verdict;
use crate::args::Destroy;
use crate::{output, size};

pub(crate) fn run(arguments: &Destroy, out: &mut dyn Write) -> Result<Verdict> {
    let heap = &arguments.heap;
    if !arguments.yes {
        let connection = heap.connect_read_only()?;
        refuse_if_used(arguments, &connection.peers())?;
        if io::stdin().is_terminal() && io::stderr().is_terminal() {
            confirm(arguments, &connection)?;
        }
    }
    heap.destroy()?;
    writeln!(out, "destroyed '{heap}'")?;
    Ok(Verdict::Fine)
}

fn refuse_if_used(arguments: &Destroy, peers: &[Peer]) -> Result<()> {
    let users: Vec<String> =
        peers.iter().filter(|peer| peer.alive && !peer.is_self).map(describe).collect();
    if users.is_empty() {
        return Ok(());
    }
    bail!(
        "'{}' is in use by {}; end {} first, or destroy it anyway with --yes",
        arguments.heap,
        users.join(", "),
        if users.len() == 1 { "it" } else { "them" }
    )
}

fn describe(peer: &Peer) -> String {
    let command = output::plain(&peer.command);
    let command = console::truncate_str(&command, 40, "...");
    format!("process {} ({command})", peer.pid)
}

fn confirm(arguments: &Destroy, connection: &Heap) -> Result<()> {
    let stats = connection.stats();
    let content = output::counted(stats.live_objects, "live object");
    let mut terminal = io::stderr();
    write!(
        terminal,
        "destroy '{}' with {content} ({})? [y/N] ",
        arguments.heap,
        size::long(stats.live_bytes)
    )?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("'{}' was left as it is", arguments.heap);
    }
    Ok(())
}
