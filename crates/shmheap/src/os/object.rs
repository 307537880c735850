//! `Object`: an open piece of memory that processes can share, whatever it is made of.
//!
//! A name in POSIX shared memory, a regular file and a memfd differ in how they come to be
//! (`unpublished`, [`Object::memfd`], [`Object::from_fd`]); from then on they are the same. An
//! object is always a regular file to the kernel; anything else is refused at the door.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, SealFlags, Stat};
use rustix::io::Errno;

use super::descriptor::{Access, Descriptor, Fresh, Hold, ObjectIdentity};
use super::path::ObjectPath;
use super::refused;
use crate::{Error, NotAHeap, Result};

/// Permission bits that an object can have.
const MODE_BITS: u32 = 0o777;
/// What fails when the program closes the descriptors of a call under way.
const LOST: &str = "using the object's descriptor, which the program has closed meanwhile";

/// An open object; see the module's text. It is fresh in the call that opens it, and kept by
/// whoever has it for longer.
#[derive(Debug)]
pub(crate) struct Object<H = Descriptor> {
    label: String,
    descriptor: H,
    /// A size that it is known to have had. An object of a heap never gets shorter.
    known_bytes: AtomicU64,
}

impl Object<Fresh> {
    /// Opens an object that stands.
    pub(crate) fn open(at: &ObjectPath, access: Access) -> Result<Self> {
        let fd = rustix::fs::open(at.path(), access.open_flags(), Mode::empty())
            .map_err(|errno| not_opened(at, access, errno))?;
        let (stat, path) = (looked_at(&fd)?, Some(at.path().to_owned()));
        Self::of_regular_file(fd, &stat, access, at.label().to_owned(), path)
    }

    /// A new object without a name, empty, in memory.
    pub(crate) fn memfd(mode: u32, group: Option<u32>) -> Result<Self> {
        let mode = permission_bits(mode)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("shmheap", flags).map_err(refused("memfd_create"))?;
        let stat = looked_at(&fd)?;
        let object = Self::of_regular_file(fd, &stat, Access::ReadWrite, "memfd".to_owned(), None)?;
        object.set_owner_and_mode(&stat, mode, group)?;
        Ok(object)
    }

    /// The object behind a descriptor that came from elsewhere. It may be used for what the
    /// descriptor was opened for, and is closed on exec from now on.
    pub(crate) fn from_fd(fd: OwnedFd) -> Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&fd).map_err(refused("looking at the descriptor"))?;
        let (label, path) = where_descriptor_leads(fd.as_fd());
        let access = match flags & (OFlags::ACCMODE | OFlags::PATH) {
            OFlags::RDWR => Access::ReadWrite,
            OFlags::RDONLY => Access::ReadOnly,
            _ => {
                let hint = "open it for reading, or for reading and writing".to_owned();
                let action = "read through the descriptor of";
                return Err(Error::PermissionDenied { action, name: label, hint });
            }
        };
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)
            .map_err(refused("marking the descriptor close-on-exec"))?;
        let stat = looked_at(&fd)?;
        Self::of_regular_file(fd, &stat, access, label, path)
    }

    /// The object whose descriptor was looked at just now.
    pub(super) fn of_regular_file(
        fd: OwnedFd,
        stat: &Stat,
        access: Access,
        label: String,
        path: Option<PathBuf>,
    ) -> Result<Self> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Error::NotAHeap { name: label, why: NotAHeap::NotAFile });
        }
        let descriptor = Fresh::new(fd, ObjectIdentity::from_stat(stat), access, path);
        Ok(Self { label, descriptor, known_bytes: AtomicU64::new(size_of_stat(stat)) })
    }

    /// The object, kept for later.
    pub(crate) fn keep(self) -> Result<Object> {
        let Self { label, descriptor, known_bytes } = self;
        let descriptor = descriptor.keep().map_err(refused(LOST))?;
        Ok(Object { label, descriptor, known_bytes })
    }

    /// Closes the object; an error if anything before was done on another, because the program
    /// closed its descriptor.
    pub(super) fn close(self) -> Result<(), Errno> {
        self.descriptor.close()
    }

    /// Sets group and mode as they are asked for, whatever the umask made of them.
    pub(super) fn set_owner_and_mode(
        &self,
        found: &Stat,
        mode: Mode,
        group: Option<u32>,
    ) -> Result<()> {
        if let Some(group) = group {
            let gid = rustix::fs::Gid::from_raw(group);
            self.with(|fd| rustix::fs::fchown(fd, None, Some(gid))).map_err(|errno| {
                if errno != Errno::PERM {
                    return refused("setting the object's group")(errno);
                }
                let hint = format!("this user must be a member of group {group}");
                let action = "set the group of";
                Error::PermissionDenied { action, name: self.label.clone(), hint }
            })?;
        } else if found.st_mode & 0o7777 == mode.as_raw_mode() {
            return Ok(());
        }
        // Last, because a change of the group clears bits of the mode.
        self.with(|fd| rustix::fs::fchmod(fd, mode)).map_err(refused("setting the object's mode"))
    }
}

