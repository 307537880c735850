//! Where an object lives: the rules for names, checked before anything is opened.
//!
//! A *named* object is one of POSIX shared memory: a file right in `/dev/shm`, under the rules of
//! `shm_open(3)`. It is opened by its path, so that it can be made without a name first, which
//! `shm_open` cannot. A *file* is any other path.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Where named objects live.
pub(crate) const SHARED_MEMORY_DIRECTORY: &str = "/dev/shm";
/// How the names of unfinished objects begin. No other object's may.
pub(crate) const UNFINISHED_PREFIX: &str = ".shmheap-";

/// `shm_open(3)` takes a slash and 254 bytes.
const NAME_BYTES_MAX: usize = 254;
/// Longest component of a path, on every file system of Linux.
const COMPONENT_BYTES_MAX: usize = 255;

/// The place of an object, with the name the caller uses for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectPath {
    path: PathBuf,
    label: String,
}

impl ObjectPath {
    /// The object of POSIX shared memory that `shm_open(3)` would open for `name`.
    pub(crate) fn named(name: &OsStr) -> Result<Self> {
        let bytes = name.as_bytes();
        let slashes = bytes.iter().take_while(|&&byte| byte == b'/').count();
        let stripped = &bytes[slashes..];
        let label = name.to_string_lossy().into_owned();
        if stripped.contains(&b'/') {
            let why = "it has a '/' after its start; name a file with the functions for files";
            return Err(Error::InvalidName { name: label, why });
        }
        if bytes.iter().any(u8::is_ascii_control) {
            // Whoever lists the machine's heaps would send it to a terminal.
            let why = "it has a control character";
            return Err(Error::InvalidName { name: label, why });
        }
        check_component(stripped, NAME_BYTES_MAX, "it is longer than 254 bytes", &label)?;
        let path = Path::new(SHARED_MEMORY_DIRECTORY).join(OsStr::from_bytes(stripped));
        Ok(Self { path, label })
    }

    /// The file at `path`, relative to the current directory of this moment.
    pub(crate) fn file(path: &Path) -> Result<Self> {
        let label = path.to_string_lossy().into_owned();
        let refuse = |why| Error::InvalidName { name: label.clone(), why };
        if path.as_os_str().is_empty() {
            return Err(refuse("it is empty"));
        }
        let component = path.file_name().ok_or_else(|| refuse("it names a directory"))?;
        if path.as_os_str().as_bytes().last() == Some(&b'/') {
            return Err(refuse("it ends with '/', so it names a directory"));
        }
        let too_long = "its last part is longer than 255 bytes";
        check_component(component.as_bytes(), COMPONENT_BYTES_MAX, too_long, &label)?;
        if path.as_os_str().as_bytes().contains(&0) {
            return Err(refuse("it has a NUL byte"));
        }
        let path = std::path::absolute(path).map_err(|source| Error::System {
            operation: "looking up the current directory",
            source,
        })?;
        Ok(Self { path, label })
    }

    /// The absolute path to open.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory that holds the object.
    pub(crate) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The name as the caller gave it, for messages.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Another name next to the object, for use while that is not finished.
    pub(crate) fn unfinished_sibling(&self, random: u128) -> PathBuf {
        let mut name = OsString::from(UNFINISHED_PREFIX).into_vec();
        name.extend_from_slice(format!("{random:032x}").as_bytes());
        self.directory().join(OsString::from_vec(name))
    }
}

fn check_component(bytes: &[u8], limit: usize, too_long: &'static str, label: &str) -> Result<()> {
    let why = if bytes.is_empty() {
        "it is empty"
    } else if bytes == b"." || bytes == b".." {
        "it names a directory"
    } else if bytes.contains(&0) {
        "it has a NUL byte"
    } else if bytes.len() > limit {
        too_long
    } else if bytes.starts_with(UNFINISHED_PREFIX.as_bytes()) {
        "names that begin with '.shmheap-' are kept for unfinished heaps"
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { name: label.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &[u8]) -> Result<ObjectPath> {
        ObjectPath::named(OsStr::from_bytes(name))
    }

    #[test]
    fn names_follow_shm_open() {
        for good in [&b"/heap"[..], b"heap", b"///heap", b"/.hidden", b"/h\xffp", &[b'a'; 254]] {
            let path = named(good).unwrap();
            assert_eq!(path.directory(), Path::new("/dev/shm"));
            assert_eq!(path.label(), String::from_utf8_lossy(good));
        }
        assert_eq!(named(b"//heap").unwrap().path(), Path::new("/dev/shm/heap"));
        for bad in [
            &b""[..],
            b"/",
            b"///",
            b"/a/b",
            b"a/",
            b".",
            b"/..",
            b"a\0b",
            b"a\x1b[31mb",
            b"a\nb",
            &[b'a'; 255],
            b"/.shmheap-0123",
        ] {
            let error = named(bad).unwrap_err();
            assert!(matches!(error, Error::InvalidName { .. }), "{bad:?}: {error}");
        }
    }

    #[test]
    fn files_are_made_absolute_and_keep_their_label() {
        let path = ObjectPath::file(Path::new("some/heap")).unwrap();
        assert!(path.path().is_absolute() && path.path().ends_with("some/heap"));
        assert_eq!(path.label(), "some/heap");
        for bad in ["", "/", "..", "a/..", "directory/", "a/.shmheap-1", "nul\0l"] {
            let error = ObjectPath::file(Path::new(bad)).unwrap_err();
            assert!(matches!(error, Error::InvalidName { .. }), "{bad:?}: {error}");
        }
        let too_long = format!("/tmp/{}", "x".repeat(256));
        assert!(ObjectPath::file(Path::new(&too_long)).is_err());
    }
}
