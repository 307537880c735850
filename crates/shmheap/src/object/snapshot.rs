//! Copying a heap: what types own is theirs in the copy, too, or is not there.
//!
//! ```text
//!   names --> registry --> roots, shared values --> belongings      each cell once
//!                |                                      |
//!                +-- object not in the copy?            +-- not in the copy, or somebody else's?
//!                      the name goes                          the cell is empty
//! ```
//!
//! The heap copies objects and cells at moments of their own (`heap/snapshot`). So a cell may name
//! an object that has come later or has gone, whose place a stranger would get in the copy; and an
//! object that went from cell to cell may be in both. Before anybody else knows the copy, this walk
//! through the cells of roots and shared values empties those.
//!
//! Nobody can tell of what programs keep as numbers in their own data; and the walk does not go
//! into messages of channels, nor into values that are themselves in a cell, whose types the cell
//! does not tell.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;

use crate::object::belongings::{self, List};
use crate::object::registry::Registry;
use crate::os::ObjectPath;
use crate::segment::words::Words;
use crate::units::WordIndex;
use crate::{Handle, Heap, Result};

impl Heap {
    /// Copies the heap to a new one of that name, while others work in it. In the copy are all
    /// objects that lived while it was made, under the same handles, with their names; nobody is
    /// connected to it. What changed meanwhile may be there as before or after, object by object:
    /// who needs several as of one moment keeps the others from changing them.
    ///
    /// A cell of a root or of a shared value is empty in the copy if its object is not there, or is
    /// in another cell as well. What lies deeper is as it was copied: messages in an
    /// [`ObjectChannel`](crate::ObjectChannel), and cells of a value that is itself in a cell, may
    /// name an object that is not in the copy, or one that another has, too. While these change,
    /// take no snapshot to work on; to look at, any will do. (Under the scalable policy what is not
    /// in the copy is `Stale` there for some time: no place has a handle at first that the heap has
    /// given meanwhile.)
    ///
    /// The copy has an id of its own, mode `0o600`, and the same address if the heap was made with
    /// [`same_address`](crate::HeapOptions::same_address). Objects that were unpublished stay in it
    /// as ordinary ones that nothing leads to. It stays until it is destroyed, also if the heap was
    /// made [`ephemeral`](crate::HeapOptions::ephemeral).
    ///
    /// Under [`Policy::FirstFit`](crate::Policy::FirstFit) others wait while the records are
    /// copied, 2.5 % of the heap's length, but no longer than for a process that is stopped.
    /// Through a read-only connection such a heap can be copied only if it is at rest for that
    /// long.
    ///
    /// Killed inside: there is no copy.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists),
    /// [`Error::InvalidName`](crate::Error::InvalidName),
    /// [`Error::NoSpace`](crate::Error::NoSpace),
    /// [`Error::PermissionDenied`](crate::Error::PermissionDenied);
    /// [`Error::ReadOnly`](crate::Error::ReadOnly) for a first-fit heap at work,
    /// [`Error::Damaged`](crate::Error::Damaged).
    ///
    /// ```
    /// use shmheap::Heap;
    /// use std::alloc::Layout;
    /// # let name = format!("/doc-snapshot-{}", std::process::id());
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// let object = heap.alloc_zeroed(Layout::new::<u64>())?;
    /// heap.snapshot(&name)?;
    /// let copy = Heap::connect_read_only(&name)?;
    /// assert!(copy.resolve(heap.handle(object)?).is_ok());
    /// # Heap::destroy(&name)?;
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn snapshot(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.snapshot_at(&ObjectPath::named(name.as_ref())?, cut_loose_ends)
    }

    /// As [`snapshot`](Self::snapshot), to a heap in a file, which
    /// [`connect_file_read_only`](Self::connect_file_read_only) looks into, and whose own snapshot
    /// brings it back.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot).
    pub fn snapshot_file(&self, path: impl AsRef<Path>) -> Result<()> {
        self.snapshot_at(&ObjectPath::file(path.as_ref())?, cut_loose_ends)
    }
}

/// Empties all cells of a copy that this process has for itself, but the first that leads to each
/// of its objects.
fn cut_loose_ends(copy: &Heap) -> Result<()> {
    let mut cut = Cut { heap: copy, owned: HashSet::new() };
    [Registry::roots(copy), Registry::shared(copy)].iter().try_for_each(|all| all.cut(&mut cut))
}

/// A walk through all cells that types tell of.
#[derive(Debug)]
pub(super) struct Cut<'h> {
    heap: &'h Heap,
    owned: HashSet<Handle>,
}

impl Cut<'_> {
    /// What is in a cell: it is emptied if that is not there, or is owned by another cell.
    fn keep(&mut self, cell: WordIndex) -> Option<Handle> {
        let object = self.heap.peek_at(cell)?;
        let is_kept = self.heap.span(object).is_ok() && self.owned.insert(object);
        if !is_kept {
            self.heap.gate().store(cell, 0);
        }
        is_kept.then_some(object)
    }

    /// What is in a cell and, if that starts a chain, what follows.
    pub(super) fn keep_chain(&mut self, mut cell: WordIndex, is_chain: bool) {
        while let Some(object) = self.keep(cell) {
            match self.heap.span(object) {
                Ok(object) if is_chain && object.words > 0 => cell = object.word(0),
                _ => return,
            }
        }
    }

    /// What is in a cell, and what it owns by that list; whether something is.
    pub(super) fn keep_value(&mut self, cell: WordIndex, list: List) -> bool {
        let Some(object) = self.keep(cell) else { return false };
        if let Ok(object) = self.heap.span(object) {
            for (cell, is_chain) in belongings::cells(self.heap, object, list) {
                self.keep_chain(cell, is_chain);
            }
        }
        true
    }
}
