//! Looks up the versions of peers that cannot tell theirs.

use std::fs;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const LOCK: &str = "../../Cargo.lock";
const CRATES_WITHOUT_VERSION: [&str; 3] = ["rts-alloc", "snmalloc-sys", "talc"];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    versions()
}

/// Hands the versions in the lock file to the program, as `VERSION_OF_` and the crate's name.
fn versions() -> Result<()> {
    println!("cargo::rerun-if-changed={LOCK}");
    let lock = fs::read_to_string(LOCK)?;
    for name in CRATES_WITHOUT_VERSION {
        let start = format!("name = \"{name}\"\nversion = \"");
        let (_, rest) = lock.split_once(&start).ok_or(format!("{LOCK} has no {name}"))?;
        let version = rest.split('"').next().unwrap_or_default();
        let variable = name.to_uppercase().replace('-', "_");
        println!("cargo::rustc-env=VERSION_OF_{variable}={version}");
    }
    Ok(())
}
