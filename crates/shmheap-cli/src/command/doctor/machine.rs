//! Limits and settings around `/dev/shm`: container, memory, process limits, kernel, systemd.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Resource;

use super::{Line, parse};
use crate::size;
use crate::target::SHM_DIRECTORY;

/// Users below this number are the system's; systemd leaves their shared memory alone.
const FIRST_PERSON_UID: u32 = 1000;
/// Descriptors a process needs for a handful of heaps and itself.
const DESCRIPTORS_MIN: u64 = 64;

/// All lines about the machine.
pub(super) fn examine(container: Option<&str>) -> Vec<Line> {
    let shm_bytes =
        rustix::fs::statvfs(SHM_DIRECTORY).map_or(0, |numbers| numbers.f_blocks * numbers.f_frsize);
    let kind = container.unwrap_or("none");
    vec![
        Line::ok("container", kind),
        judge_memory(memory_limit(), shm_bytes),
        judge_address_space(limit(Resource::As)),
        judge_file_size(limit(Resource::Fsize)),
        judge_locked_memory(limit(Resource::Memlock)),
        judge_descriptors(limit(Resource::Nofile)),
        judge_overcommit(read("/proc/sys/vm/overcommit_memory").as_deref()),
        judge_huge_pages(read("/sys/kernel/mm/transparent_hugepage/shmem_enabled").as_deref()),
        judge_remove_ipc(&logind_facts()),
        judge_proc(Path::new("/proc/self/cmdline").exists()),
    ]
}

/// Which kind of container this process runs in, if any.
pub(super) fn container() -> Option<String> {
    if Path::new("/.dockerenv").exists() {
        return Some("docker".to_owned());
    }
    if Path::new("/run/.containerenv").exists() {
        return Some("podman".to_owned());
    }
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("kubernetes".to_owned());
    }
    read("/run/systemd/container").map(|kind| kind.trim().to_owned())
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn limit(resource: Resource) -> Option<u64> {
    rustix::process::getrlimit(resource).current
}

/// The smallest memory limit that holds for this process.
fn memory_limit() -> Option<u64> {
    let cgroup = read("/proc/self/cgroup")?;
    let limits = parse::limit_files(&cgroup).into_iter().filter_map(read);
    limits.filter_map(|text| parse::memory_limit(&text)).min()
}

fn judge_memory(limit: Option<u64>, shm_bytes: u64) -> Line {
    const CHECK: &str = "memory limit";
    match limit {
        None => Line::ok(CHECK, "none from a control group"),
        Some(bytes) if bytes < shm_bytes => Line::warn(
            CHECK,
            format!(
                "{}, less than /dev/shm ({}): heaps count, so the kernel may kill a process \
                 before /dev/shm is full",
                size::long(bytes),
                size::long(shm_bytes)
            ),
            "raise the limit (docker run --memory, systemd MemoryMax=), or keep heaps below it",
        ),
        Some(bytes) => Line::ok(CHECK, format!("{} (heaps count)", size::long(bytes))),
    }
}

fn judge_address_space(limit: Option<u64>) -> Line {
    const CHECK: &str = "address space";
    match limit {
        None => Line::ok(CHECK, "unlimited"),
        Some(bytes) => Line::warn(
            CHECK,
            format!("{} (RLIMIT_AS): the max_len of all heaps must fit", size::long(bytes)),
            "ulimit -v unlimited",
        ),
    }
}

fn judge_file_size(limit: Option<u64>) -> Line {
    const CHECK: &str = "file size";
    match limit {
        None => Line::ok(CHECK, "unlimited"),
        Some(bytes) => Line::warn(
            CHECK,
            format!("{} (RLIMIT_FSIZE): no heap can be larger", size::long(bytes)),
            "ulimit -f unlimited",
        ),
    }
}

fn judge_locked_memory(limit: Option<u64>) -> Line {
    let text = limit.map_or_else(|| "unlimited".to_owned(), size::long);
    Line::ok("locked memory", format!("{text} (RLIMIT_MEMLOCK); heaps need none"))
}

fn judge_descriptors(limit: Option<u64>) -> Line {
    const CHECK: &str = "descriptors";
    match limit {
        Some(count) if count < DESCRIPTORS_MIN => Line::warn(
            CHECK,
            format!("only {count} (RLIMIT_NOFILE)"),
            format!("ulimit -n {}", 16 * DESCRIPTORS_MIN),
        ),
        Some(count) => Line::ok(CHECK, format!("{count}")),
        None => Line::ok(CHECK, "unlimited"),
    }
}

fn judge_overcommit(text: Option<&str>) -> Line {
    const CHECK: &str = "overcommit";
    match text.map(str::trim) {
        Some("2") => Line::warn(
            CHECK,
            "strict (vm.overcommit_memory=2): growth fails when the commit limit is reached",
            "sysctl vm.overcommit_memory=0, or raise vm.overcommit_ratio",
        ),
        Some("1") => Line::ok(CHECK, "always (vm.overcommit_memory=1)"),
        Some(_) => Line::ok(CHECK, "heuristic (vm.overcommit_memory=0)"),
        None => Line::ok(CHECK, "unknown, /proc/sys/vm/overcommit_memory cannot be read"),
    }
}

