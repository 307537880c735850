//! `Name`: a name in POSIX shared memory that nothing else uses, gone when its owner is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const FOLDER: &str = "/dev/shm";
const PREFIX: &str = "shmheap-torture";

/// Removed on drop; those of a process that has been killed, by [`clean_up`].
#[derive(Debug)]
pub(crate) struct Name(String);

impl Name {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Relaxed: the number is all there is.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(format!("{PREFIX}-{}-{number}", std::process::id()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The file that stands for the name.
    pub(crate) fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.0)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path());
    }
}

/// Removes the names whose process has ended without doing so: it was killed, or interrupted.
pub(crate) fn clean_up() {
    for entry in std::fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let is_left = maker(&entry.file_name().to_string_lossy())
            .is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists());
        if is_left {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The process that made a name, if one of the torture did.
fn maker(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_with_their_owner() {
        let (first, second) = (Name::new(), Name::new());
        for name in [&first, &second] {
            std::fs::write(name.path(), "").unwrap();
        }
        let path = first.path();
        drop(first);
        clean_up();
        assert!(!path.exists() && second.path().exists(), "this process lives");
    }

    #[test]
    fn names_tell_who_made_them() {
        assert_eq!(maker(Name::new().as_str()), Some(std::process::id()));
        assert_eq!(maker("shmheap-torture-7-0"), Some(7));
        assert_eq!(maker("shmheap-test-7-0"), None);
        assert_eq!(maker("shmheap-torture"), None);
    }
}
