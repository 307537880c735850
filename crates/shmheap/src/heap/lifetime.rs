//! How a heap comes to its end: by hand, or with its last process.
//!
//! ```text
//!   last peer    leaves its slot --> locks all slots --> the name still leads here? unlink
//!   newcomer     opens the name --> locks a slot --> the name still leads here? connected
//! ```
//!
//! An ephemeral heap is removed by whoever holds the locks on the bytes of all slots: then nobody
//! is connected, and nobody becomes so meanwhile. A newcomer that had the object open already finds
//! afterwards that its name is gone, and is told that there is no such heap. A process that is
//! killed on the way has removed the name or not; its locks go with it, and the next one to come
//! does the same.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::NotAHeap;
use crate::heap::Heap;
use crate::heap::open::judge;
use crate::heap::shape::Shape;
use crate::os::life::Solitude;
use crate::os::{Access, Fresh, Hold, Object, ObjectPath, SHARED_MEMORY_DIRECTORY, object};
use crate::{Error, Result, events};

/// How long a newcomer that finds all slots locked tries again.
const PATIENCE: Duration = Duration::from_millis(100);

impl Heap {
    /// Removes a heap's name. Processes that are connected go on undisturbed; the memory is
    /// returned when the last of them disconnects. What is no heap is left alone.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::PermissionDenied`], [`Error::NotAHeap`].
    pub fn destroy(name: impl AsRef<OsStr>) -> Result<()> {
        destroy_at(&ObjectPath::named(name.as_ref())?)
    }

    /// Removes a file that holds a heap: see [`destroy`](Self::destroy).
    ///
    /// # Errors
    ///
    /// As [`destroy`](Self::destroy).
    pub fn destroy_file(path: impl AsRef<Path>) -> Result<()> {
        destroy_at(&ObjectPath::file(path.as_ref())?)
    }

    /// The ephemeral heap behind a name, unless its last process is gone.
    pub(super) fn connect_to_ephemeral(
        object: Object<Fresh>,
        shape: Shape,
        len_bytes: u64,
    ) -> Result<Self> {
        let Some(path) = object.path().map(Path::to_owned) else {
            return Self::connected(object, shape, len_bytes);
        };
        let (identity, name) = (object.identity(), object.label().to_owned());
        let end = Instant::now() + PATIENCE;
        let (mut object, mut shape, mut len_bytes) = (object, shape, len_bytes);
        loop {
            if retire(&object)? {
                return Err(Error::NotFound { name });
            }
            let again = object.reopen()?;
            match Self::connected(object, shape, len_bytes) {
                Ok(_) if !object::stands_at(&path, identity) => {
                    return Err(Error::NotFound { name });
                }
                // Whoever has locked all slots removes the name, or finds that he may not.
                Err(Error::TooManyPeers { .. }) if Instant::now() < end => {
                    thread::yield_now();
                    object = again;
                    (shape, len_bytes) = judge(&object)?;
                }
                connected => return connected,
            }
        }
    }

    /// Removes the heap's name if it is ephemeral and nobody is connected any more.
    pub(super) fn retire_if_last(&self) {
        if self.shape.is_ephemeral() && !self.is_read_only() {
            // What could not be done is left to the next one to come.
            let _ = retire(self.connection.object());
        }
    }
}

/// Removes the name of an ephemeral heap that nobody is connected to. Whether it is gone: not if
/// it is another user's to remove.
///
/// A program that destroys such a heap by hand and at once makes another of that name may do so
/// between the look at the name and its removal; then it is the new heap's name that goes.
fn retire<H: Hold>(object: &Object<H>) -> Result<bool> {
    let Some(path) = object.path() else { return Ok(false) };
    let Some(_alone) = Solitude::acquire_through(object.reopen()?)? else { return Ok(false) };
    if object.stands_at(path) && object::unlink_path(path).is_ok() {
        events::removed(object.label());
    }
    Ok(!object.stands_at(path))
}

/// Whether an ephemeral heap stood there whose processes are all gone. It is removed then.
pub(super) fn is_abandoned(at: &ObjectPath) -> bool {
    let retired = Object::open(at, Access::ReadWrite).and_then(|object| {
        let (shape, _) = judge(&object)?;
        Ok(shape.is_ephemeral() && retire(&object)?)
    });
    retired.unwrap_or(false)
}

/// Removes the [ephemeral](crate::HeapOptions::ephemeral) heaps in POSIX shared memory whose
/// processes were all killed; returns their names. Those that this user may not open or remove are
/// passed over.
///
/// # Errors
///
/// [`Error::System`] if the directory cannot be read.
pub fn sweep_abandoned() -> Result<Vec<OsString>> {
    let failed = |source| Error::System { operation: "listing shared memory", source };
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(SHARED_MEMORY_DIRECTORY).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if ObjectPath::named(&name).is_ok_and(|at| is_abandoned(&at)) {
            removed.push(name);
        }
    }
    removed.sort();
    Ok(removed)
}

fn destroy_at(at: &ObjectPath) -> Result<()> {
    match Object::open(at, Access::ReadOnly) {
        Ok(object) => match judge(&object) {
            // A heap that cannot be used, but was one, is its owner's to remove.
            Ok(_) | Err(Error::VersionMismatch { .. }) => remove(at),
            Err(Error::NotAHeap {
                why: NotAHeap::Truncated { .. } | NotAHeap::BadHeader(_),
                ..
            }) => remove(at),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn remove(at: &ObjectPath) -> Result<()> {
    object::unlink(at)?;
    events::removed(at.label());
    Ok(())
}
