//! `cargo xtask`: everything a developer, CI or a packager does with the workspace.
//!
//! One command for each purpose; nothing is kept in shell scripts or CI files that a person cannot
//! run at home.

mod bench;
mod book;
mod install;
mod python;
mod steps;
mod test;
mod tidy;
mod tools;
mod torture;
mod workspace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Development tasks of the shmheap workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every test there is; install what they need where that can be done
    Test {
        /// Only the unit tests and the style: what to run while editing
        #[arg(long)]
        quick: bool,
    },
    /// Check the house style: layers, unsafe code, comments, sizes, links
    Tidy,
    /// Do all that a change must pass: format, lints, documentation, then every test
    Ci,
    /// Measure speed beside other allocators, or count instructions; --help has the options
    #[command(disable_help_flag = true)]
    Bench {
        /// As `cargo xtask bench --help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
        options: Vec<OsString>,
    },
    /// Kill, stop and corrupt processes at work in heaps; --help has the options
    #[command(disable_help_flag = true)]
    Torture {
        /// As `cargo xtask torture --help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
        options: Vec<OsString>,
    },
    /// Build the book in docs/book as web pages, with mdbook
    Book,
    /// Build for release and install the C library, its headers and the shmheap command
    Install {
        /// Directory to install in, e.g. /usr/local or ./install; made if missing
        #[arg(long, value_name = "DIR")]
        prefix: PathBuf,
        /// Have the library tell AddressSanitizer and Valgrind which bytes a program may touch
        #[arg(long)]
        sanitizers: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            report(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    let passed = match task {
        Task::Test { quick } => test::test(quick),
        Task::Ci => test::ci(),
        Task::Tidy => test::check_style().map(|()| true)?,
        Task::Bench { options } => bench::run(&options).map(|()| true)?,
        Task::Torture { options } => torture::run(&options).map(|()| true)?,
        Task::Book => book::build().map(|()| true)?,
        Task::Install { prefix, sanitizers } => install::run(&prefix, sanitizers).map(|()| true)?,
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[allow(clippy::print_stderr, reason = "this is a command")]
fn report(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