impl<H: Hold> Object<H> {
    /// The name that messages use.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// What the object was opened for.
    pub(crate) fn access(&self) -> Access {
        self.descriptor.access()
    }

    /// Which file it is.
    pub(crate) fn identity(&self) -> ObjectIdentity {
        self.descriptor.identity()
    }

    /// Its size at this moment.
    pub(crate) fn size_bytes(&self) -> Result<u64> {
        let stat = self.stat().map_err(refused("reading the object's size"))?;
        self.is_at_least(size_of_stat(&stat));
        Ok(size_of_stat(&stat))
    }

    /// Its size at this moment, or a smaller one that is `enough` and known.
    pub(crate) fn size_if_not(&self, enough: u64) -> Result<u64> {
        match self.known_bytes() {
            known if known >= enough => Ok(known),
            _ => self.size_bytes(),
        }
    }

    /// A size that it had once.
    pub(super) fn known_bytes(&self) -> u64 {
        // Relaxed: the number only remembers what the kernel has told this process.
        self.known_bytes.load(Ordering::Relaxed)
    }

    /// Remembers a size.
    pub(super) fn is_at_least(&self, bytes: u64) {
        // Relaxed: as in `known_bytes`.
        self.known_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Reads from `offset` until `buffer` is full or the object ends; returns how many bytes.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            let Some(from) = offset.checked_add(done as u64) else { break };
            match self.with(|fd| rustix::io::pread(fd, &mut buffer[done..], from)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(refused("reading the object")(errno)),
            }
        }
        Ok(done)
    }

    /// Keeps every process from shortening a memfd under the others' feet.
    pub(crate) fn seal_against_shrinking(&self) -> Result<()> {
        self.with(|fd| rustix::fs::fcntl_add_seals(fd, SealFlags::SHRINK))
            .map_err(refused("sealing the memfd"))
    }

    /// The same object through an open file description that is shared with nobody.
    ///
    /// Locks belong to the description; one taken through a description that another process has,
    /// too, would be held by both.
    pub(crate) fn reopen(&self) -> Result<Object<Fresh>> {
        // By the path, which takes the kernel half the time. It may be another object's by now.
        let by_path = self.descriptor.path().and_then(|path| self.reopen_at(path).ok());
        by_path.map_or_else(|| self.reopen_by_link(), Ok)
    }

    /// As [`reopen`](Self::reopen), by a path where it should be.
    pub(super) fn reopen_at(&self, path: &Path) -> Result<Object<Fresh>> {
        let fd = rustix::fs::open(path, self.access().open_flags(), Mode::empty());
        self.reopened_as(fd.map_err(|errno| self.not_reopened(errno))?)
    }

    /// As [`reopen`](Self::reopen), for an object that is not to be found by its path.
    pub(super) fn reopen_by_link(&self) -> Result<Object<Fresh>> {
        let flags = self.access().open_flags().difference(OFlags::NOFOLLOW);
        let fd = self.with(|fd| rustix::fs::open(link_of(fd), flags, Mode::empty()));
        self.reopened_as(fd.map_err(|errno| self.not_reopened(errno))?)
    }

    /// Whether that path leads to it.
    pub(crate) fn stands_at(&self, path: &Path) -> bool {
        stands_at(path, self.identity())
    }

    /// Whether `/proc` has a link to the object.
    pub(super) fn is_found_by_link(&self) -> bool {
        let stat = self.with(|fd| rustix::fs::stat(link_of(fd)));
        stat.is_ok_and(|stat| ObjectIdentity::from_stat(&stat) == self.identity())
    }

    fn reopened_as(&self, fd: OwnedFd) -> Result<Object<Fresh>> {
        let stat = looked_at(&fd)?;
        if ObjectIdentity::from_stat(&stat) != self.identity() {
            return Err(self.not_reopened(Errno::BADF));
        }
        let path = self.descriptor.path().map(Path::to_owned);
        Object::of_regular_file(fd, &stat, self.access(), self.label.clone(), path)
    }

    /// A new descriptor, close-on-exec, to hand out.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd> {
        self.with(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3))
            .map_err(refused("duplicating the object's descriptor"))
    }

    /// Runs `operation` on the object's descriptor; on a new one if the program closed it.
    pub(super) fn with<T>(
        &self,
        operation: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.descriptor.with(operation)
    }

    /// Where it can be found again, if anywhere.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.descriptor.path()
    }

    pub(super) fn stat(&self) -> Result<Stat, Errno> {
        self.with(|fd| rustix::fs::fstat(fd))
    }

    fn not_reopened(&self, errno: Errno) -> Error {
        if errno != Errno::ACCESS {
            return refused("opening the object once more")(errno);
        }
        let hint = owner_hint(self.stat().ok().as_ref(), "ask its owner to widen its mode");
        Error::PermissionDenied { action: "open once more", name: self.label.clone(), hint }
    }
}

