//! `Handle`: the name of an object that means the same in every process.
//!
//! ```text
//!   63            48 47                                   0
//!  +----------------+--------------------------------------+
//!  |  generation    |  byte offset from the segment start  |
//!  +----------------+--------------------------------------+
//! ```
//!
//! The first-fit policy keeps no generations and writes 0 there. Offset 0 is the segment's own
//! header, so no object ever has the handle 0: it serves as "none".

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

const OFFSET_BITS: u32 = 48;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// A position-independent name of an object in a heap: a plain integer to send to any process by
/// pipe, socket, file or the heap itself.
///
/// A handle by itself gives no access: [`Heap::resolve`](crate::Heap::resolve) checks it.
///
/// ```
/// use shmheap::Handle;
/// let handle: Handle = "0x22040".parse()?;
/// assert_eq!(handle, Handle::from_raw(0x22040));
/// assert_eq!(handle.to_string(), "0x22040");
/// # Ok::<(), std::num::ParseIntError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Handle(u64);

impl Handle {
    /// The handle of no object.
    pub const NONE: Handle = Handle(0);

    /// Takes an integer that [`to_raw`](Self::to_raw) gave, in this process or another.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The handle of an object so far behind the segment's start, in one of its lives.
    pub(crate) const fn from_parts(offset_bytes: u64, generation: u64) -> Self {
        Self(offset_bytes & OFFSET_MASK | generation << OFFSET_BITS)
    }

    /// How far behind the segment's start the object lies.
    pub(crate) const fn offset_bytes(self) -> u64 {
        self.0 & OFFSET_MASK
    }

    /// Which life of that place it names.
    pub(crate) const fn generation(self) -> u64 {
        self.0 >> OFFSET_BITS
    }

    /// The integer to send to another process.
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        self.0
    }
}

impl From<Handle> for u64 {
    fn from(handle: Handle) -> Self {
        handle.to_raw()
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl FromStr for Handle {
    type Err = ParseIntError;

    /// Reads decimal, or hexadecimal after `0x`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).map(Self),
            None => text.parse().map(Self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for raw in [0, 1, 4096, u64::MAX] {
            let handle = Handle::from_raw(raw);
            assert_eq!(handle.to_string().parse(), Ok(handle));
            assert_eq!(raw.to_string().parse(), Ok(handle), "decimal is read too");
        }
        assert!("".parse::<Handle>().is_err());
        assert!("0x".parse::<Handle>().is_err());
        assert!("-1".parse::<Handle>().is_err());
        assert!("0x10000000000000000".parse::<Handle>().is_err());
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serialises_as_a_plain_integer() {
        let text = serde_json::to_string(&Handle::from_raw(77)).unwrap();
        assert_eq!(text, "77");
        assert_eq!(serde_json::from_str::<Handle>(&text).unwrap(), Handle::from_raw(77));
    }
}
