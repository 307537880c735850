//! `Descriptor`: a file descriptor that is checked before it is believed.
//!
//! A program that becomes a daemon closes every descriptor it did not open itself, a library's
//! included, and the numbers come back as other files. So a descriptor here knows the identity of
//! its file, looks at it before and after each use, and opens the file anew by its path when the
//! number was lost. It is never closed when it has become somebody else's.
//!
//! A descriptor that a call has opened itself is [`Fresh`]: for a moment it is used as it is, and
//! looked at once, when it is kept for later or closed. Had its number been lost on the way to
//! another file, it would not be back, so that look tells of all uses. It is no way to write: whose
//! file it was is told too late.
//!
//! # Unsafe code
//!
//! The number is held as an integer, because an `OwnedFd` could neither be replaced through a
//! shared reference nor be left unclosed. Turning it back into a descriptor is what is unsafe.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// What a descriptor may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading alone.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    /// The flags that open an existing object for this: never one behind a link in its last
    /// component, never waiting for the other end of a FIFO, never adopting a terminal.
    pub(crate) fn open_flags(self) -> OFlags {
        let access = match self {
            Self::ReadOnly => OFlags::RDONLY,
            Self::ReadWrite => OFlags::RDWR,
        };
        access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY
    }
}

/// What tells a file from every other that exists at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectIdentity {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl ObjectIdentity {
    pub(crate) fn of(fd: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        rustix::fs::fstat(fd).map(|stat| Self::from_stat(&stat))
    }

    pub(crate) fn from_stat(stat: &rustix::fs::Stat) -> Self {
        Self { dev: stat.st_dev, ino: stat.st_ino }
    }
}

/// A descriptor of one file that is held in some way.
pub(crate) trait Hold {
    /// Runs `operation` on the descriptor.
    fn with<T>(
        &self,
        operation: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno>;

    fn identity(&self) -> ObjectIdentity;

    fn access(&self) -> Access;

    /// Where the file can be found again, if anywhere.
    fn path(&self) -> Option<&Path>;
}

/// A descriptor that is kept; see the module's text.
#[derive(Debug)]
pub(crate) struct Descriptor {
    number: AtomicI32,
    identity: ObjectIdentity,
    access: Access,
    path: Option<PathBuf>,
}

impl Descriptor {
    /// Runs `operation` on the descriptor; `None` if it was lost before or meanwhile.
    fn checked<T>(
        &self,
        operation: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Option<Result<T, Errno>> {
        let fd = self.borrow();
        if !self.is_ours(fd) {
            return None;
        }
        let result = operation(fd);
        self.is_ours(fd).then_some(result)
    }

    fn is_ours(&self, fd: BorrowedFd<'_>) -> bool {
        ObjectIdentity::of(fd) == Ok(self.identity)
    }

    /// Opens the file by its path, if the same file is still there, and goes on with that.
    fn replace(&self) -> Result<(), Errno> {
        // Relaxed: the number publishes no memory, and every use of it is checked.
        let lost = self.number.load(Ordering::Relaxed);
        let fresh = self.open_by_path()?;
        let number = fresh.into_raw_fd();
        let won = self.number.compare_exchange(lost, number, Ordering::Relaxed, Ordering::Relaxed);
        if won.is_err() {
            // SAFETY: `into_raw_fd` made the number ours just now, and it was stored nowhere.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
        Ok(())
    }

    /// A new open file description of the file, by its path; `EBADF` if it is not there.
    fn open_by_path(&self) -> Result<OwnedFd, Errno> {
        let path = self.path.as_deref().ok_or(Errno::BADF)?;
        let fd = rustix::fs::open(path, self.access.open_flags(), Mode::empty())?;
        if self.is_ours(rustix::fd::AsFd::as_fd(&fd)) { Ok(fd) } else { Err(Errno::BADF) }
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the number came from an `OwnedFd`, so it is not -1, and this value keeps it open
        // as long as it lives. If the program closed it behind our back, system calls on it fail or
        // reach another file, which `is_ours` notices; no memory safety hangs on it.
        unsafe { BorrowedFd::borrow_raw(self.number.load(Ordering::Relaxed)) }
    }
}

impl Hold for Descriptor {
    /// Runs `operation` on the descriptor; on a new one of the same file if it was lost.
    ///
    /// When the descriptor is lost while `operation` runs, that runs again.
    fn with<T>(
        &self,
        mut operation: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match self.checked(&mut operation) {
            Some(result) => result,
            None => {
                self.replace()?;
                self.checked(&mut operation).unwrap_or(Err(Errno::BADF))
            }
        }
    }

    fn identity(&self) -> ObjectIdentity {
        self.identity
    }

    fn access(&self) -> Access {
        self.access
    }

    fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if self.is_ours(self.borrow()) {
            // SAFETY: the number is open, is of our file, and is stored nowhere else.
            drop(unsafe { OwnedFd::from_raw_fd(*self.number.get_mut()) });
        }
    }
}

/// A descriptor that the call under way has opened; see the module's text.
#[derive(Debug)]
pub(crate) struct Fresh(Descriptor);

impl Fresh {
    /// Takes the descriptor over, whose file has that identity. `path` is where its file can be
    /// found again, if anywhere.
    pub(crate) fn new(
        fd: OwnedFd,
        identity: ObjectIdentity,
        access: Access,
        path: Option<PathBuf>,
    ) -> Self {
        Self(Descriptor { number: AtomicI32::new(fd.into_raw_fd()), identity, access, path })
    }

