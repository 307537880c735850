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
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::ParseIntError;
use std::str::FromStr;

const OFFSET_BITS: u32 = 48;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;

/// What a [`Handle`] names that does not say more: an object of any type.
#[derive(Debug, Clone, Copy)]
pub enum Untyped {}

/// A position-independent name of an object in a heap: a plain integer to send to any process by
/// pipe, socket, file or the heap itself.
///
/// A handle by itself gives no access: [`Heap::resolve`](crate::Heap::resolve) checks it. The type
/// is what those who pass it on have agreed upon; [`cast`](Self::cast) changes it.
///
/// ```
/// use shmheap::Handle;
/// let handle: Handle = "0x22040".parse()?;
/// assert_eq!(handle, Handle::from_raw(0x22040));
/// assert_eq!(handle.to_string(), "0x22040");
/// # Ok::<(), std::num::ParseIntError>(())
/// ```
#[repr(transparent)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(transparent, bound = ""))]
pub struct Handle<T = Untyped>(u64, PhantomData<fn() -> T>);

impl Handle {
    /// Takes an integer that [`to_raw`](Self::to_raw) gave, in this process or another.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw, PhantomData)
    }

    /// The handle of an object so far behind the segment's start, in one of its lives.
    pub(crate) const fn from_parts(offset_bytes: u64, generation: u64) -> Self {
        Self::from_raw(offset_bytes & OFFSET_MASK | generation << OFFSET_BITS)
    }
}

impl<T> Handle<T> {
    /// The handle of no object.
    pub const NONE: Self = Self(0, PhantomData);

    /// Whether it is the handle of no object.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The same object, said to be of another type. What is there is checked when the handle is
    /// used, not here.
    #[must_use]
    pub const fn cast<U>(self) -> Handle<U> {
        Handle(self.0, PhantomData)
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

// Not derived: a derive would ask the same of `T`, of which a handle has nothing.
impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

impl<T> PartialEq for Handle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Handle<T> {}

impl<T> PartialOrd for Handle<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Handle<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> Hash for Handle<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T> From<Handle<T>> for u64 {
    fn from(handle: Handle<T>) -> Self {
        handle.to_raw()
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({self})")
    }
}

impl<T> fmt::Display for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl<T> FromStr for Handle<T> {
    type Err = ParseIntError;

    /// Reads decimal, or hexadecimal after `0x`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let raw = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        raw.map(|raw| Handle::from_raw(raw).cast())
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
