//! What the figures were taken on: nobody can judge them without.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine at the start of the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    /// Processes that wanted a processor in the last minute, on average: 0 on a quiet machine.
    pub(crate) load: String,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let first_word = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: first_word(&read("/proc/loadavg")),
        }
    }
}

/// What a line says behind its name and a colon.
fn field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':'));
    value.map_or("unknown", str::trim).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_name() {
        assert_eq!(field("processor\t: 0\nmodel name\t: A B\n", "model name"), "A B");
        assert_eq!(field("", "model name"), "unknown");
    }
}
