//! Tags, quotas and usage: what `include/shmheap/labels.h` declares.
//!
//! Tags that a thread has pushed lie in a list of its own, the last pushed last. Each is known with
//! the id of its heap, so that it is found through any connection to it.
//!
//! # Safety
//!
//! Tags are C strings, as the header promises. Usage is told to the caller's function outside the
//! gate (`call`), in a frame that has nothing to clean up: so it may call this library, and leave
//! by `longjmp` or a C++ exception.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use shmheap::{Error, Quota, TagScope, Usage};

use crate::call;
use crate::error::Failure;
use crate::options::MemoryHandle;

/// `SHMHEAP_QUOTA_HEAP`.
const OF_HEAP: u32 = 1;
/// `SHMHEAP_QUOTA_PEER`.
const OF_PEER: u32 = 2;
/// `SHMHEAP_QUOTA_TAG`.
const OF_TAG: u32 = 3;
/// `SHMHEAP_NO_QUOTA`.
const NO_QUOTA: u64 = u64::MAX;

/// `shmheap_usage_entry`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct UsageEntry {
    /// `SHMHEAP_QUOTA_*`.
    pub kind: u32,
    /// Of a process: its number in its own PID namespace.
    pub pid: u32,
    /// Of a process: its slot.
    pub slot: u32,
    /// Of a process: 1 while it is connected.
    pub alive: u32,
    /// Of a tag: its name.
    pub tag: *const c_char,
    /// Bytes of its objects.
    pub bytes: u64,
    /// How many these are.
    pub objects: u64,
    /// Bytes that it may have, or `SHMHEAP_NO_QUOTA`.
    pub quota: u64,
}

impl Default for UsageEntry {
    fn default() -> Self {
        let (kind, pid, slot, alive) = (OF_HEAP, 0, 0, 0);
        Self { kind, pid, slot, alive, tag: ptr::null(), bytes: 0, objects: 0, quota: NO_QUOTA }
    }
}

/// What is called for each entry.
type Visit = unsafe extern "C-unwind" fn(*const UsageEntry, *mut c_void) -> c_int;

thread_local! {
    /// The heap's id, and what ends the tag when it is dropped.
    static PUSHED: RefCell<Vec<(u128, TagScope)>> = const { RefCell::new(vec![]) };
}

/// `shmheap_tag_push`.
///
/// # Safety
///
/// `tag` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_tag_push(mem: MemoryHandle, tag: *const c_char) -> c_int {
    call::on_heap(mem, -1, |connection| {
        // SAFETY: the caller's promise.
        let tag = unsafe { tag_of(tag) }?.ok_or(NO_TAG)?;
        let scope = connection.heap.tag_scope(tag)?;
        let id = connection.heap.info().id;
        let pushed = PUSHED.try_with(|pushed| pushed.borrow_mut().push((id, scope)));
        pushed.map_err(|_| Failure::NoRoom("the thread is at its end and keeps no tags"))?;
        Ok(0)
    })
}

/// `shmheap_tag_pop`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_tag_pop(mem: MemoryHandle) -> c_int {
    call::on_heap(mem, -1, |connection| {
        let id = connection.heap.info().id;
        let popped = PUSHED.try_with(|pushed| {
            let mut pushed = pushed.borrow_mut();
            pushed.iter().rposition(|(of, _)| *of == id).map(|last| pushed.remove(last))
        });
        match popped {
            Ok(Some(_)) => Ok(0),
            _ => Err(Failure::Argument("this thread has pushed no tag of that heap")),
        }
    })
}

/// `shmheap_set_thread_tag`.
///
/// # Safety
///
/// `tag` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_set_thread_tag(mem: MemoryHandle, tag: *const c_char) -> c_int {
    call::on_heap(mem, -1, |connection| {
        // SAFETY: the caller's promise.
        connection.heap.set_thread_tag(unsafe { tag_of(tag) }?)?;
        Ok(0)
    })
}

