//! Storage is reserved before it is touched.
//!
//! A shared mapping of a sparse object kills the process with `SIGBUS` when the system has no page
//! for a first touch. `fallocate` makes that an error at a place where it can be returned, and what
//! was reserved stays.

use std::ops::Range;

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, IoSlice, ReadWriteFlags};
use rustix::process::Resource;

use super::descriptor::Hold;
use super::object::Object;
use super::refused;
use crate::{Error, Result};

/// Where a reservation that signals keep interrupting stops getting smaller.
const STEP_BYTES_MIN: u64 = 2 << 20;
/// How much is written at once where zeros have to be.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl<H: Hold> Object<H> {
    /// Makes sure that every byte of the range has storage; the object grows as far as it must.
    pub(crate) fn reserve(&self, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.refuse_beyond_file_limits(&range)?;
        let done = self.allocate(&range).or_else(|errno| match errno {
            Errno::OPNOTSUPP | Errno::NOSYS => self.append_zeros(range.end),
            errno => Err(errno),
        });
        done.map_err(|errno| self.not_reserved(&range, errno))?;
        self.is_at_least(range.end);
        Ok(())
    }

    /// Gives the storage of the range, whole pages, back to the system. It reads as zeros until it
    /// is reserved again, and must not be touched before.
    pub(crate) fn discard(&self, range: Range<u64>) -> Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let length = range.end - range.start;
        let done = self.with(|fd| rustix::fs::fallocate(fd, flags, range.start, length));
        done.map_err(refused("giving storage back"))
    }

    /// Asks for the whole range at once: tmpfs gives all of it or nothing. It also starts over
    /// after a signal, so that a process with a fast timer needs smaller steps to get anywhere.
    fn allocate(&self, range: &Range<u64>) -> Result<(), Errno> {
        let mut from = range.start;
        let mut step = range.end - range.start;
        while from < range.end {
            let length = step.min(range.end - from);
            match self.with(|fd| rustix::fs::fallocate(fd, FallocateFlags::empty(), from, length)) {
                Ok(()) => from += length,
                Err(Errno::INTR) => step = (step / 2).max(STEP_BYTES_MIN),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// For file systems without `fallocate`: appends zeros up to `end`. Appending, not writing at a
    /// place, because another process may grow the object at the same time and use its bytes.
    fn append_zeros(&self, end: u64) -> Result<(), Errno> {
        loop {
            let size = u64::try_from(self.stat()?.st_size).unwrap_or(0);
            if size >= end {
                return Ok(());
            }
            let count =
                usize::try_from(end - size).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            let zeros = [IoSlice::new(&ZEROS[..count])];
            let append = ReadWriteFlags::APPEND;
            match self.with(|fd| rustix::io::pwritev2(fd, &zeros, 0, append)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Above the limit of the process, the kernel would answer with a deadly signal (`SIGXFSZ`).
    fn refuse_beyond_file_limits(&self, range: &Range<u64>) -> Result<()> {
        if range.end <= self.known_bytes() {
            return Ok(());
        }
        let limit = rustix::process::getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        if range.end <= limit.min(i64::MAX as u64) || range.end <= self.size_bytes()? {
            return Ok(());
        }
        let where_full = if range.end > i64::MAX as u64 {
            "no file is that large".to_owned()
        } else {
            format!("this process may make files of {} (ulimit -f)", human(limit))
        };
        Err(Error::NoSpace { needed_bytes: range.end - range.start, where_full })
    }

    fn not_reserved(&self, range: &Range<u64>, errno: Errno) -> Error {
        let needed_bytes = range.end - range.start;
        let where_full = match errno {
            Errno::NOSPC | Errno::NOMEM => return self.no_space(needed_bytes),
            Errno::DQUOT => format!("the disk quota of this user is used up; {}", self.room()),
            Errno::FBIG => "its file system has no files that large".to_owned(),
            errno => return refused("reserving storage (fallocate)")(errno),
        };
        Error::NoSpace { needed_bytes, where_full }
    }

    /// The error for storage that could not be had a moment ago.
    pub(crate) fn no_space(&self, needed_bytes: u64) -> Error {
        Error::NoSpace { needed_bytes, where_full: self.room() }
    }

    /// How full the storage is that the object lies on.
    fn room(&self) -> String {
        let place = self.path().and_then(|path| path.parent());
        match (place, self.with(|fd| rustix::fs::fstatvfs(fd))) {
            (Some(place), Ok(stat)) if stat.f_blocks > 0 => {
                let free = human(stat.f_bavail.saturating_mul(stat.f_frsize));
                let total = human(stat.f_blocks.saturating_mul(stat.f_frsize));
                format!("{} has {free} free of {total}", place.display())
            }
            _ => "the memory of this machine or container is used up".to_owned(),
        }
    }
}

/// A number of bytes for reading, rounded down.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let unit = (0..UNITS.len() - 1).find(|&unit| bytes >> (10 * unit) < 10_240);
    let unit = unit.unwrap_or(UNITS.len() - 1);
    format!("{} {}", bytes >> (10 * unit), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{NameGuard, in_own_process, tmpfs_of_own};
    use crate::os::{Access, Object, ObjectPath, Unpublished};
    use std::path::Path;

    fn no_space(error: Error) -> (u64, String) {
        match error {
            Error::NoSpace { needed_bytes, where_full } => (needed_bytes, where_full),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_full_tmpfs_is_an_error_and_what_was_reserved_stays() {
        in_own_process(
            module_path!(),
            "a_full_tmpfs_is_an_error_and_what_was_reserved_stays",
            || {
                let directory = tempfile::tempdir().unwrap();
                let Some(_mount) = tmpfs_of_own(directory.path(), "size=1m") else { return };
                let at = ObjectPath::file(&directory.path().join("heap")).unwrap();
                let object = Unpublished::create(&at, 0o600, None).unwrap().publish().unwrap();
                object.reserve(0..512 << 10).unwrap();
                let (needed, text) = no_space(object.reserve(512 << 10..4 << 20).unwrap_err());
                assert_eq!(needed, (4 << 20) - (512 << 10));
                let expected =
                    format!("{} has 512 KiB free of 1024 KiB", directory.path().display());
                assert_eq!(text, expected);
                assert_eq!(object.size_bytes().unwrap(), 512 << 10, "all or nothing");
                object.reserve(0..1 << 20).unwrap();
            },
        );
    }

    #[test]
    fn the_limit_of_file_sizes_is_an_error_not_a_signal() {
        in_own_process(module_path!(), "the_limit_of_file_sizes_is_an_error_not_a_signal", || {
            let object = Object::memfd(0o600, None).unwrap();
            object.reserve(0..2 << 20).unwrap();
            let limit = rustix::process::Rlimit { current: Some(1 << 20), maximum: None };
            rustix::process::setrlimit(Resource::Fsize, limit).unwrap();
            let (_, text) = no_space(object.reserve(0..3 << 20).unwrap_err());
            assert!(text.contains("1024 KiB (ulimit -f)"), "{text}");
            object.reserve(0..2 << 20).unwrap();
        });
    }

    #[test]
    fn sizes_that_no_file_has_are_refused() {
        let object = Object::memfd(0o600, None).unwrap();
        no_space(object.reserve(0..u64::MAX).unwrap_err());
        no_space(object.reserve(u64::MAX - 4096..u64::MAX).unwrap_err());
        object.reserve(5..5).unwrap();
        assert_eq!(object.size_bytes().unwrap(), 0);
    }

    #[test]
    fn without_fallocate_zeros_are_appended_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("heap");
        std::fs::write(&path, b"content").unwrap();
        let at = ObjectPath::file(&path).unwrap();
        let object = Object::open(&at, Access::ReadWrite).unwrap();
        object.append_zeros(3).unwrap();
        assert_eq!(object.size_bytes().unwrap(), 7);
        object.append_zeros(200_000).unwrap();
        let mut expected = vec![0; 200_000];
        expected[..7].copy_from_slice(b"content");
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn reserving_leaves_what_is_there() {
        let guard = NameGuard::new();
        let object = Unpublished::create(guard.at(), 0o600, None).unwrap().publish().unwrap();
        std::fs::write(guard.at().path(), b"content").unwrap();
        object.reserve(0..8192).unwrap();
        let mut bytes = [1; 8];
        assert_eq!(object.read_at(&mut bytes, 0).unwrap(), 8);
        assert_eq!(&bytes, b"content\0");
        assert_eq!(object.read_at(&mut bytes, 8190).unwrap(), 2, "short at the end");
        assert_eq!(object.read_at(&mut bytes, u64::MAX).unwrap_or(0), 0);
        let blocks = object.stat().unwrap().st_blocks;
        assert!(blocks >= 16, "8 KiB have storage: {blocks} blocks of 512 bytes");
        assert!(guard.at().path().starts_with(Path::new("/dev/shm")));
    }

    #[test]
    fn numbers_of_bytes_read_well() {
        for (bytes, text) in [(0, "0 bytes"), (10_239, "10239 bytes"), (10_240, "10 KiB")] {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(human(64 << 20), "64 MiB");
        assert_eq!(human(u64::MAX), "16777215 TiB");
    }
}
