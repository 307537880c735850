//! The `shmheap` command as its users meet it: the built program, run as a process.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod bench;
mod commands;
mod demo;
mod labels;
mod objects;
mod roots;
mod schema;
mod snapshot;
mod support;
mod terminal;
mod watch;
