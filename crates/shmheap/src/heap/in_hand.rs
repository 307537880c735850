//! What processes have in hand: unpublished objects, read from the ledger without a change to it.
//!
//! The ledger is read as it is, whoever writes to it meanwhile, so an object on its way from hand
//! to hand may be missed or seen a moment late. Nothing that stands there is believed but as a
//! number.

use crate::first_fit::Surroundings;
use crate::heap::connection::Host;
use crate::heap::shape::Engine;
use crate::heap::{Handle, Heap, InHand};
use crate::peers::LedgerEntry;

impl Heap {
    /// The unpublished objects of all peers, also of dead ones that were not swept yet, in no
    /// order. Costs a look at each thread record that was ever in use, and a system call for each
    /// object.
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let heap = shmheap::HeapOptions::new(1 << 16).create_memfd()?;
    /// let object = heap.alloc_unpublished(Layout::new::<u64>())?;
    /// let found = heap.in_hand();
    /// assert_eq!((found.len(), found[0].handle, found[0].alive), (1, object.handle(), true));
    /// object.keep();
    /// assert!(heap.in_hand().is_empty());
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    #[must_use]
    pub fn in_hand(&self) -> Vec<InHand> {
        let Ok(space) = self.object_space() else { return vec![] };
        let (words, threads, ledger) = (self.words(), self.shape.threads, self.ledger());
        let mut found = vec![];
        for record in self.thread_records() {
            let Some(owner) = threads.owner_now(&words, record) else { continue };
            for entry in threads.entries(record) {
                if let Some(raw) = ledger.owned_now(entry, &space, || self.seems_done(entry)) {
                    let alive = !self.connection.witness().is_dead(owner);
                    found.push(InHand { handle: Handle::from_raw(raw), owner: owner.0, alive });
                }
            }
        }
        found
    }

    fn seems_done(&self, entry: LedgerEntry) -> bool {
        match &self.shape.engine {
            Engine::FirstFit(engine) => {
                let words = self.words();
                let area = engine.current(&words);
                let has_storage = Host(self).ensure_head(area).is_ok();
                has_storage && engine.seems_done(&words, area, entry)
            }
            Engine::Slabs(_) => false,
        }
    }
}
