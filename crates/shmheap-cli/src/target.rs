//! `HeapRef`: the heap that a command line names, in shared memory or in a file.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use shmheap::{Error, Heap, HeapOptions};

use crate::output;

/// Where the system keeps POSIX shared-memory objects.
pub(crate) const SHM_DIRECTORY: &str = "/dev/shm";

/// A heap by name or by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeapRef {
    /// A POSIX shared-memory object, without the leading slash.
    Named(OsString),
    /// A regular file.
    File(PathBuf),
}

impl HeapRef {
    /// A '/' after the first character makes a path, anything else is a name.
    pub(crate) fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        if bytes.iter().skip(1).any(|&byte| byte == b'/') {
            return Self::File(PathBuf::from(text));
        }
        Self::Named(OsStr::from_bytes(bytes.strip_prefix(b"/").unwrap_or(bytes)).to_owned())
    }

    pub(crate) fn create(&self, options: &HeapOptions) -> Result<Heap> {
        self.explained(match self {
            Self::Named(name) => options.create(name),
            Self::File(path) => options.create_file(path),
        })
    }

    /// Makes a copy of `heap` here.
    pub(crate) fn copy_from(&self, heap: &Heap) -> Result<()> {
        self.explained(match self {
            Self::Named(name) => heap.snapshot(name),
            Self::File(path) => heap.snapshot_file(path),
        })
    }

    pub(crate) fn connect_read_only(&self) -> Result<Heap> {
        self.explained(match self {
            Self::Named(name) => Heap::connect_read_only(name),
            Self::File(path) => Heap::connect_file_read_only(path),
        })
    }

    pub(crate) fn connect(&self) -> Result<Heap> {
        self.explained(match self {
            Self::Named(name) => Heap::connect(name),
            Self::File(path) => Heap::connect_file(path),
        })
    }

    /// None where this user may only read.
    pub(crate) fn connect_if_allowed(&self) -> Result<Option<Heap>> {
        match self.connect() {
            Err(error) if matches!(error.downcast_ref(), Some(Error::PermissionDenied { .. })) => {
                Ok(None)
            }
            connected => connected.map(Some),
        }
    }

    pub(crate) fn destroy(&self) -> Result<()> {
        self.explained(match self {
            Self::Named(name) => Heap::destroy(name),
            Self::File(path) => Heap::destroy_file(path),
        })
    }

    /// Of a path errors tell the path, and not where names are listed.
    fn explained<T>(&self, result: shmheap::Result<T>) -> Result<T> {
        result.map_err(|error| match (self, error) {
            (Self::File(_), Error::NotFound { .. }) => anyhow!("there is no file '{self}'"),
            (Self::File(_), error @ Error::System { .. }) => {
                anyhow::Error::new(error).context(format!("'{self}'"))
            }
            (_, error) => error.into(),
        })
    }

    /// Its name or path, with nothing in it that a terminal would take for a command.
    pub(crate) fn plain(&self) -> String {
        match self {
            Self::Named(name) => output::plain(name),
            Self::File(path) => output::plain(path),
        }
    }

    /// The path at which the system shows the heap's object.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Named(name) => Path::new(SHM_DIRECTORY).join(name),
            Self::File(path) => path.clone(),
        }
    }
}

impl fmt::Display for HeapRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "{}", name.display()),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_after_the_first_character_makes_a_path() {
        let named = |name: &str| HeapRef::Named(name.into());
        let file = |path: &str| HeapRef::File(path.into());
        for (text, expected) in [
            ("demo", named("demo")),
            ("/demo", named("demo")),
            ("/", named("")),
            ("", named("")),
            ("./demo", file("./demo")),
            ("/tmp/demo", file("/tmp/demo")),
            ("a/b", file("a/b")),
            ("//demo", file("//demo")),
        ] {
            assert_eq!(HeapRef::parse(OsStr::new(text)), expected, "{text}");
        }
        assert_eq!(named("demo").path(), Path::new("/dev/shm/demo"));
    }
}
