//! Everything that the system gives a heap, and nothing about heaps.
//!
//! | file | gives |
//! |---|---|
//! | `path` | where an object lives, and the rules for its name |
//! | `object` | an open object: a name in /dev/shm, a file, a memfd |
//! | `unpublished` | an object that has no name yet and gets it whole or not at all |
//! | `storage` | storage reserved before it is touched: a full system is an error, not a signal |
//! | `copying` | bytes of an object in another |
//! | `descriptor` | a descriptor that is checked before it is believed |
//! | `mapping` | an object in this process's address space |
//! | `occupant` | what lies where an object could not be mapped |
//! | `futex` | sleeping and waking between processes |
//! | `life` | the kernel's word on whether a process still has its mapping |
//! | `fork` | memory that a forked child finds empty |
//! | `socket` | descriptors over a Unix socket |
//! | `process` | what a process tells about itself |
//!
//! This is the lowest layer. Its unsafe code stands in the files that open with
//! `#![allow(unsafe_code)]`, each with a section that says why it needs it.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "shmheap needs Linux: open-file-description locks, O_TMPFILE, memfd and MADV_WIPEONFORK"
);
#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
compile_error!(
    "shmheap needs a 64-bit little-endian target: its format and its futexes count on them"
);

mod copying;
pub(crate) mod descriptor;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod life;
pub(crate) mod mapping;
pub(crate) mod object;
mod occupant;
pub(crate) mod path;
pub(crate) mod process;
pub(crate) mod socket;
pub(crate) mod storage;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod unpublished;

pub(crate) use descriptor::{Access, Fresh, Hold};
pub(crate) use fork::{KeptWord, WipeOnFork};
pub(crate) use futex::{Futex, Parking};
pub(crate) use life::{ProofOfLife, Witness};
pub(crate) use mapping::{Mapping, WeakMapping};
pub(crate) use object::Object;
pub(crate) use path::{ObjectPath, SHARED_MEMORY_DIRECTORY};
pub(crate) use unpublished::{Unpublished, sweep_unfinished};

use crate::Error;
use rustix::io::Errno;

/// What the system refused, for a reason of its own.
pub(crate) fn refused(operation: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::System { operation, source: errno.into() }
}
