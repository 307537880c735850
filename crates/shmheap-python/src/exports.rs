//! Which objects are looked at: how many views this process has of each.
//!
//! Whoever frees an object asks here first, whichever of several buffers the views were made of. A
//! forked child has its parent's views, and so a copy of their count.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shmheap::Handle;

/// Views by handle; objects without one are not listed.
#[derive(Debug, Default)]
pub(crate) struct Exports(Mutex<HashMap<u64, usize>>);

impl Exports {
    /// One more view.
    pub(crate) fn add(&self, object: Handle) {
        *self.counts().entry(object.to_raw()).or_default() += 1;
    }

    /// One view less.
    pub(crate) fn remove(&self, object: Handle) {
        let mut counts = self.counts();
        if let Some(count) = counts.get_mut(&object.to_raw()) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&object.to_raw());
            }
        }
    }

    /// How many views there are.
    pub(crate) fn count(&self, object: Handle) -> usize {
        self.counts().get(&object.to_raw()).copied().unwrap_or(0)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        // Nothing in here panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