fn judge_huge_pages(text: Option<&str>) -> Line {
    const CHECK: &str = "huge pages";
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
    match text.and_then(parse::chosen) {
        Some(word @ ("never" | "deny")) => Line::ok(
            CHECK,
            format!("off for shared memory ({word}); large heaps gain: echo within_size > {FILE}"),
        ),
        Some(word) => Line::ok(CHECK, format!("{word} for shared memory")),
        None => Line::ok(CHECK, "this kernel has none for shared memory"),
    }
}

/// What decides whether systemd removes heaps at logout.
#[derive(Debug)]
struct Logind {
    running: bool,
    remove_ipc: Option<bool>,
    uid: u32,
    lingers: bool,
}

fn logind_facts() -> Logind {
    let uid = rustix::process::getuid().as_raw();
    let texts: Vec<String> = logind_files().into_iter().filter_map(read).collect();
    let lingering = crate::account::user_name(uid);
    Logind {
        running: Path::new("/run/systemd/seats").exists(),
        remove_ipc: parse::remove_ipc(texts.iter().map(String::as_str)),
        uid,
        lingers: Path::new("/var/lib/systemd/linger").join(lingering).exists(),
    }
}

/// logind's configuration: main files, then drop-ins, which win in order of their names.
fn logind_files() -> Vec<PathBuf> {
    let main = ["/usr/lib/systemd/logind.conf", "/etc/systemd/logind.conf"];
    let mut files: Vec<PathBuf> = main.iter().map(PathBuf::from).collect();
    let mut drop_ins = Vec::new();
    for directory in [
        "/usr/lib/systemd/logind.conf.d",
        "/run/systemd/logind.conf.d",
        "/etc/systemd/logind.conf.d",
    ] {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        drop_ins.extend(entries.map(|entry| entry.path()));
    }
    drop_ins.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    drop_ins.sort_by_key(|path| path.file_name().map(std::ffi::OsStr::to_owned));
    files.extend(drop_ins);
    files
}

fn judge_remove_ipc(logind: &Logind) -> Line {
    const CHECK: &str = "logout";
    if !logind.running {
        return Line::ok(CHECK, "systemd-logind does not run here; heaps outlive a logout");
    }
    if logind.remove_ipc == Some(false) {
        return Line::ok(CHECK, "heaps outlive a logout (RemoveIPC=no)");
    }
    if logind.uid < FIRST_PERSON_UID {
        return Line::ok(CHECK, "heaps of system users outlive a logout");
    }
    if logind.lingers {
        return Line::ok(CHECK, "heaps outlive a logout (this user lingers)");
    }
    Line::warn(
        CHECK,
        "systemd removes this user's heaps at the last logout (RemoveIPC=yes)",
        "loginctl enable-linger, or RemoveIPC=no in /etc/systemd/logind.conf; \
         heaps in files are not touched",
    )
}

fn judge_proc(mounted: bool) -> Line {
    const CHECK: &str = "proc";
    if mounted {
        Line::ok(CHECK, "mounted")
    } else {
        Line::warn(
            CHECK,
            "/proc is not mounted: peers are listed without commands",
            "mount -t proc proc /proc",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_limit_below_dev_shm_is_a_warning() {
        assert_eq!(judge_memory(None, 1 << 30).status, Status::Ok);
        assert_eq!(judge_memory(Some(2 << 30), 1 << 30).status, Status::Ok);
        assert_eq!(judge_memory(Some(1 << 20), 1 << 30).status, Status::Warn);
    }

    #[test]
    fn process_limits_are_judged() {
        assert_eq!(judge_address_space(None).status, Status::Ok);
        assert_eq!(judge_address_space(Some(1 << 30)).status, Status::Warn);
        assert_eq!(judge_file_size(None).status, Status::Ok);
        assert!(judge_file_size(Some(1 << 20)).finding.contains("1.00 MiB"));
        assert_eq!(judge_descriptors(Some(20)).status, Status::Warn);
        assert_eq!(judge_descriptors(Some(1024)).status, Status::Ok);
    }

    #[test]
    fn kernel_settings_are_judged() {
        assert_eq!(judge_overcommit(Some("0\n")).status, Status::Ok);
        assert_eq!(judge_overcommit(Some("2\n")).status, Status::Warn);
        assert!(judge_huge_pages(Some("always [never] deny")).finding.contains("off"));
        assert!(judge_huge_pages(Some("[always] never")).finding.contains("always"));
    }

    #[test]
    fn only_people_lose_heaps_at_logout() {
        let logind = |running, remove_ipc, uid, lingers| {
            judge_remove_ipc(&Logind { running, remove_ipc, uid, lingers }).status
        };
        assert_eq!(logind(true, None, 1000, false), Status::Warn, "yes is the default");
        assert_eq!(logind(true, Some(true), 1000, false), Status::Warn);
        assert_eq!(logind(true, Some(false), 1000, false), Status::Ok);
        assert_eq!(logind(true, None, 999, false), Status::Ok);
        assert_eq!(logind(true, None, 1000, true), Status::Ok);
        assert_eq!(logind(false, None, 1000, false), Status::Ok);
    }
}