fn looked_at(fd: &OwnedFd) -> Result<Stat> {
    rustix::fs::fstat(fd).map_err(refused("looking at the object"))
}

fn size_of_stat(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Removes a name.
pub(crate) fn unlink_path(path: &Path) -> Result<(), Errno> {
    rustix::fs::unlink(path)
}

/// Whether that path leads to that object.
pub(crate) fn stands_at(path: &Path, identity: ObjectIdentity) -> bool {
    rustix::fs::lstat(path).is_ok_and(|stat| ObjectIdentity::from_stat(&stat) == identity)
}

/// Removes the object's name. Processes that have it open go on.
pub(crate) fn unlink(at: &ObjectPath) -> Result<()> {
    let name = || at.label().to_owned();
    unlink_path(at.path()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NotFound { name: name() },
        Errno::ISDIR => Error::NotAHeap { name: name(), why: NotAHeap::NotAFile },
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Error::PermissionDenied {
            action: "remove",
            name: name(),
            hint: owner_hint(
                rustix::fs::lstat(at.path()).ok().as_ref(),
                "only its owner, or who may write its directory, can",
            ),
        },
        errno => refused("removing the object's name")(errno),
    })
}

/// The mode as the system takes it.
pub(super) fn permission_bits(mode: u32) -> Result<Mode> {
    if mode & !MODE_BITS != 0 {
        let why = "permission bits are 0o000 to 0o777 (511)";
        return Err(Error::InvalidOption { option: "mode", value: u64::from(mode), why });
    }
    Ok(Mode::from_raw_mode(mode))
}

/// Who owns it and who may use it, as far as it is known, and what to do.
pub(super) fn owner_hint(stat: Option<&Stat>, advice: &str) -> String {
    let mut hint = String::new();
    if let Some(stat) = stat {
        let (user, group, mode) = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777);
        let _ = write!(hint, "it belongs to user {user}, group {group}, mode {mode:04o}; ");
    }
    hint + advice
}

/// The link through which /proc shows a descriptor of this process.
pub(super) fn link_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn not_opened(at: &ObjectPath, access: Access, errno: Errno) -> Error {
    let name = at.label().to_owned();
    match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NotFound { name },
        // A link, a directory, a socket, a device without a driver.
        Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV => {
            Error::NotAHeap { name, why: NotAHeap::NotAFile }
        }
        Errno::ACCESS | Errno::PERM | Errno::ROFS => {
            let action = match access {
                Access::ReadOnly => "read",
                Access::ReadWrite => "read and write",
            };
            let stat = rustix::fs::lstat(at.path()).ok();
            let hint = owner_hint(stat.as_ref(), "ask its owner to widen its mode");
            Error::PermissionDenied { action, name, hint }
        }
        Errno::NAMETOOLONG => Error::InvalidName { name, why: "its path is too long" },
        errno => refused("opening the object")(errno),
    }
}

