//! Reads the system's texts: mount tables, control groups, kernel settings, logind's options.

use std::path::{Path, PathBuf};

/// A line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: String,
    pub(super) kind: String,
    /// Options of the mount and of its file system.
    pub(super) options: Vec<String>,
}

impl Mount {
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|candidate| candidate == option)
    }

    /// The value of `name=value`.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The mount that `path` lies on: the longest mount point above it, the last of equals.
pub(super) fn mount_of(mountinfo: &str, path: &Path) -> Option<Mount> {
    mountinfo
        .lines()
        .filter_map(mount)
        .filter(|mount| path.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.len())
}

/// `36 35 98:0 /root /point options [tags] - type source options`
fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(4);
    let point = place.next()?.replace("\\040", " ");
    let mut kind_fields = kind.split(' ');
    let kind = kind_fields.next()?.to_owned();
    let options = [place.next()?, kind_fields.nth(1).unwrap_or_default()];
    let options = options.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
    Some(Mount { point, kind, options })
}

/// Files that may limit the memory of this process, from `/proc/self/cgroup`: those of its control
/// group and of every group above it.
pub(super) fn limit_files(cgroup: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (top, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        for group in Path::new(group.trim_start_matches('/')).ancestors() {
            files.push(Path::new(top).join(group).join(file));
        }
    }
    files
}

/// A limit as the kernel writes it: bytes, or none ("max", or the huge number of version 1).
pub(super) fn memory_limit(text: &str) -> Option<u64> {
    let bytes = text.trim().parse().ok()?;
    (bytes < 1 << 60).then_some(bytes)
}

/// The chosen word of `always [madvise] never`.
pub(super) fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(word, _)| word)
}

/// The last `RemoveIPC=` in the texts of logind's configuration, in the order it reads them.
pub(super) fn remove_ipc<'t>(texts: impl IntoIterator<Item = &'t str>) -> Option<bool> {
    texts
        .into_iter()
        .flat_map(str::lines)
        .filter_map(|line| line.trim().strip_prefix("RemoveIPC")?.trim_start().strip_prefix('='))
        .filter_map(|value| match value.trim().to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "1" => Some(true),
            "no" | "false" | "off" | "0" => Some(false),
            _ => None,
        })
        .last()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = "\
1044 935 0:95 / / rw,relatime master:335 - overlay overlay rw,lowerdir=/a:/b
1046 1044 0:98 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
1052 1046 0:100 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k,huge=never
1060 1044 0:101 / /mnt/a\\040b rw - ext4 /dev/sda1 rw
broken line
";

    #[test]
    fn the_longest_mount_point_wins() {
        let mount = mount_of(DOCKER, Path::new("/dev/shm")).unwrap();
        assert_eq!((mount.point.as_str(), mount.kind.as_str()), ("/dev/shm", "tmpfs"));
        assert!(mount.has("noexec") && !mount.has("ro"));
        assert_eq!(mount.value("size"), Some("65536k"));
        assert_eq!(mount.value("huge"), Some("never"));
        assert_eq!(mount_of(DOCKER, Path::new("/dev/shmx")).unwrap().point, "/dev");
        assert_eq!(mount_of(DOCKER, Path::new("/mnt/a b/c")).unwrap().kind, "ext4");
        assert_eq!(mount_of("", Path::new("/dev/shm")), None);
    }

    #[test]
    fn limits_of_the_group_and_those_above() {
        let paths = |texts: &[&str]| texts.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(
            limit_files("0::/a/b\n"),
            paths(&[
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max",
            ])
        );
        assert_eq!(
            limit_files("12:cpu,cpuacct:/x\n5:memory:/x\nnonsense\n"),
            paths(&[
                "/sys/fs/cgroup/memory/x/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ])
        );
        assert_eq!(memory_limit("max\n"), None);
        assert_eq!(memory_limit("9223372036854771712\n"), None, "version 1 without a limit");
        assert_eq!(memory_limit("536870912\n"), Some(512 << 20));
    }

    #[test]
    fn the_word_in_brackets_is_chosen() {
        assert_eq!(chosen("always within_size advise [never] deny force\n"), Some("never"));
        assert_eq!(chosen("never"), None);
        assert_eq!(chosen(""), None);
    }

    #[test]
    fn the_last_remove_ipc_counts() {
        assert_eq!(remove_ipc(["[Login]\n#RemoveIPC=no\n"]), None, "a comment");
        assert_eq!(remove_ipc(["RemoveIPC=yes", "[Login]\n RemoveIPC = no \n"]), Some(false));
        assert_eq!(remove_ipc(["RemoveIPC=off\nRemoveIPC=True"]), Some(true));
        assert_eq!(remove_ipc(["RemoveIPC=perhaps\nRemoveIPCX=no"]), None);
    }
}
