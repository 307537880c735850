//! What lies where an object had to be mapped: the kernel's list, put into words for people.
//!
//! ```text
//! 7f1e2a000000-7f1e2a400000 rw-s 00000000 00:1b 4711                       /dev/shm/example
//! from         to           how  offset   device inode                     what it is
//! ```
//!
//! Other threads map and unmap meanwhile, so nothing but a message depends on it.

use std::ops::Range;

use super::descriptor::ObjectIdentity;

/// What this process has in the range; `object` is what was to be mapped there.
pub(super) fn occupant(range: Range<usize>, object: ObjectIdentity) -> String {
    let Ok(maps) = std::fs::read("/proc/self/maps") else {
        return "something that /proc/self/maps would tell".to_owned();
    };
    // A path may have any bytes.
    described(&String::from_utf8_lossy(&maps), range, object)
}

fn described(maps: &str, range: Range<usize>, object: ObjectIdentity) -> String {
    let mut lines = maps.lines().filter_map(Line::parse);
    match lines.find(|line| line.start < range.end && range.start < line.end) {
        None => "something that is gone by now".to_owned(),
        Some(line) if line.identity == Some(object) => {
            "the heap itself, to which this process, or the one it was forked from, is connected"
                .to_owned()
        }
        Some(Line { what: "", .. }) => "memory of this process".to_owned(),
        Some(line) => format!("'{}'", line.what),
    }
}

/// A line of the list.
struct Line<'l> {
    start: usize,
    end: usize,
    identity: Option<ObjectIdentity>,
    what: &'l str,
}

impl<'l> Line<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let mut columns = line.splitn(6, ' ');
        let (start, end) = columns.next()?.split_once('-')?;
        let (major, minor) = columns.nth(2)?.split_once(':')?;
        let ino = columns.next()?.parse().ok()?;
        let dev = rustix::fs::makedev(hex(major)? as u32, hex(minor)? as u32);
        Some(Self {
            start: hex(start)? as usize,
            end: hex(end)? as usize,
            identity: (ino != 0).then_some(ObjectIdentity { dev, ino }),
            what: columns.next().unwrap_or_default().trim_start(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f0000000000-7f0000001000 rw-s 00000000 00:1b 4711                       /dev/shm/with a space
7f0000001000-7f0000002000 rw-p 00000000 00:00 0\x20
7f0000002000-7f0000003000 rw-p 00000000 00:00 0                          [stack]
";

    #[test]
    fn what_lies_there_is_named() {
        let object = ObjectIdentity { dev: rustix::fs::makedev(0, 0x1b), ino: 4711 };
        let other = ObjectIdentity { ino: 1, ..object };
        let at = |first: usize, last: usize, object| {
            let start = 0x7f00_0000_0000;
            described(MAPS, start + first..start + last, object)
        };
        assert_eq!(at(0xfff, 0x1000, other), "'/dev/shm/with a space'");
        assert!(at(0, 1, object).contains("is connected"));
        assert_eq!(at(0x1000, 0x3000, object), "memory of this process");
        assert_eq!(at(0x2000, 0x2001, object), "'[stack]'");
        assert_eq!(at(0x3000, 0x9000, object), "something that is gone by now");
        assert_eq!(described("nonsense\n-\n1-2 3\n", 0..9, object), at(0x3000, 0x9000, object));
    }

    #[test]
    fn this_process_has_its_stack_somewhere() {
        let local = 0_u8;
        let address = (&raw const local).addr();
        let found = occupant(address..address + 1, ObjectIdentity { dev: 0, ino: 0 });
        assert!(!found.contains("gone"), "{found}");
    }
}
