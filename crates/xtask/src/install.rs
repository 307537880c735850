//! `cargo xtask install`: the C library and the command, laid out as other build systems expect.
//!
//! ```text
//! PREFIX/bin/shmheap
//! PREFIX/include/shmheap.h, shmheap.hpp
//! PREFIX/include/shmheap/labels.h, *.hpp
//! PREFIX/lib/libshmheap.a
//! PREFIX/lib/libshmheap.so -> libshmheap.so.0 -> libshmheap.so.0.1.0
//! PREFIX/lib/pkgconfig/shmheap.pc
//! PREFIX/lib/cmake/shmheap/shmheap-config.cmake, shmheap-config-version.cmake
//! PREFIX/share/man/man1/shmheap.1, shmheap-*.1
//! PREFIX/share/doc/shmheap/LICENSE-MIT, LICENSE-APACHE
//! ```
//!
//! Every file is written beside its place and renamed into it: a program that runs on an earlier
//! installation keeps the library it has mapped, and a failed installation leaves no torn file.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

use crate::workspace::{self, VERSION};

/// What programs include, and what those files include.
const HEADERS: [&str; 10] = [
    "shmheap.h",
    "shmheap.hpp",
    "shmheap/allocator.hpp",
    "shmheap/connections.hpp",
    "shmheap/error.hpp",
    "shmheap/heap.hpp",
    "shmheap/labels.h",
    "shmheap/labels.hpp",
    "shmheap/object.hpp",
    "shmheap/offset_ptr.hpp",
];

const MODE_FILE: u32 = 0o644;
const MODE_PROGRAM: u32 = 0o755;

/// Builds for release and puts everything under `prefix`: the library with hooks for the
/// sanitizers, if they are asked for.
pub(crate) fn run(prefix: &Path, sanitizers: bool) -> Result<()> {
    let prefix = std::path::absolute(prefix)
        .with_context(|| format!("cannot make '{}' an absolute path", prefix.display()))?;
    let release = workspace::release;
    let library =
        if sanitizers { workspace::release_with_sanitizers()? } else { release("shmheap-c") };
    let library = workspace::build("shmheap-c", library)?;
    let command = workspace::build("shmheap-cli", release("shmheap-cli"))?;
    let root = workspace::root();
    let c_crate = root.join("crates/shmheap-c");

    let mut layout = Layout::new(prefix);
    let (shared, soname) = (format!("libshmheap.so.{VERSION}"), soname());
    let lib = Path::new("lib");
    layout.copy(artifact(&library, "libshmheap_c.so")?, &lib.join(&shared), MODE_PROGRAM)?;
    layout.link(&shared, &lib.join(&soname))?;
    layout.link(&soname, &lib.join("libshmheap.so"))?;
    layout.copy(artifact(&library, "libshmheap_c.a")?, &lib.join("libshmheap.a"), MODE_FILE)?;
    let include = Path::new("include");
    for name in HEADERS {
        layout.copy(&c_crate.join("include").join(name), &include.join(name), MODE_FILE)?;
    }
    let templates = c_crate.join("install");
    layout.fill(&templates.join("shmheap.pc.in"), &lib.join("pkgconfig/shmheap.pc"))?;
    for name in ["shmheap-config.cmake", "shmheap-config-version.cmake"] {
        let template = templates.join(format!("{name}.in"));
        layout.fill(&template, &lib.join("cmake/shmheap").join(name))?;
    }
    layout.copy(artifact(&command, "shmheap")?, Path::new("bin/shmheap"), MODE_PROGRAM)?;
    layout.manual(artifact(&command, "shmheap")?)?;
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        layout.copy(&root.join(name), &Path::new("share/doc/shmheap").join(name), MODE_FILE)?;
    }
    layout.report();
    Ok(())
}

/// The name under which programs ask for the library: it changes with incompatible versions.
fn soname() -> String {
    let major = VERSION.split('.').next().unwrap_or(VERSION);
    format!("libshmheap.so.{major}")
}

fn artifact<'a>(files: &'a [PathBuf], name: &str) -> Result<&'a Path> {
    let found = files.iter().find(|file| file.file_name().is_some_and(|file| file == name));
    found.map(PathBuf::as_path).with_context(|| format!("cargo built no {name}"))
}

/// What has been put under a prefix.
struct Layout {
    prefix: PathBuf,
    installed: Vec<String>,
}

impl Layout {
    fn new(prefix: PathBuf) -> Self {
        Self { prefix, installed: Vec::new() }
    }

    fn copy(&mut self, source: &Path, place: &Path, mode: u32) -> Result<()> {
        let content =
            fs::read(source).with_context(|| format!("cannot read '{}'", source.display()))?;
        self.write(&content, place, mode)
    }

