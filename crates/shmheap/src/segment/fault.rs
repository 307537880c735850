//! `Fault`: why an engine refuses, before the heap tells the caller in full.

use crate::error::NotLive;

/// Why the engine refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The position is no live object.
    NotLive(NotLive),
    /// The records contradict each other.
    Damaged(&'static str),
    /// The storage behind records that others rely on cannot be had.
    NoStorage,
}