/// A label for a descriptor, and the path of its file if that has one.
fn where_descriptor_leads(fd: BorrowedFd<'_>) -> (String, Option<PathBuf>) {
    let Ok(target) = std::fs::read_link(link_of(fd)) else {
        return (format!("descriptor {}", fd.as_raw_fd()), None);
    };
    let same = match (rustix::fs::lstat(&target), ObjectIdentity::of(fd)) {
        (Ok(stat), Ok(identity)) => ObjectIdentity::from_stat(&stat) == identity,
        _ => false,
    };
    (target.to_string_lossy().into_owned(), same.then_some(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Unpublished;
    use crate::os::testing::{NameGuard, become_user, exit_status, fork, in_own_process};
    use std::os::unix::net::UnixListener;

    fn open_file(path: &Path) -> Result<Object<Fresh>> {
        Object::open(&ObjectPath::file(path).unwrap(), Access::ReadWrite)
    }

    #[test]
    fn what_is_not_a_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let _socket = UnixListener::bind(path("socket")).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
        assert!(fifo.success());
        std::fs::write(path("file"), b"x").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        for name in ["socket", "fifo", "link", "directory"] {
            for access in [Access::ReadOnly, Access::ReadWrite] {
                let at = ObjectPath::file(&path(name)).unwrap();
                let error = Object::open(&at, access).unwrap_err();
                let why = NotAHeap::NotAFile;
                assert!(matches!(&error, Error::NotAHeap { why: w, .. } if *w == why), "{error}");
            }
        }
        let device = open_file(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(device, Error::NotAHeap { .. }), "{device}");
        let missing = open_file(&path("missing")).unwrap_err();
        assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
        let below_a_file = open_file(&path("file/heap")).unwrap_err();
        assert!(matches!(below_a_file, Error::NotFound { .. }), "{below_a_file}");
    }

    #[test]
    fn unlinking_tells_what_it_found() {
        let guard = NameGuard::new();
        assert!(matches!(unlink(guard.at()).unwrap_err(), Error::NotFound { .. }));
        let object = Unpublished::create(guard.at(), 0o600, None).unwrap().publish().unwrap();
        unlink(guard.at()).unwrap();
        assert!(!guard.at().path().exists());
        object.reserve(0..4096).unwrap();
        assert_eq!(object.reopen().unwrap().identity(), object.identity());
        let directory = tempfile::tempdir().unwrap();
        let at = ObjectPath::file(directory.path()).unwrap();
        assert!(matches!(unlink(&at).unwrap_err(), Error::NotAHeap { .. }));
    }

    #[test]
    fn a_descriptor_gives_what_it_was_opened_for() {
        let guard = NameGuard::new();
        Unpublished::create(guard.at(), 0o600, None).unwrap().publish().unwrap();
        let open = |flags| rustix::fs::open(guard.at().path(), flags, Mode::empty()).unwrap();
        let read_only = Object::from_fd(open(OFlags::RDONLY)).unwrap();
        assert_eq!(read_only.access(), Access::ReadOnly);
        assert_eq!(read_only.label(), guard.at().path().to_str().unwrap());
        let read_write = Object::from_fd(open(OFlags::RDWR)).unwrap();
        assert_eq!(read_write.access(), Access::ReadWrite);
        let flags = read_write.with(|fd| rustix::io::fcntl_getfd(fd)).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        for flags in [OFlags::WRONLY, OFlags::PATH] {
            let error = Object::from_fd(open(flags)).unwrap_err();
            assert!(matches!(error, Error::PermissionDenied { .. }), "{error}");
        }
        let (left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
        let error = Object::from_fd(left.into()).unwrap_err();
        assert!(matches!(error, Error::NotAHeap { .. }), "{error}");
    }

    #[test]
    fn a_sealed_memfd_grows_but_never_shrinks() {
        let object = Object::memfd(0o600, None).unwrap();
        object.reserve(0..8192).unwrap();
        object.seal_against_shrinking().unwrap();
        object.reserve(0..16384).unwrap();
        assert_eq!(object.with(|fd| rustix::fs::ftruncate(fd, 0)), Err(Errno::PERM));
        assert_eq!(object.size_bytes().unwrap(), 16384);
        let again = Object::from_fd(object.duplicate().unwrap()).unwrap();
        assert_eq!(again.reopen().unwrap().identity(), object.identity());
    }

    #[test]
    fn refused_permission_names_the_owner_and_the_mode() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root, to become somebody else");
            return;
        }
        in_own_process(module_path!(), "refused_permission_names_the_owner_and_the_mode", || {
            let guard = NameGuard::new();
            let object = Unpublished::create(guard.at(), 0o600, None).unwrap().publish().unwrap();
            let child = fork(|| {
                become_user(65_534);
                let error = Object::open(guard.at(), Access::ReadWrite).unwrap_err().to_string();
                let owner = "it belongs to user 0, group 0, mode 0600";
                let read = error.contains("read and write") && error.contains(owner);
                let removed = unlink(guard.at()).unwrap_err().to_string().contains(owner);
                let again = object.reopen().unwrap_err().to_string().contains(owner);
                i32::from(!(read && removed && again))
            });
            assert_eq!(exit_status(child), 0);
        });
    }
}