    /// Copies a template with its `@PREFIX@` and `@VERSION@` replaced.
    fn fill(&mut self, template: &Path, place: &Path) -> Result<()> {
        let text = fs::read_to_string(template)
            .with_context(|| format!("cannot read '{}'", template.display()))?;
        let prefix = self.prefix.to_str().with_context(|| {
            format!("'{}' is not UTF-8; choose another prefix", self.prefix.display())
        })?;
        let text = text.replace("@PREFIX@", prefix).replace("@VERSION@", VERSION);
        self.write(text.as_bytes(), place, MODE_FILE)
    }

    /// The manual pages that the command writes.
    fn manual(&mut self, command: &Path) -> Result<()> {
        let pages = tempfile::tempdir().context("cannot make a temporary directory")?;
        let output = Command::new(command).arg("man").arg(pages.path()).output();
        let output = output.with_context(|| format!("cannot run '{}'", command.display()))?;
        let problem = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "shmheap man: {problem}");
        let entries = fs::read_dir(pages.path()).context("cannot read the manual pages")?;
        let mut names =
            entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            let place = Path::new("share/man/man1").join(&name);
            self.copy(&pages.path().join(&name), &place, MODE_FILE)?;
        }
        Ok(())
    }

    fn write(&mut self, content: &[u8], place: &Path, mode: u32) -> Result<()> {
        let path = self.prefix.join(place);
        write_and_rename(content, &path, mode)
            .with_context(|| format!("cannot write '{}'", path.display()))?;
        self.installed.push(place.display().to_string());
        Ok(())
    }

    fn link(&mut self, target: &str, place: &Path) -> Result<()> {
        let path = self.prefix.join(place);
        link_and_rename(target, &path)
            .with_context(|| format!("cannot make the link '{}'", path.display()))?;
        self.installed.push(format!("{} -> {target}", place.display()));
        Ok(())
    }

    #[allow(clippy::print_stdout, reason = "the report is the command's output")]
    fn report(&self) {
        let prefix = self.prefix.display();
        println!("installed shmheap {VERSION} in {prefix}:");
        for place in &self.installed {
            println!("  {place}");
        }
        println!("to build against it:  export PKG_CONFIG_PATH={prefix}/lib/pkgconfig");
        println!("                      cc main.c $(pkg-config --cflags --libs shmheap)");
        println!("or with CMake:        cmake -DCMAKE_PREFIX_PATH={prefix} ...");
        println!("to run programs:      export LD_LIBRARY_PATH={prefix}/lib");
    }
}

fn write_and_rename(content: &[u8], path: &Path, mode: u32) -> io::Result<()> {
    let directory = parent(path)?;
    let file = NamedTempFile::new_in(directory)?;
    fs::write(file.path(), content)?;
    fs::set_permissions(file.path(), Permissions::from_mode(mode))?;
    file.persist(path)?;
    Ok(())
}

fn link_and_rename(target: &str, path: &Path) -> io::Result<()> {
    // A link cannot be written to a name that stands, so it is made in a directory of its own.
    let directory = tempfile::tempdir_in(parent(path)?)?;
    let link = directory.path().join("link");
    symlink(target, &link)?;
    fs::rename(link, path)
}

/// The directory that is to hold `path`, made if it is missing.
fn parent(path: &Path) -> io::Result<&Path> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in_and_files_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let template = directory.path().join("shmheap.pc.in");
        fs::write(&template, "prefix=@PREFIX@\nVersion: @VERSION@\n").unwrap();
        let prefix = directory.path().join("prefix");
        let mut layout = Layout::new(prefix.clone());
        let place = Path::new("lib/pkgconfig/shmheap.pc");
        layout.write(b"an earlier installation", place, 0o600).unwrap();
        layout.fill(&template, place).unwrap();

        let text = fs::read_to_string(prefix.join(place)).unwrap();
        assert_eq!(text, format!("prefix={}\nVersion: {VERSION}\n", prefix.display()));
        let mode = fs::metadata(prefix.join(place)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE_FILE);
        let neighbours = fs::read_dir(prefix.join("lib/pkgconfig")).unwrap().count();
        assert_eq!(neighbours, 1, "a temporary file was left");
    }

    #[test]
    fn links_replace_what_stood_there() {
        let directory = tempfile::tempdir().unwrap();
        let mut layout = Layout::new(directory.path().to_path_buf());
        let place = Path::new("lib/libshmheap.so");
        layout.write(b"a file", place, MODE_FILE).unwrap();
        for target in ["libshmheap.so.0", "libshmheap.so.1"] {
            layout.link(target, place).unwrap();
            let found = fs::read_link(directory.path().join(place)).unwrap();
            assert_eq!(found, Path::new(target));
        }
        let neighbours = fs::read_dir(directory.path().join("lib")).unwrap().count();
        assert_eq!(neighbours, 1, "a temporary directory was left");
    }

    #[test]
    fn a_missing_artifact_is_named() {
        let error = artifact(&[PathBuf::from("/t/libother.so")], "libshmheap_c.so").unwrap_err();
        assert_eq!(error.to_string(), "cargo built no libshmheap_c.so");
    }
}
