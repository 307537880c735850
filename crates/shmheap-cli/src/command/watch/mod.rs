//! `shmheap watch --prometheus`: the numbers of all heaps for a monitoring system that asks.
//!
//! Heaps are looked at when somebody asks, read-only, and at no other time.

mod exposition;
mod responder;

use std::io::Write;
use std::net::TcpListener;

use anyhow::{Context, Result};

use crate::Verdict;
use crate::args::Watch;

pub(crate) fn run(arguments: &Watch, out: &mut dyn Write) -> Result<Verdict> {
    let address = arguments.prometheus;
    let listener = TcpListener::bind(address).with_context(|| {
        format!("cannot listen at {address}; `--prometheus ADDRESS:PORT` takes another place")
    })?;
    writeln!(out, "metrics of all heaps at http://{}/metrics", listener.local_addr()?)?;
    out.flush()?;
    responder::serve(&listener, exposition::all)
}
