//! Files in shared memory by name, for peers that live in whatever file they are handed.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};

fn path(name: &str) -> PathBuf {
    PathBuf::from("/dev/shm").join(name)
}

/// A new file, empty.
pub(super) fn create(name: &str) -> Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path(name));
    file.with_context(|| format!("cannot create '{}'", path(name).display()))
}

pub(super) fn open(name: &str) -> Result<File> {
    let file = File::options().read(true).write(true).open(path(name));
    file.with_context(|| format!("cannot open '{}'", path(name).display()))
}

pub(super) fn remove(name: &str) {
    // Most often it is gone already: the workers remove it as soon as they are connected.
    let _ = fs::remove_file(path(name));
}
