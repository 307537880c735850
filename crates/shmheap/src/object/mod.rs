//! Typed objects: what people build on a heap.
//!
//! | file | holds |
//! |---|---|
//! | `shareable` | which types may lie in a heap |
//! | `derived` | what the derive macro has the compiler look at |
//! | `value` | plain values in rows of words |
//! | `place` | from handles to references |
//! | `boxed` | values that one process has for itself, and cells to hand them on |
//! | `belongings` | what values own, and how that is freed |
//! | `registry` | who holds what, and which names there are |
//! | `arc` | values that live as long as some process holds them |
//! | `pointer` | pointers inside objects |
//! | `roots` | values with names |
//! | `snapshot` | what types own, in copies of a heap |
//! | `traced` | which objects typed references lead to |

mod arc;
mod belongings;
mod boxed;
pub mod derived;
#[cfg(test)]
pub(crate) mod killed;
mod place;
mod pointer;
mod registry;
mod roots;
mod shareable;
mod snapshot;
mod traced;
pub(crate) mod value;

pub(crate) use arc::Held;
#[cfg(feature = "async")]
pub(crate) use arc::Lease;
pub use arc::{ShmArc, ShmWeak};
pub use boxed::{NotHandedOver, ShmBox, ShmCell};
pub use pointer::ShmPtr;
pub use roots::Root;
pub use shareable::{Fingerprint, OwnedCell, Shareable};
pub use traced::Reached;

#[cfg(feature = "derive")]
pub use shmheap_derive::Shareable;

#[cfg(test)]
mod tests;
