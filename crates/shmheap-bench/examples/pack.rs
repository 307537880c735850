//! Makes a trace for workload W10 of what `recorder/record.c` wrote:
//! `cargo run -p shmheap-bench --example pack -- RECORD TRACE`.

use std::fs;

use anyhow::{Context, Result, bail};

#[allow(clippy::print_stdout, reason = "a program's answer")]
fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [record, trace] = &arguments[..] else { bail!("usage: pack RECORD TRACE") };
    let record = fs::read(record).with_context(|| record.display().to_string())?;
    let (packed, summary) = shmheap_bench::pack_trace(&record)?;
    fs::write(trace, packed).with_context(|| trace.display().to_string())?;
    println!("{summary}");
    Ok(())
}
