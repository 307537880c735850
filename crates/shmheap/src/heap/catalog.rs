//! All heaps of the machine: a look through the directory of POSIX shared memory.

use std::ffi::OsString;
use std::path::Path;

use crate::error::NotAHeap;
use crate::heap::Heap;
use crate::os::{self, SHARED_MEMORY_DIRECTORY};
use crate::{Error, Result};

/// One object in the shared-memory directory that is, or may be, a heap.
#[derive(Debug)]
pub struct Listing {
    /// Its name, without the leading slash.
    pub name: OsString,
    /// A read-only connection, or why there is none: the object is a damaged heap, one of another
    /// version, not to be read by this user, or has to lie at an address that is taken here: of the
    /// heaps made with [`same_address`](crate::HeapOptions::same_address), those that this process
    /// is connected to.
    pub heap: Result<Heap>,
}

/// Every heap in POSIX shared memory of this machine, in order of name. Objects of other programs
/// are passed over.
///
/// # Errors
///
/// [`Error::System`] if the directory cannot be read.
///
/// ```
/// # let name = format!("doc-list-{}", std::process::id());
/// # shmheap::Heap::create(&name, 1 << 16)?;
/// for listing in shmheap::list()? {
///     match listing.heap {
///         Ok(heap) => println!("{:?}: {} objects", listing.name, heap.stats().live_objects),
///         Err(error) => println!("{:?}: {error}", listing.name),
///     }
/// }
/// # shmheap::Heap::destroy(&name)?;
/// # Ok::<(), shmheap::Error>(())
/// ```
pub fn list() -> Result<Vec<Listing>> {
    let failed = |source| Error::System { operation: "listing shared memory", source };
    let entries = std::fs::read_dir(SHARED_MEMORY_DIRECTORY).map_err(failed)?;
    let mut names: Vec<OsString> = vec![];
    for entry in entries {
        names.push(entry.map_err(failed)?.file_name());
    }
    names.sort();
    Ok(names
        .into_iter()
        .map(|name| Listing { heap: Heap::connect_read_only(&name), name })
        .filter(|listing| is_or_may_be_a_heap(&listing.heap))
        .collect())
}

fn is_or_may_be_a_heap(connected: &Result<Heap>) -> bool {
    !matches!(
        connected,
        Err(Error::NotAHeap { why: NotAHeap::Empty | NotAHeap::Foreign | NotAHeap::NotAFile, .. }
            // Gone since the directory was read, or never to be a heap's name.
            | Error::NotFound { .. }
            | Error::InvalidName { .. })
    )
}

/// Removes what crashed creators left in the shared-memory directory: objects that never became a
/// heap, on systems where they need a name before they are complete. Never a heap. Returns the
/// names removed.
///
/// # Errors
///
/// [`Error::System`] if the directory cannot be read.
pub fn sweep_unfinished() -> Result<Vec<OsString>> {
    os::sweep_unfinished(Path::new(SHARED_MEMORY_DIRECTORY))
}
