//! `Unpublished`: an object that gets its name when it is complete, or never.
//!
//! ```text
//!   create            fill in              publish
//!   O_TMPFILE    ->   fallocate, write ->  linkat(/proc/self/fd/N, path)
//!   (no name)                              (EEXIST: somebody was faster)
//! ```
//!
//! Whoever opens the path finds a complete object or none, and a creator that is killed on the way
//! leaves nothing, as the kernel drops a file without a name with its last descriptor.
//!
//! On file systems without `O_TMPFILE` the object starts under a temporary name next to its own,
//! `.shmheap-` and a random number, which a killed creator leaves behind. Its creator holds a
//! `flock` on it as long as it lives; so [`sweep_unfinished`] can tell those that nobody finishes.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::descriptor::{Access, Fresh, ObjectIdentity};
use super::object::{Object, link_of, owner_hint, permission_bits};
use super::path::{ObjectPath, UNFINISHED_PREFIX};
use super::{process, refused};
use crate::{Error, Result};

/// How often a temporary name is tried that somebody else swept at once.
const TEMPORARY_NAME_TRIES: u32 = 16;

/// An object that is not yet to be found under its name; see the module's text.
#[derive(Debug)]
pub(crate) struct Unpublished {
    /// The object, to be filled in.
    pub(crate) object: Object<Fresh>,
    pub(crate) name: FutureName,
}

/// The name that an object is to get.
#[derive(Debug)]
pub(crate) struct FutureName {
    at: ObjectPath,
    /// The name it has meanwhile, where it cannot be without one.
    temporary: Option<TemporaryName>,
}

/// Makes an object that has no name yet; `None` where none can be without one.
type Nameless = fn(&ObjectPath, Mode, Option<u32>) -> Result<Option<Unpublished>>;

impl Unpublished {
    /// An empty object that will live at `at`, with exactly this mode, whatever the umask.
    pub(crate) fn create(at: &ObjectPath, mode: u32, group: Option<u32>) -> Result<Self> {
        Self::create_with(at, mode, group, Self::without_name)
    }

    fn create_with(
        at: &ObjectPath,
        mode: u32,
        group: Option<u32>,
        nameless: Nameless,
    ) -> Result<Self> {
        let mode = permission_bits(mode)?;
        if rustix::fs::lstat(at.path()).is_ok() {
            return Err(Error::AlreadyExists { name: at.label().to_owned() });
        }
        match nameless(at, mode, group)? {
            Some(unpublished) => Ok(unpublished),
            None => Self::under_temporary_name(at, mode, group),
        }
    }

    /// `None` where the file system, or a system without /proc, cannot do that.
    fn without_name(at: &ObjectPath, mode: Mode, group: Option<u32>) -> Result<Option<Self>> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(at.directory(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => fd,
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(not_created(at, errno)),
        };
        let (object, stat) = Self::future_object(at, fd)?;
        // By its link it gets its name, and is opened once more.
        if !object.is_found_by_link() {
            return Ok(None);
        }
        object.set_owner_and_mode(&stat, mode, group)?;
        let name = FutureName { at: at.clone(), temporary: None };
        Ok(Some(Self { object, name }))
    }

    /// The object knows already where it will be found: whoever keeps a descriptor of it from
    /// before it has its name finds it there when the descriptor is lost.
    fn future_object(at: &ObjectPath, fd: OwnedFd) -> Result<(Object<Fresh>, Stat)> {
        let stat = rustix::fs::fstat(&fd).map_err(refused("looking at the object"))?;
        let (label, path) = (at.label().to_owned(), Some(at.path().to_owned()));
        let object = Object::of_regular_file(fd, &stat, Access::ReadWrite, label, path)?;
        Ok((object, stat))
    }

    fn under_temporary_name(at: &ObjectPath, mode: Mode, group: Option<u32>) -> Result<Self> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
        for _ in 0..TEMPORARY_NAME_TRIES {
            let path = at.unfinished_sibling(process::random_bits()?);
            let fd = match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
                Ok(fd) => fd,
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(not_created(at, errno)),
            };
            let locked = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
            let (object, stat) = Self::future_object(at, fd)?;
            let temporary = Some(TemporaryName(path));
            // A sweep that came before the lock has taken the name for abandoned.
            let links = object.stat().map_or(0, |stat| stat.st_nlink);
            if locked.is_ok() && links > 0 {
                object.set_owner_and_mode(&stat, mode, group)?;
                return Ok(Self { object, name: FutureName { at: at.clone(), temporary } });
            }
        }
        Err(not_created(at, Errno::BUSY))
    }

    /// Gives the object its name as it is.
    #[cfg(test)]
    pub(crate) fn publish(self) -> Result<Object> {
        let object = self.object.keep()?;
        self.name.give(&object)?;
        Ok(object)
    }
}

