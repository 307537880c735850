//! Tools outside the stable Rust toolchain: what is there, what can be had, what must be done
//! without.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{python, workspace};

/// A program that some tests need and that a machine may lack; or a file, by its whole path.
struct Tool {
    names: &'static [&'static str],
    package: &'static str,
    needed_for: &'static str,
}

const CPP: Tool = Tool {
    names: &["g++", "c++", "clang++"],
    package: "g++",
    needed_for: "C++ programs and the benchmark",
};
const MAKE: Tool = Tool { names: &["make"], package: "make", needed_for: "the benchmark" };

const TOOLS: [Tool; 7] = [
    Tool { names: &["cc", "gcc", "clang"], package: "gcc", needed_for: "C programs" },
    CPP,
    Tool { names: &["pkg-config", "pkgconf"], package: "pkg-config", needed_for: "pkg-config" },
    Tool { names: &["cmake"], package: "cmake", needed_for: "the CMake package" },
    MAKE,
    Tool { names: &["valgrind"], package: "valgrind", needed_for: "the C library under Valgrind" },
    Tool {
        names: &["/usr/include/boost/version.hpp"],
        package: "libboost-dev",
        needed_for: "Boost's containers and of the benchmark's peers from Boost",
    },
];

impl Tool {
    fn is_there(&self) -> bool {
        self.names.iter().any(|name| is_on_path(name))
    }
}

/// What users may ask for. Left out is a peer of the benchmark that brings eighty crates along.
pub(crate) const FEATURES: &str =
    "shmheap/allocator-api2,shmheap/async,shmheap/serde,shmheap/tracing,shmheap-c/sanitizers";

/// The packages that can be built here, as cargo is told: all, but for the benchmark without C++
/// and `make`, which some of its peers need, and the Python package without an interpreter to build
/// for.
pub(crate) fn packages() -> Vec<&'static str> {
    let mut packages = vec!["--workspace"];
    if !(CPP.is_there() && MAKE.is_there()) {
        packages.extend(["--exclude", "shmheap-bench"]);
    }
    if !is_on_path("python3") {
        packages.extend(["--exclude", python::PACKAGE]);
    }
    packages
}

/// What cannot be tested for want of a tool, and why.
pub(crate) fn missing() -> impl Iterator<Item = (String, String)> {
    let missing = TOOLS.iter().filter(|tool| !tool.is_there());
    missing.map(|Tool { names, package, needed_for }| {
        let reason = format!("no {} (Debian: apt-get install {package})", names[0]);
        (format!("tests of {needed_for}"), reason)
    })
}

/// A whole path is looked up as such, for joining one to a folder leaves nothing of the folder.
fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).is_file())
}

/// Installs a Debian package, unless what it brings is there: a program, or a file by its whole
/// path. Tells whether it is there then, for not everybody has `apt-get` and may use it.
pub(crate) fn install(package: &str, brings: &str) -> bool {
    if !is_on_path(brings) && is_on_path("apt-get") {
        let mut command = Command::new("apt-get");
        command.args(["install", "--yes", "--no-install-recommends", package]);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        // What counts is what is there in the end; the output says why, if it is not.
        let _ = command.status();
    }
    is_on_path(brings)
}

/// `cargo miri` of the nightly toolchain, its components added if they are missing.
///
/// # Errors
///
/// Why there is none, and what would help.
pub(crate) fn cargo_miri() -> Result<Command, String> {
    if !is_on_path("rustup") {
        return Err("no rustup on PATH, which brings the nightly toolchain".to_owned());
    }
    let toolchains = rustup(&["toolchain", "list"]).unwrap_or_default();
    if !toolchains.lines().any(|line| line.starts_with("nightly")) {
        return Err("no nightly toolchain (rustup toolchain install nightly)".to_owned());
    }
    let components = rustup(&["component", "list", "--toolchain", "nightly", "--installed"]);
    let components = components.unwrap_or_default();
    let has = |name: &str| components.lines().any(|line| line.starts_with(name));
    if !(has("miri") && has("rust-src")) {
        rustup(&["component", "add", "--toolchain", "nightly", "miri", "rust-src"])
            .ok_or("rustup cannot add miri and rust-src to the nightly toolchain")?;
    }
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo", "miri"]);
    command.current_dir(workspace::root()).stdin(Stdio::null());
    // Else the stable cargo that runs this program would hand its own rustc down.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    Ok(command)
}

fn rustup(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("rustup");
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_up_on_the_path() {
        assert!(is_on_path("sh"));
        assert!(is_on_path("/proc/self/exe") && !is_on_path("/no-such-file-of-shmheap"));
        assert!(!is_on_path("no-such-program-of-shmheap"));
    }

    #[test]
    fn what_is_there_is_not_installed() {
        assert!(install("no-such-package-of-shmheap", "sh"));
        assert!(install("no-such-package-of-shmheap", "/proc/self/exe"));
    }

    #[test]
    fn a_missing_tool_is_named_with_its_remedy() {
        for (what, reason) in missing() {
            assert!(what.starts_with("tests of"));
            assert!(reason.contains("apt-get install"));
        }
    }
}
