//! Compiles the C++ side of the peers from Boost, if its headers are there, and looks up the
//! versions of peers that cannot tell theirs.

use std::path::PathBuf;
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SHIM: &str = "shim/boost.cpp";
const PROBE: &str = "#include <boost/interprocess/managed_shared_memory.hpp>\n";

/// Where distributions put headers.
const HEADERS: &str = "/usr/include";
const BOOST_VERSION: &str = "/usr/include/boost/version.hpp";

const LOCK: &str = "../../Cargo.lock";
const CRATES_WITHOUT_VERSION: [&str; 5] =
    ["crossbeam-channel", "iceoryx2", "rts-alloc", "snmalloc-sys", "talc"];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    boost()?;
    versions()
}

/// Sets `cfg(boost)` where the shim is linked in.
fn boost() -> Result<()> {
    println!("cargo::rustc-check-cfg=cfg(boost)");
    println!("cargo::rerun-if-changed={SHIM}");
    // Headers that are installed later change their folder; a file that is missing would make every
    // build begin anew.
    let is_usual = fs::exists(BOOST_VERSION)?;
    println!("cargo::rerun-if-changed={}", if is_usual { BOOST_VERSION } else { HEADERS });
    let probe = PathBuf::from(env::var("OUT_DIR")?).join("probe.cpp");
    fs::write(&probe, PROBE)?;
    let is_there = compiler().cargo_warnings(false).file(&probe).try_compile("probe").is_ok();
    if is_there {
        // What is wrong with it from here on is wrong with the shim.
        compiler().file(SHIM).try_compile("shim_boost")?;
        println!("cargo::rustc-cfg=boost");
    }
    Ok(())
}

fn compiler() -> cc::Build {
    let mut build = cc::Build::new();
    // Boost's headers are not ours to warn about. Optimised in any profile: nobody wants figures
    // of another kind, and a tree without inlining is none.
    build.cpp(true).std("c++14").warnings(false).opt_level(3).define("NDEBUG", None);
    build.force_frame_pointer(false);
    build
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