impl FutureName {
    /// The object once more, as by [`Object::reopen`], before it has the name.
    pub(crate) fn reopen(&self, object: &Object) -> Result<Object<Fresh>> {
        match &self.temporary {
            Some(temporary) => object.reopen_at(&temporary.0),
            None => object.reopen_by_link(),
        }
    }

    /// Gives the object its name.
    pub(crate) fn give(self, object: &Object) -> Result<()> {
        let path = self.at.path();
        let linked = match &self.temporary {
            Some(temporary) => rustix::fs::link(&temporary.0, path),
            None => object.with(|fd| {
                rustix::fs::linkat(CWD, link_of(fd), CWD, path, AtFlags::SYMLINK_FOLLOW)
            }),
        };
        linked.map_err(|errno| match errno {
            Errno::EXIST => Error::AlreadyExists { name: self.at.label().to_owned() },
            errno => not_created(&self.at, errno),
        })?;
        if let Some(temporary) = self.temporary {
            drop(temporary);
            let _ = object.with(|fd| rustix::fs::flock(fd, FlockOperation::Unlock));
        }
        Ok(())
    }
}

/// A name that is removed with its object still under it. If it cannot be removed, or its process
/// is killed first, a sweep does it.
#[derive(Debug)]
struct TemporaryName(PathBuf);

impl Drop for TemporaryName {
    fn drop(&mut self) {
        let _ = rustix::fs::unlink(&self.0);
    }
}

/// Removes the unfinished objects of a directory whose creators are gone; returns their names.
/// Those that this user may not open or remove are passed over.
pub(crate) fn sweep_unfinished(directory: &Path) -> Result<Vec<OsString>> {
    let failed = |source| Error::System { operation: "listing the directory", source };
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let unfinished = name.as_bytes().starts_with(UNFINISHED_PREFIX.as_bytes());
        if unfinished && remove_if_abandoned(&directory.join(&name)).is_ok() {
            removed.push(name);
        }
    }
    removed.sort();
    Ok(removed)
}

fn remove_if_abandoned(path: &Path) -> Result<(), Errno> {
    let fd = rustix::fs::open(path, Access::ReadOnly.open_flags(), Mode::empty())?;
    rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
    // Between the opening and the lock, the name may have come to stand for another object.
    let opened = ObjectIdentity::of(rustix::fd::AsFd::as_fd(&fd))?;
    if ObjectIdentity::from_stat(&rustix::fs::lstat(path)?) != opened {
        return Err(Errno::AGAIN);
    }
    rustix::fs::unlink(path)
}