/// `shmheap_set_quota`.
///
/// # Safety
///
/// `tag` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_set_quota(
    mem: MemoryHandle,
    kind: u32,
    tag: *const c_char,
    bytes: u64,
) -> c_int {
    call::on_heap(mem, -1, |connection| {
        // SAFETY: the caller's promise.
        let quota = match (kind, unsafe { tag_of(tag) }?) {
            (OF_HEAP, None) => Quota::Heap,
            (OF_PEER, None) => Quota::Peer,
            (OF_TAG, Some(tag)) => Quota::Tag(tag),
            (OF_TAG, None) => return Err(NO_TAG),
            (OF_HEAP | OF_PEER, Some(_)) => {
                return Err(Failure::Argument("a tag goes with SHMHEAP_QUOTA_TAG; else pass NULL"));
            }
            _ => return Err(Failure::Argument("unknown kind; use a SHMHEAP_QUOTA_ constant")),
        };
        connection.heap.set_quota(quota, (bytes != NO_QUOTA).then_some(bytes))?;
        Ok(0)
    })
}

/// `shmheap_usage`.
///
/// # Safety
///
/// `visit` is null or a function that can be called with an entry and `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn shmheap_usage(
    mem: MemoryHandle,
    visit: Option<Visit>,
    context: *mut c_void,
) -> c_int {
    let listed = call::on_heap(mem, None, |connection| {
        let visit = visit.ok_or(Failure::Argument("the function to call is NULL"))?;
        let usage = connection.heap.usage().ok_or(Error::NotLabelled)?;
        Ok(Some((visit, List::of(usage))))
    });
    let Some((visit, list)) = listed else { return -1 };
    // Without a destructor: see the module's text.
    let list: *mut List = Box::into_raw(Box::new(list));
    // SAFETY: made just now, and freed below.
    let count = unsafe { &*list }.entries.len();
    let mut answer = 0;
    for number in 0..count {
        // SAFETY: as above.
        let entry: *const UsageEntry = &raw const unsafe { &*list }.entries[number];
        // SAFETY: the caller's promise; the entry and its tag stand until the list is freed.
        answer = unsafe { visit(entry, context) };
        if answer != 0 {
            break;
        }
    }
    // SAFETY: from `Box::into_raw`, and used no more.
    drop(unsafe { Box::from_raw(list) });
    answer
}

/// What is told, and the names that it points to.
struct List {
    entries: Vec<UsageEntry>,
    _names: Vec<CString>,
}

impl List {
    fn of(usage: Usage) -> Self {
        let quota = |bytes: Option<u64>| bytes.unwrap_or(NO_QUOTA);
        let mut entries = vec![UsageEntry {
            bytes: usage.bytes,
            objects: usage.objects,
            quota: quota(usage.quota_bytes),
            ..UsageEntry::default()
        }];
        let mut names = vec![];
        for tag in usage.tags {
            // Control characters are none of a name that the library gives, a NUL among them.
            let name = CString::new(tag.name).unwrap_or_default();
            entries.push(UsageEntry {
                kind: OF_TAG,
                // What it points to stays where it is when the name is moved.
                tag: name.as_ptr(),
                bytes: tag.bytes,
                objects: tag.objects,
                quota: quota(tag.quota_bytes),
                ..UsageEntry::default()
            });
            names.push(name);
        }
        entries.extend(usage.peers.iter().map(|peer| UsageEntry {
            kind: OF_PEER,
            pid: peer.pid,
            slot: peer.slot.into(),
            alive: peer.alive.into(),
            bytes: peer.bytes,
            objects: peer.objects,
            quota: quota(usage.peer_quota_bytes),
            ..UsageEntry::default()
        }));
        Self { entries, _names: names }
    }
}

const NO_TAG: Failure = Failure::Argument("the tag is NULL; pass \"\" for none");

/// The text; `None` for null.
///
/// # Safety
///
/// `tag` is null or a C string that outlives the result.
unsafe fn tag_of<'call>(tag: *const c_char) -> Result<Option<&'call str>, Failure> {
    if tag.is_null() {
        return Ok(None);
    }
    // SAFETY: not null, and the caller's promise.
    let tag = unsafe { CStr::from_ptr(tag) };
    tag.to_str().map(Some).map_err(|_| Failure::Argument("the tag is not UTF-8"))
}
