//! Mark and sweep: frees what the killed worker allocated and never linked anywhere.
//!
//! The heap knows every block, the directory leads to everything that counts; what the first has
//! and the second has not belongs to nobody.

use anyhow::Result;
use shmheap::{Handle, Heap};

use super::directory::Directory;
use super::object;

/// Unlinks what was never committed and returns every object that can be reached, in order. Only
/// for a single process.
pub(super) fn mark(directory: &Directory<'_>) -> Result<Vec<Handle>> {
    let mut reachable = directory.objects();
    for word in directory.index.words()? {
        reachable.push(word.handle);
        reachable.extend(directory.index.drop_uncommitted(&word, &directory.plan)?);
    }
    reachable.sort_unstable();
    Ok(reachable)
}

/// Live objects that are not among the `reachable`, which are in order.
pub(super) fn orphans(heap: &Heap, reachable: &[Handle]) -> Vec<Handle> {
    let live = heap.blocks().filter(|block| block.live).map(|block| block.handle);
    live.filter(|handle| reachable.binary_search(handle).is_err()).collect()
}

/// Frees objects.
pub(super) fn free_all(heap: &Heap, handles: &[Handle]) -> Result<()> {
    for &handle in handles {
        object::free(heap, handle)?;
    }
    Ok(())
}