fn not_created(at: &ObjectPath, errno: Errno) -> Error {
    let name = at.label().to_owned();
    match errno {
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            let stat = rustix::fs::stat(at.directory()).ok();
            let directory = at.directory().display();
            let hint = owner_hint(stat.as_ref(), "choose a directory that this user may write");
            Error::PermissionDenied { action: "create", name, hint: format!("{directory}: {hint}") }
        }
        Errno::NOENT | Errno::NOTDIR => {
            refused("creating the heap's file (is there a directory for it?)")(errno)
        }
        Errno::NAMETOOLONG => Error::InvalidName { name, why: "its path is too long" },
        Errno::NOSPC | Errno::DQUOT => Error::NoSpace {
            needed_bytes: 0,
            where_full: format!("{} takes no more files", at.directory().display()),
        },
        errno => refused("creating an object in its directory")(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{NameGuard, in_own_process};
    use std::os::unix::fs::MetadataExt;

    const NEVER: Nameless = |_, _, _| Ok(None);
    const BOTH_WAYS: [Nameless; 2] = [Unpublished::without_name, NEVER];

    /// A directory of tmpfs, as `/dev/shm` is; swept and listed by nobody else.
    fn directory() -> tempfile::TempDir {
        tempfile::tempdir_in(super::super::SHARED_MEMORY_DIRECTORY).unwrap()
    }

    fn names_in(directory: &Path) -> Vec<OsString> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_name_appears_complete_or_not_at_all() {
        for way in BOTH_WAYS {
            let directory = directory();
            let at = ObjectPath::file(&directory.path().join("heap")).unwrap();
            let unpublished = Unpublished::create_with(&at, 0o640, None, way).unwrap();
            let nameless = way(&at, Mode::RUSR, None).unwrap().is_some();
            assert_eq!(unpublished.name.temporary.is_none(), nameless);
            unpublished.object.reserve(0..4096).unwrap();
            assert!(!at.path().exists());
            let identity = unpublished.object.identity();
            let Unpublished { object, name } = unpublished;
            let object = object.keep().unwrap();
            // A proof of life is taken through it before it has its name.
            assert_eq!(name.reopen(&object).unwrap().identity(), identity);
            assert_eq!(object.reopen().unwrap().identity(), identity);
            name.give(&object).unwrap();
            assert_eq!(names_in(directory.path()), ["heap"]);
            let found = Object::open(&at, Access::ReadWrite).unwrap();
            assert_eq!((found.identity(), found.size_bytes().unwrap()), (identity, 4096));
            assert_eq!(object.reopen().unwrap().identity(), identity);
            let error = Unpublished::create_with(&at, 0o600, None, way).unwrap_err();
            assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_dropped_unpublished_leaves_nothing() {
        for way in BOTH_WAYS {
            let directory = directory();
            let at = ObjectPath::file(&directory.path().join("heap")).unwrap();
            drop(Unpublished::create_with(&at, 0o600, None, way).unwrap());
            assert!(names_in(directory.path()).is_empty());
        }
    }

    #[test]
    fn of_two_creators_the_first_to_publish_wins() {
        for way in BOTH_WAYS {
            let directory = directory();
            let at = ObjectPath::file(&directory.path().join("heap")).unwrap();
            let slow = Unpublished::create_with(&at, 0o600, None, way).unwrap();
            let fast = Unpublished::create_with(&at, 0o600, None, way).unwrap().publish().unwrap();
            let error = slow.publish().unwrap_err();
            assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
            let standing = Object::open(&at, Access::ReadOnly).unwrap();
            assert_eq!(standing.identity(), fast.identity());
            assert_eq!(names_in(directory.path()), ["heap"]);
        }
    }

    #[test]
    fn a_sweep_takes_what_nobody_finishes_and_nothing_else() {
        let directory = directory();
        let at = ObjectPath::file(&directory.path().join("heap")).unwrap();
        let being_made = Unpublished::create_with(&at, 0o600, None, NEVER).unwrap();
        let abandoned = at.unfinished_sibling(1);
        std::fs::write(&abandoned, b"half").unwrap();
        std::fs::write(directory.path().join("shmheap-x"), b"foreign").unwrap();
        std::fs::create_dir(directory.path().join(".shmheap-directory")).unwrap();
        let swept = sweep_unfinished(directory.path()).unwrap();
        assert_eq!(swept, [abandoned.file_name().unwrap()]);
        being_made.publish().unwrap();
        let mut left = names_in(directory.path());
        left.sort();
        assert_eq!(left, [".shmheap-directory", "heap", "shmheap-x"]);
        assert!(sweep_unfinished(Path::new("/no-such-directory")).is_err());
    }

    #[test]
    fn the_mode_is_exact_whatever_the_umask() {
        in_own_process(module_path!(), "the_mode_is_exact_whatever_the_umask", || {
            for umask in [0o077, 0] {
                rustix::process::umask(Mode::from_raw_mode(umask));
                for mode in [0o600, 0o666, 0o640, 0] {
                    for way in BOTH_WAYS {
                        let guard = NameGuard::new();
                        let group = Some(rustix::process::getgid().as_raw());
                        let made = Unpublished::create_with(guard.at(), mode, group, way).unwrap();
                        made.publish().unwrap();
                        let found = std::fs::metadata(guard.at().path()).unwrap().mode() & 0o7777;
                        assert_eq!(found, mode, "umask {umask:o}");
                    }
                    let memfd = Object::memfd(mode, None).unwrap();
                    assert_eq!(memfd.stat().unwrap().st_mode & 0o7777, mode);
                }
            }
        });
    }

    #[test]
    fn modes_and_places_that_cannot_be_are_refused() {
        let guard = NameGuard::new();
        let error = Unpublished::create(guard.at(), 0o1600, None).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "mode", .. }), "{error}");
        let nowhere = ObjectPath::file(Path::new("/no-such-directory/heap")).unwrap();
        assert_eq!(Unpublished::create(&nowhere, 0o600, None).unwrap_err().errno(), libc::ENOENT);
        let no_room = ObjectPath::file(Path::new("/proc/heap")).unwrap();
        assert!(Unpublished::create(&no_room, 0o600, None).is_err());
    }
}
