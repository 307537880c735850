//! `Held`: how much memory a peer holds.

use anyhow::{Context, Result};

use crate::peer::{Footprint, Worker};

/// A peer's memory from a moment on, before which it had no objects.
pub(super) struct Held {
    resident_before_bytes: u64,
}

impl Held {
    /// The program's own tables must be in memory already.
    pub(super) fn from_now() -> Result<Self> {
        Ok(Self { resident_before_bytes: resident_bytes()? })
    }

    /// `None` if it would mean nothing.
    pub(super) fn bytes(&self, worker: &impl Worker) -> Result<Option<u64>> {
        Ok(match worker.footprint() {
            Footprint::Stated(bytes) => Some(bytes),
            Footprint::Resident => {
                Some(resident_bytes()?.saturating_sub(self.resident_before_bytes))
            }
            Footprint::Meaningless => None,
        })
    }
}

/// What this process has in memory. Unlike `statm`, this is exact.
fn resident_bytes() -> Result<u64> {
    let path = "/proc/self/smaps_rollup";
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    stated_bytes(&text).with_context(|| format!("{path} states no Rss"))
}

fn stated_bytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_found() {
        let rollup = "00400000-7fff0000 ---p 00000000 00:00 0    [rollup]\n\
                      Rss:                9012 kB\nPss:                4321 kB\n";
        assert_eq!(stated_bytes(rollup), Some(9012 << 10));
        assert_eq!(stated_bytes("Pss:    4321 kB\n"), None);
        // How much it is, other tests change all the time.
        assert!(resident_bytes().unwrap() > 0);
    }
}
