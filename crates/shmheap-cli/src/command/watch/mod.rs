//! `shmheap watch --prometheus`: the numbers of all heaps for a monitoring system that asks.
//!
//! Heaps are looked at when somebody asks, read-only, and at no other time, by a process of its own
//! each time: who serves has no heap mapped, and nothing that is done to one ends it.

mod exposition;
mod responder;
mod scrape;

use std::io::Write;
use std::net::TcpListener;

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::Verdict;
use crate::args::Watch;

pub(crate) fn run(arguments: &Watch, out: &mut dyn Write) -> Result<Verdict> {
    let address = &arguments.prometheus;
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen at {address}; `--prometheus ADDRESS:PORT` takes another place")
    })?;
    writeln!(out, "metrics of all heaps at http://{}/metrics", listener.local_addr()?)?;
    out.flush()?;
    responder::serve(&listener, scrape::page)
}

/// The process that [`scrape`] starts.
pub(crate) fn run_page(out: &mut dyn Write) -> Result<Verdict> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    out.write_all(exposition::all()?.as_bytes())?;
    Ok(Verdict::Fine)
}
