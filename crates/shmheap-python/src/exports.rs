//! Which objects are looked at: how many views this process has of each.
//!
//! Whoever frees an object asks here first, whichever buffer the views were made of, and by
//! whichever connection: a process may have one for writing and one for reading. A forked child has
//! its parent's views, and so a copy of their count.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use shmheap::Handle;

/// Those of each heap that this process is connected to, by the heap's id.
static ALL: Mutex<Vec<(u128, Weak<Exports>)>> = Mutex::new(Vec::new());

/// Views by handle; objects without one are not listed.
#[derive(Debug, Default)]
pub(crate) struct Exports(Mutex<HashMap<u64, usize>>);

impl Exports {
    /// The views of a heap.
    pub(crate) fn of(heap: u128) -> Arc<Self> {
        let mut all = lock(&ALL);
        all.retain(|(_, exports)| exports.strong_count() > 0);
        let found = all.iter().find(|(id, _)| *id == heap).and_then(|(_, found)| found.upgrade());
        found.unwrap_or_else(|| {
            let exports = Arc::new(Self::default());
            all.push((heap, Arc::downgrade(&exports)));
            exports
        })
    }

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
        lock(&self.0)
    }
}

/// Nothing in here panics between two changes that belong together, so nothing is ever poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
