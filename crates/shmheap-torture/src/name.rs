//! `Name`: a name in POSIX shared memory that nothing else uses, gone when its owner is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

const FOLDER: &str = "/dev/shm";
const PREFIX: &str = "shmheap-torture";

/// Removed on drop; those of a process that was killed, by [`clean_up`].
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

/// Removes the names of a process that has ended without doing so.
pub(crate) fn clean_up(process: u32) {
    let prefix = format!("{PREFIX}-{process}-");
    for entry in std::fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_up_by_their_process_and_for_it() {
        let (first, second) = (Name::new(), Name::new());
        for name in [&first, &second] {
            std::fs::write(name.path(), "").unwrap();
        }
        let path = first.path();
        drop(first);
        assert!(!path.exists() && second.path().exists());
        clean_up(std::process::id());
        assert!(!second.path().exists());
    }
}
