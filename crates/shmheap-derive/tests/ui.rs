//! What must compile, and what must not, with the messages that programmers see.
//!
//! `TRYBUILD=overwrite cargo test -p shmheap-derive --test ui` writes the messages anew; look at
//! each before it is committed.

use std::process::Command;

/// The compiler whose messages are kept beside the programs. Others put them in other words.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn programs_compile_or_say_why_not() {
    let programs = trybuild::TestCases::new();
    programs.pass("tests/ui/pass/*.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).arg("--version").output().expect("the compiler says its version");
    let version = String::from_utf8_lossy(&output.stdout);
    if version.starts_with(COMPILER) {
        programs.compile_fail("tests/ui/fail/*.rs");
    } else {
        println!("skipped: messages are those of {COMPILER}, and this is {version}");
    }
}
