//! Typed objects: what people build on a heap.
//!
//! | file | holds |
//! |---|---|
//! | `shareable` | which types may lie in a heap |
//! | `derived` | what the derive macro has the compiler look at |
//! | `value` | plain values in rows of words |

pub mod derived;
#[cfg(test)]
pub(crate) mod killed;
pub(crate) mod shareable;
pub(crate) mod value;

pub use shareable::{Fingerprint, Shareable};
#[cfg(feature = "derive")]
pub use shmheap_derive::Shareable;
