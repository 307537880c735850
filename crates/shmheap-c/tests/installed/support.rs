//! A prefix, a compiler, a heap's name, a program's run: what every test needs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

/// How C programs are compiled.
pub(crate) const C99: &[&str] =
    &["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g", "-pthread"];

/// Seconds after which a program counts as hanging.
const RUN_SECONDS_MAX: &str = "120";

/// Where the library is installed for the tests. Installed when first asked for.
pub(crate) fn prefix() -> &'static Path {
    static PREFIX: LazyLock<PathBuf> = LazyLock::new(|| install("prefix", &[]));
    &PREFIX
}

/// Installs the library under a prefix of that name, in the tests' directory.
pub(crate) fn install(name: &str, options: &[&str]) -> PathBuf {
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut install = Command::new(env!("CARGO"));
    install.current_dir(workspace()).args(["xtask", "install", "--prefix"]).arg(&prefix);
    succeed(install.args(options));
    prefix
}

/// The workspace's root.
pub(crate) fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Runs a command to its end, which must be a success.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// What a command prints, without the space around it.
pub(crate) fn printed(command: &mut Command) -> String {
    String::from_utf8(succeed(command).stdout).unwrap().trim().to_owned()
}

/// Whether the machine has a program. If not, says that `what` is skipped.
pub(crate) fn has(program: &str, what: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("skipped: no {program} here, so {what} is not tested");
    }
    found
}

/// The flags with which programs compile and link against the prefix.
pub(crate) fn flags() -> Vec<String> {
    flags_for(prefix())
}

/// As [`flags`], against another prefix.
pub(crate) fn flags_for(prefix: &Path) -> Vec<String> {
    let library = prefix.join("lib");
    let mut flags = if has("pkg-config", "shmheap.pc") {
        let mut ask = Command::new("pkg-config");
        ask.env("PKG_CONFIG_PATH", library.join("pkgconfig"));
        printed(ask.args(["--cflags", "--libs", "shmheap"]))
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    } else {
        let include = prefix.join("include");
        vec![
            format!("-I{}", include.display()),
            format!("-L{}", library.display()),
            "-lshmheap".to_owned(),
        ]
    };
    flags.push(format!("-Wl,-rpath,{}", library.display()));
    flags
}

/// Compiles a source file of this crate's `tests/c` into a program, once.
pub(crate) fn program(source: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(source);
    compile(&path, C99, &flags())
}

/// Compiles `source` with a compiler and its flags, then `linking`, into the tests' directory.
pub(crate) fn compile(source: &Path, compiler: &[&str], linking: &[String]) -> PathBuf {
    // Tests run in threads of one process, and a program that is being written cannot be run.
    static ONE_AT_A_TIME: Mutex<Vec<Vec<String>>> = Mutex::new(Vec::new());
    let mut compiled = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut words: Vec<String> = compiler.iter().map(|&word| word.to_owned()).collect();
    words.push(source.display().to_string());
    words.extend_from_slice(linking);
    let known = compiled.iter().position(|other| *other == words);
    let number = known.unwrap_or(compiled.len());
    let name = format!("{}-{number}", source.file_stem().unwrap().display());
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if known.is_none() {
        succeed(Command::new(&words[0]).args(&words[1..]).arg("-o").arg(&program));
        compiled.push(words);
    }
    program
}

/// A program that is killed when it hangs.
pub(crate) fn guarded(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", RUN_SECONDS_MAX]).arg(program);
    command
}

/// Runs one case of a test program on a heap of its own, and checks that it printed nothing: a
/// program prints only what it has against the library, and the library nothing at all.
pub(crate) fn run_case(source: &str, case: &str) {
    let heap = HeapName::new();
    let output = succeed(guarded(&program(source)).args([case, heap.as_str()]));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{source} {case}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{source} {case}");
    assert!(!heap.exists(), "{source} {case} left its heap behind");
}

/// The name of a heap that no other test uses. Whatever has the name at the end is removed, and so
/// is what begins with it.
pub(crate) struct HeapName(String);

impl HeapName {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!("/shmheap-c-test-{}-{number}.", std::process::id()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn exists(&self) -> bool {
        !self.leftovers().is_empty()
    }

    fn leftovers(&self) -> Vec<PathBuf> {
        let of_this = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&self.0[1..])
        };
        ["/dev/shm", "/tmp"]
            .iter()
            .flat_map(|directory| fs::read_dir(directory).into_iter().flatten())
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(of_this)
            .collect()
    }
}

impl Drop for HeapName {
    fn drop(&mut self) {
        for path in self.leftovers() {
            let _gone_already = fs::remove_file(path);
        }
    }
}
