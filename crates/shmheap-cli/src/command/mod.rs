//! The commands, one file each: `run(arguments, out)` answers to `out`.

mod bench;
mod blocks;
mod check;
mod completions;
mod create;
mod destroy;
mod doctor;
mod dump;
mod gc;
mod info;
mod leaks;
mod ls;
mod man;
mod map;
mod quota;
mod roots;
mod snapshot;
mod stat;
mod top;
mod trim;
mod watch;

use std::io::Write;

use anyhow::Result;

use crate::args::Command;
use crate::{Verdict, demo};

/// Does what the command line asks for.
pub(crate) fn run(command: Command, out: &mut dyn Write) -> Result<Verdict> {
    match command {
        Command::Create(arguments) => create::run(&arguments, out),
        Command::Ls(arguments) => ls::run(&arguments, out),
        Command::Info(arguments) => info::run(&arguments, out),
        Command::Stat(arguments) => stat::run(&arguments, out),
        Command::Top(arguments) => top::run(&arguments, out),
        Command::Watch(arguments) => watch::run(&arguments, out),
        Command::WatchPage => watch::run_page(out),
        Command::Check(arguments) => check::run(&arguments, out),
        Command::Quota(arguments) => quota::run(&arguments, out),
        Command::Roots(arguments) => roots::run(&arguments.reader, out),
        Command::Blocks(arguments) => blocks::run(&arguments, out),
        Command::Map(arguments) => map::run(&arguments, out),
        Command::Leaks(arguments) => leaks::run(&arguments, out),
        Command::Dump(arguments) => dump::run(&arguments, out),
        Command::Snapshot(arguments) => snapshot::run(&arguments, out),
        Command::Restore(arguments) => snapshot::restore(&arguments, out),
        Command::Trim(arguments) => trim::run(&arguments, out),
        Command::Destroy(arguments) => destroy::run(&arguments, out),
        Command::Gc(arguments) => gc::run(&arguments, out),
        Command::Doctor(arguments) => doctor::run(&arguments, out),
        Command::Bench(arguments) => bench::run(&arguments, out),
        Command::BenchPartner(arguments) => bench::run_partner(&arguments, out),
        Command::Demo(arguments) => demo::run(&arguments, out),
        Command::Completions { shell } => completions::run(shell, out),
        Command::Man { directory } => man::run(&directory, out),
        Command::DemoWorker(arguments) => demo::run_worker(&arguments, out),
        Command::DemoQuery(arguments) => demo::run_query(&arguments, out),
    }
}
