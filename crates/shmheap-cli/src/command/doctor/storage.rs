//! `/dev/shm`: is it there, how large is it, and can heaps be made in it?
#![allow(unsafe_code)]
//!
//! # Safety
//!
//! One call of `fcntl(2)` with a lock description, which rustix does not offer.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{Line, parse};
use crate::output;
use crate::size;
use crate::target::SHM_DIRECTORY;

/// What docker and most container engines give a container that asks for nothing.
const CONTAINER_DEFAULT_BYTES: u64 = 64 << 20;
/// With less than this share left, growth will soon fail.
const SCARCE_PERCENT: u64 = 10;
/// The smallest heap that makes sense.
const NOTHING_LEFT_BYTES: u64 = 1 << 20;

const MOUNT_FIX: &str = "mount -t tmpfs -o mode=1777 tmpfs /dev/shm";

/// All lines about storage.
pub(super) fn examine(container: Option<&str>) -> Vec<Line> {
    let directory = Path::new(SHM_DIRECTORY);
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut lines = vec![judge_mount(parse::mount_of(&mountinfo, directory).as_ref())];
    match rustix::fs::statvfs(directory) {
        Err(error) => {
            lines.push(Line::fail("shm size", format!("{SHM_DIRECTORY}: {error}"), MOUNT_FIX));
            return lines;
        }
        Ok(numbers) => {
            let total = numbers.f_blocks * numbers.f_frsize;
            let available = numbers.f_bavail * numbers.f_frsize;
            lines.push(judge_size(total, available, container));
        }
    }
    if let Ok(metadata) = fs::metadata(directory) {
        lines.push(judge_mode(metadata.permissions().mode() & 0o7777));
    }
    let file = unnamed_file(directory);
    lines.push(judge_creation(&file));
    // Without a file there is nothing to lock, and nothing more to say.
    lines.extend(file.map(|file| judge_locks(take_ofd_lock(&file))));
    lines
}

fn judge_mount(mount: Option<&parse::Mount>) -> Line {
    const CHECK: &str = "shm mount";
    let Some(mount) = mount else {
        return Line::warn(CHECK, "cannot read /proc/self/mountinfo", "mount -t proc proc /proc");
    };
    if mount.point != SHM_DIRECTORY {
        let finding = format!(
            "{SHM_DIRECTORY} is no mount of its own, it lies on {} ({})",
            mount.point, mount.kind
        );
        return Line::warn(CHECK, finding, MOUNT_FIX);
    }
    if mount.kind != "tmpfs" {
        let finding = format!("{SHM_DIRECTORY} is {}, not tmpfs: heaps may be slow", mount.kind);
        return Line::warn(CHECK, finding, MOUNT_FIX);
    }
    if mount.has("ro") {
        let finding = format!("{SHM_DIRECTORY} is mounted read-only");
        return Line::fail(CHECK, finding, "mount -o remount,rw /dev/shm");
    }
    let huge = mount.value("huge").unwrap_or("never");
    Line::ok(CHECK, format!("tmpfs, writable, huge={huge}"))
}

fn judge_size(total: u64, available: u64, container: Option<&str>) -> Line {
    const CHECK: &str = "shm size";
    let finding = format!("{} free of {}", size::long(available), size::long(total));
    let larger = match container {
        Some(_) => {
            "start the container with a larger one: docker run --shm-size=2g, compose \
             shm_size: 2g, kubernetes: an emptyDir with medium: Memory at /dev/shm"
        }
        None => "mount -o remount,size=4G /dev/shm",
    };
    let clean = "`shmheap ls` shows who uses it, `shmheap gc --remove-idle` frees idle heaps";
    if available < NOTHING_LEFT_BYTES {
        Line::fail(CHECK, format!("{finding}: full"), format!("{clean}; or {larger}"))
    } else if output::percent(available, total) < SCARCE_PERCENT {
        Line::warn(CHECK, format!("{finding}: nearly full"), format!("{clean}; or {larger}"))
    } else if total <= CONTAINER_DEFAULT_BYTES {
        let whose = if container.is_some() { "the default of containers" } else { "small" };
        Line::warn(CHECK, format!("{finding}: {whose}"), larger)
    } else {
        Line::ok(CHECK, finding)
    }
}

