//! `sync`: locks and their kin that lie in a heap, for the threads of all its processes.
//!
//! | type | words | what a killed process costs the others |
//! |---|---|---|
//! | [`ShmMutex`] | 1 | its value is in doubt, until somebody repairs it |
//! | [`ShmRwLock`] | 16 | a writer as above; a reader nothing |
//! | [`ShmCondvar`] | 1 | a wake comes up to 50 ms late |
//! | [`ShmSemaphore`] | 1 | the permits that it took |
//! | [`ShmPermits`] | 1 + N | its permits come back |
//! | [`ShmOnce`] | 1 | what it was doing is done again |
//!
//! ```text
//!   object in the heap                     each word goes through the heap's gate
//!  +------+------ - - ------+--------+     +-------+   words.compare_exchange(..)
//!  | word | more words      | value  |     | owned |   roll.is_alive(owner)
//!  +------+------ - - ------+--------+     +-------+
//!     |                         |
//!     who is inside             what a guard gives out (`value`)
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `wait` | how long one waits, and how one sleeps |
//! | `owned`, `readers`, `shared` | protocols: a word with an owner, a table of readers, both |
//! | `bell` | protocol: a word that people listen to |
//! | `mutex`, `rwlock`, `condvar`, `semaphore`, `permits`, `once` | the types |
//! | `value` | the one unsafe file: what locks protect |
//!
//! # Rules
//!
//! All zeros are the first state, since that is what a fresh object can be made of. Owners are
//! stays among the peers ([`PeerId`](crate::peers::PeerId)), not numbers of processes or threads: a
//! word that names one means the same in every PID namespace and is never somebody else's later.
//! Every change is one exchange of one word, so a killed process leaves a state of the tables here,
//! and nothing in between. Nobody sleeps without an end. Words may hold anything that a broken
//! process put there: that costs exclusion, or an error, and neither a fault nor a wait that goes
//! on when its time is over.
//!
//! # Ordering
//!
//! Words are changed by exchanges alone, which are sequentially consistent: whoever takes a lock
//! sees what was written by whoever gave it back, and of two who each change a word and then look
//! at the other's, one sees the other (`readers`, `bell`).

mod bell;
mod condvar;
mod mutex;
mod once;
mod owned;
mod permits;
mod raw;
mod readers;
mod rwlock;
mod semaphore;
mod shared;
mod value;
mod wait;

pub(crate) use owned::{Owned, Want};
pub(crate) use wait::{Patience, Waiting};

pub use condvar::ShmCondvar;
pub use mutex::{ShmMutex, ShmMutexGuard};
pub use once::ShmOnce;
pub use permits::{ShmPermit, ShmPermits};
pub use raw::{Locked, RawMutex};
pub use rwlock::{ShmReadGuard, ShmRwLock, ShmWriteGuard};
pub use semaphore::ShmSemaphore;

use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use crate::units::WordIndex;
use crate::{Heap, Result};

/// Where a word of an object is.
#[inline]
fn word_of(heap: &Heap, word: &AtomicU64) -> Result<WordIndex> {
    heap.word_at(NonNull::from(word).cast())
}

#[cfg(test)]
mod tests;
