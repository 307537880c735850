//! The C library as its users meet it: installed under a prefix, compiled against with gcc and g++,
//! run in processes of their own.
//!
//! `cargo xtask install` fills the prefix once. Every test then compiles a program of `tests/c`,
//! `tests/cpp` or `examples` with the flags that pkg-config gives, runs one of its cases on a heap
//! of its own, and looks at its exit status. A program that hangs is killed after two minutes.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and say what they skip"
)]

mod book;
mod contract;
mod cxx;
mod examples;
mod header;
mod linking;
mod processes;
mod sanitizers;
mod support;
