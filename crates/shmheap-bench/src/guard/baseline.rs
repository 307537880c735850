//! The committed counts, and what other counts are beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Growth up to this is no change for the worse: an unrelated one may move an instruction or two.
const TOLERANCE: f64 = 0.03;

/// Instructions for each operation.
pub(super) type Counts = BTreeMap<String, f64>;

/// What new counts are compared with.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// Another compiler makes other code.
    pub(super) compiler: String,
    pub(super) instructions: Counts,
}

/// What has become of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Better,
    Worse,
    /// Only one of the two has it.
    Unmatched,
}

impl Verdict {
    pub(super) fn of(old: Option<f64>, new: Option<f64>) -> Self {
        let Some((old, new)) = old.zip(new) else { return Self::Unmatched };
        match new / old - 1.0 {
            growth if growth > TOLERANCE => Self::Worse,
            growth if growth < -TOLERANCE => Self::Better,
            _ => Self::Same,
        }
    }

    pub(super) fn is_failure(self) -> bool {
        matches!(self, Self::Worse | Self::Unmatched)
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Unmatched => "NOT IN BOTH",
        }
    }
}

impl Baseline {
    pub(super) fn read() -> Result<Self> {
        let path = path();
        let context = || format!("cannot read '{}'; --guard --bless makes it", path.display());
        let text = fs::read_to_string(&path).with_context(context)?;
        serde_json::from_str(&text).with_context(context)
    }

    pub(super) fn write(&self) -> Result<()> {
        let path = path();
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, text).with_context(|| format!("cannot write '{}'", path.display()))
    }
}

fn path() -> PathBuf {
    crate::workspace().join("crates/shmheap-bench/guard/baseline.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_beyond_the_tolerance_fails() {
        let verdict = |old, new| Verdict::of(Some(old), Some(new));
        assert_eq!(verdict(100.0, 102.9), Verdict::Same);
        assert_eq!(verdict(100.0, 103.1), Verdict::Worse);
        assert_eq!(verdict(100.0, 90.0), Verdict::Better);
        assert_eq!(Verdict::of(None, Some(1.0)), Verdict::Unmatched);
        assert!(Verdict::Worse.is_failure() && Verdict::Unmatched.is_failure());
        assert!(!Verdict::Better.is_failure());
    }

    #[test]
    fn every_operation_has_a_committed_count() {
        let names: Vec<String> = Baseline::read().unwrap().instructions.into_keys().collect();
        let mut expected: Vec<String> =
            super::super::ops::all().into_iter().map(|op| op.name()).collect();
        expected.sort();
        assert_eq!(names, expected, "bless the baseline: cargo xtask bench --guard --bless");
    }
}
