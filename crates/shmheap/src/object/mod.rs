//! Typed objects: what people build on a heap.
//!
//! | file | holds |
//! |---|---|
//! | `shareable` | which types may lie in a heap |
//! | `value` | plain values in rows of words |

#[cfg(test)]
pub(crate) mod killed;
pub(crate) mod shareable;
pub(crate) mod value;

pub use shareable::{Fingerprint, Shareable, refuse_padding};
#[cfg(feature = "derive")]
pub use shmheap_derive::Shareable;
