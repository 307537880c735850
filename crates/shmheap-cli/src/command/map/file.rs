//! A file to draw into: new, and removed again unless it becomes whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// The file. What was made for it goes with it, until it is [kept](Self::keep).
#[derive(Debug)]
pub(super) struct NewFile<'p> {
    path: &'p Path,
    file: File,
    /// Not so of what is no file, as a pipe.
    is_made: bool,
}

impl<'p> NewFile<'p> {
    /// Makes a file that is not there yet; what is no file, as a pipe, is opened.
    pub(super) fn create(path: &'p Path) -> Result<Self> {
        let name = path.display();
        let opened = match File::create_new(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                ensure!(
                    !path.is_file(),
                    "'{name}' exists already; remove it, or choose another name"
                );
                if matches!(path.try_exists(), Ok(false)) {
                    bail!("'{name}' is a link to nothing; remove it, or choose another name");
                }
                File::options().write(true).open(path).map(|file| (file, false))
            }
            opened => opened.map(|file| (file, true)),
        };
        let (file, is_made) = opened.with_context(|| cannot_write(path))?;
        Ok(Self { path, file, is_made })
    }

    /// Writes all of it.
    pub(super) fn write(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        let mut file = BufWriter::new(&self.file);
        let written = write(&mut file).and_then(|()| file.flush());
        written.with_context(|| cannot_write(self.path))
    }

    /// Lets it stay.
    pub(super) fn keep(mut self) {
        self.is_made = false;
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if self.is_made {
            // The error that led here tells more than one of this.
            let _ = fs::remove_file(self.path);
        }
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write '{}'", path.display())
}