fn judge_mode(mode: u32) -> Line {
    const CHECK: &str = "shm access";
    if mode == 0o1777 {
        return Line::ok(CHECK, "every user may create heaps, and remove only their own");
    }
    let finding = format!("{SHM_DIRECTORY} has mode {mode:04o} instead of 1777");
    Line::warn(CHECK, finding, "chmod 1777 /dev/shm")
}

/// Opens a file without a name, as every new heap begins.
fn unnamed_file(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(file.into())
}

fn judge_creation<T>(result: &io::Result<T>) -> Line {
    const CHECK: &str = "heap creation";
    match result {
        Ok(_) => Line::ok(CHECK, "unnamed files (O_TMPFILE) work, so heaps appear all at once"),
        Err(error) => Line::fail(
            CHECK,
            format!("cannot make an unnamed file (O_TMPFILE) in {SHM_DIRECTORY}: {error}"),
            format!("make it a writable tmpfs: {MOUNT_FIX}"),
        ),
    }
}

/// Takes the lock that proves a process alive.
fn take_ofd_lock(file: &File) -> io::Result<()> {
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open for as long as `file` lives, and F_OFD_SETLK reads one `flock`
    // from the pointer, which is valid for the length of the call.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn judge_locks(result: io::Result<()>) -> Line {
    const CHECK: &str = "proof of life";
    match result {
        Ok(()) => Line::ok(CHECK, "open-file-description locks work, so dead peers are noticed"),
        Err(error) => Line::fail(
            CHECK,
            format!("cannot lock a file in {SHM_DIRECTORY}: {error}"),
            "use Linux 3.15 or newer, and a sandbox that permits fcntl(F_OFD_SETLK)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    const GIB: u64 = 1 << 30;

    fn mount(line: &str) -> Line {
        judge_mount(parse::mount_of(line, Path::new(SHM_DIRECTORY)).as_ref())
    }

    #[test]
    fn mounts_are_judged() {
        let line = mount("1 0 0:1 / /dev/shm rw - tmpfs shm rw,size=65536k");
        assert_eq!(line.status, Status::Ok, "{line:?}");
        let line = mount("1 0 0:1 / /dev/shm ro - tmpfs shm rw");
        assert_eq!(line.status, Status::Fail, "{line:?}");
        let line = mount("1 0 0:1 / / rw - overlay overlay rw");
        assert_eq!(line.status, Status::Warn, "{line:?}");
        let line = mount("1 0 0:1 / /dev/shm rw - ext4 /dev/sda rw");
        assert_eq!(line.status, Status::Warn, "{line:?}");
        assert_eq!(mount("").status, Status::Warn);
    }

    #[test]
    fn sizes_are_judged() {
        assert_eq!(judge_size(8 * GIB, 7 * GIB, None).status, Status::Ok);
        let line = judge_size(64 << 20, 60 << 20, Some("docker"));
        assert_eq!(line.status, Status::Warn);
        assert!(line.fix.unwrap().contains("--shm-size"));
        let line = judge_size(8 * GIB, GIB / 2, None);
        assert_eq!(line.status, Status::Warn, "{line:?}");
        assert!(line.fix.unwrap().contains("remount,size="));
        assert_eq!(judge_size(8 * GIB, 4096, None).status, Status::Fail);
        assert_eq!(judge_size(0, 0, None).status, Status::Fail);
    }

    #[test]
    fn modes_are_judged() {
        assert_eq!(judge_mode(0o1777).status, Status::Ok);
        assert_eq!(judge_mode(0o755).fix.unwrap(), "chmod 1777 /dev/shm");
    }

    #[test]
    fn refusals_of_the_system_fail() {
        let refused = || io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        assert_eq!(judge_creation::<File>(&Err(refused())).status, Status::Fail);
        assert_eq!(judge_locks(Err(refused())).status, Status::Fail);
    }

    #[test]
    fn locks_are_really_taken() {
        let file = tempfile::tempfile().unwrap();
        take_ofd_lock(&file).unwrap();
        let read_only = File::open("/proc/self/exe").unwrap();
        assert!(take_ofd_lock(&read_only).is_err(), "a write lock needs a writable descriptor");
    }
}
