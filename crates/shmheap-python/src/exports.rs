//! Which objects are looked at: how many views this process has of each.
//!
//! Whoever frees an object asks here first, whichever buffer the views were made of, and by
//! whichever connection: a process may have one for writing and one for reading. While an object is
//! being freed it is marked, and who wants to look at it then waits: so no view comes to be of what
//! is about to go. A forked child has its parent's views, and so a copy of their count.
//!
//! Threads come here attached to the interpreter alone, so no fork finds a lock taken.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use pyo3::prelude::*;
use shmheap::Handle;

/// Those of each heap that this process is connected to, by the heap's id.
static ALL: Mutex<Vec<(u128, Weak<Exports>)>> = Mutex::new(Vec::new());

/// How long to wait before the next look at whether an object has been freed.
const PAUSE: Duration = Duration::from_micros(50);

/// In the place of a count: a thread of this process is freeing the object.
const FREED: usize = usize::MAX;

/// Counts of views by handle; objects without one are not listed.
#[derive(Debug, Default)]
pub(crate) struct Exports(Mutex<HashMap<u64, usize>>);

/// A view of an object, or the right to free it, until this is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Mark<'e> {
    exports: &'e Exports,
    object: Handle,
}

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

    /// One more view. Waits while another thread frees the object, which may be gone then.
    pub(crate) fn view(&self, py: Python<'_>, object: Handle) -> Mark<'_> {
        self.settled(py, object, |count| *count += 1);
        Mark { exports: self, object }
    }

    /// The right to free it; or how many views there are.
    pub(crate) fn claim(&self, py: Python<'_>, object: Handle) -> Result<Mark<'_>, usize> {
        match self.settled(py, object, |count| {
            if *count == 0 { mem::replace(count, FREED) } else { *count }
        }) {
            0 => Ok(Mark { exports: self, object }),
            views => Err(views),
        }
    }

    /// One view less, of those that were [kept](Mark::keep).
    pub(crate) fn end(&self, object: Handle) {
        drop(Mark { exports: self, object });
    }

    /// Looks at the count of an object that nobody is just freeing. It is not left at 0.
    fn settled<T>(
        &self,
        py: Python<'_>,
        object: Handle,
        change: impl FnOnce(&mut usize) -> T,
    ) -> T {
        loop {
            let mut counts = lock(&self.0);
            let count = counts.entry(object.to_raw()).or_insert(0);
            if *count != FREED {
                return change(count);
            }
            drop(counts);
            // Who frees it may need the interpreter to come to its end.
            py.detach(|| std::thread::sleep(PAUSE));
        }
    }
}

/// In a forked child: what other threads of its parent were freeing is none of its business.
#[pyfunction]
pub(crate) fn forget_frees() {
    for exports in lock(&ALL).iter().filter_map(|(_, exports)| exports.upgrade()) {
        lock(&exports.0).retain(|_, count| *count != FREED);
    }
}

impl Mark<'_> {
    /// Leaves a view to [`Exports::end`].
    pub(crate) fn keep(self) {
        mem::forget(self);
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        let mut counts = lock(&self.exports.0);
        match counts.get_mut(&self.object.to_raw()) {
            Some(count) if (2..FREED).contains(count) => *count -= 1,
            _ => {
                counts.remove(&self.object.to_raw());
            }
        }
    }
}

/// Nothing in here panics between two changes that belong together, so nothing is ever poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
