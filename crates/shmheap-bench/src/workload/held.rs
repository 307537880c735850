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
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    Ok(kib.with_context(|| format!("{path} states no Rss"))? << 10)
}

#[cfg(test)]
mod tests {
    use super::super::touch;
    use super::*;

    #[test]
    fn resident_memory_is_found() {
        let before_bytes = resident_bytes().unwrap();
        let mut table = vec![0_u8; 128 << 20];
        touch(&mut table, || 1);
        // Other tests have some memory meanwhile, or give it back.
        let grown_bytes = resident_bytes().unwrap() - before_bytes;
        assert!((96 << 20..160 << 20).contains(&grown_bytes), "{grown_bytes}");
    }
}