    /// Keeps the descriptor for later, if everything so far was done on it.
    pub(crate) fn keep(self) -> Result<Descriptor, Errno> {
        if self.0.is_ours(self.0.borrow()) { Ok(self.0) } else { Err(Errno::BADF) }
    }

    /// Closes the descriptor; an error unless everything was done on it.
    pub(crate) fn close(self) -> Result<(), Errno> {
        let mut descriptor = ManuallyDrop::new(self.0);
        drop(descriptor.path.take());
        if !descriptor.is_ours(descriptor.borrow()) {
            return Err(Errno::BADF);
        }
        // SAFETY: the number is open, is of our file, and is stored nowhere else: the descriptor is
        // not dropped.
        drop(unsafe { OwnedFd::from_raw_fd(*descriptor.number.get_mut()) });
        Ok(())
    }
}

impl Hold for Fresh {
    /// Runs `operation` on the descriptor, whatever has become of it.
    fn with<T>(
        &self,
        mut operation: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        operation(self.0.borrow())
    }

    fn identity(&self) -> ObjectIdentity {
        self.0.identity
    }

    fn access(&self) -> Access {
        self.0.access
    }

    fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn of_file(path: &Path) -> (Descriptor, i32) {
        let fd = OwnedFd::from(std::fs::File::open(path).unwrap());
        let number = fd.as_raw_fd();
        let identity = ObjectIdentity::of(rustix::fd::AsFd::as_fd(&fd)).unwrap();
        let fresh = Fresh::new(fd, identity, Access::ReadOnly, Some(path.to_owned()));
        (fresh.keep().unwrap(), number)
    }

    /// What a daemoniser and an unlucky `open` do to a descriptor. `dup2` is one step, so that no
    /// other test's descriptor gets the number in between.
    fn put_another_file_at(number: i32) {
        let other = std::fs::File::open("/dev/null").unwrap();
        // SAFETY: plain system call on numbers; whose descriptor is replaced is the test's point.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
    }

    fn close(number: i32) {
        // SAFETY: the number is the one that the test put there.
        assert_eq!(unsafe { libc::close(number) }, 0);
    }

    #[test]
    fn a_lost_descriptor_is_opened_again_and_a_reused_number_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"content").unwrap();
        let (descriptor, number) = of_file(&path);
        put_another_file_at(number);
        let size = descriptor.with(|fd| rustix::fs::fstat(fd)).unwrap().st_size;
        assert_eq!(size, 7, "read from the file, not from what has its number now");
        drop(descriptor);
        close(number);
    }

    #[test]
    fn another_file_at_the_path_is_not_taken_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, b"content").unwrap();
        let (descriptor, number) = of_file(&path);
        let keep_inode = std::fs::File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, b"other").unwrap();
        put_another_file_at(number);
        assert_eq!(descriptor.with(|_| Ok(())), Err(Errno::BADF));
        drop(descriptor);
        drop(keep_inode);
        // Closing succeeds, so the drop left the number alone.
        close(number);
    }
}
