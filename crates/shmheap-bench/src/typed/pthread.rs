//! The C library's mutex as processes share it: robust, so that the next one is told when somebody
//! dies with it.
//!
//! # Unsafe code
//!
//! Calls of the C library's functions on a mutex in a mapping; the numbers that it protects.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use anyhow::{Result, ensure};

use super::{Facility, Ground, Lock, Locks};
use crate::board::{self, Shared, Zeroable};
use crate::peer::Sharing;

#[derive(Debug)]
pub(crate) struct RobustMutex;

/// What processes share.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Place {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    counts: UnsafeCell<[u64; 2]>,
}

// SAFETY: any bytes make counts, which are used under the lock only. The mutex is made by
// `lay_out`, before others know of it, and used by the C library alone.
unsafe impl Zeroable for Place {}

// SAFETY: as above.
unsafe impl Sync for Place {}

impl Facility for RobustMutex {
    type Site = Shared<Place>;

    fn name(&self) -> &'static str {
        "pthread robust"
    }

    fn description(&self) -> String {
        "the C library's mutex, shared by processes and robust".to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn lay_out(&self, _name: &str) -> Result<Ground> {
        let file = board::create_for::<Place>()?;
        let number = board::number(&file);
        Shared::<Place>::inherited(number)?.initialize()?;
        Ok(Ground::new(number.to_string(), file))
    }

    fn enter(&self, address: &str) -> Result<Self::Site> {
        Shared::inherited(address.parse()?)
    }
}

impl Place {
    /// Makes the mutex, in a place that nobody else knows yet.
    fn initialize(&self) -> Result<()> {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: it initialises what it is given.
        let made = unsafe { libc::pthread_mutexattr_init(attributes) };
        // SAFETY: initialised above.
        let shared =
            unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
        // SAFETY: as above.
        let robust =
            unsafe { libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST) };
        ensure!([made, shared, robust] == [0; 3], "no robust mutexes that processes share");
        // SAFETY: there is room for a mutex, which nobody else uses yet.
        let made = unsafe { libc::pthread_mutex_init(self.mutex.get(), attributes) };
        ensure!(made == 0, "no mutex");
        Ok(())
    }
}

impl Locks for Shared<Place> {
    fn lock(&self) -> Result<impl Lock + '_> {
        Ok(&**self)
    }
}

impl Lock for &Place {
    #[inline]
    fn count(&self) -> [u64; 2] {
        // SAFETY: `lay_out` initialised the mutex.
        let error = unsafe { libc::pthread_mutex_lock(self.mutex.get()) };
        assert_eq!(error, 0, "a mutex that is no mutex, or whose owner died");
        // SAFETY: whoever has the mutex has the counts for itself.
        let counts = unsafe { &mut *self.counts.get() };
        counts[0] += 1;
        counts[1] += 1;
        let counts = *counts;
        // SAFETY: locked above.
        let error = unsafe { libc::pthread_mutex_unlock(self.mutex.get()) };
        assert_eq!(error, 0, "a mutex that is not ours");
        counts
    }
}
