//! shmheap's scalable policy through its C functions: what a program in C pays for them.
//!
//! The functions are those of the crate `shmheap-c`, linked in statically, as `libshmheap.a` is:
//! `cargo bench` alone would not find a shared library. Exported functions are not inlined into
//! another crate (the bench profile has no link-time optimisation), so each is called across the
//! border as from C. A program that links the shared library pays, on top of this, for finding the
//! library's thread-local variables.
//!
//! # Unsafe code
//!
//! Calls of C functions.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::ptr::{self, NonNull};

use anyhow::{Result, bail};
use shmheap_c::{
    MemoryHandle, Options, Statistics, shmheap_alloc, shmheap_connect, shmheap_create_with,
    shmheap_destroy, shmheap_disconnect, shmheap_free, shmheap_handle_to_ptr, shmheap_last_error,
    shmheap_ptr_to_handle, shmheap_stats, shmheap_version,
};

use super::shmheap::LEN_BYTES;
use super::{Footprint, HEAP_BYTES_MAX, Object, Peer, Sharing, Worker};

/// `SHMHEAP_POLICY_SCALABLE`.
const POLICY_SCALABLE: u32 = 2;

#[derive(Debug)]
pub(crate) struct CLibrary;

/// A heap that this process is connected to.
#[derive(Debug)]
pub(crate) struct Connection(MemoryHandle);

impl Peer for CLibrary {
    type Worker = Connection;

    fn name(&self) -> &'static str {
        "shmheap C"
    }

    fn description(&self) -> String {
        // SAFETY: a C string that stands as long as the process.
        let version = unsafe { CStr::from_ptr(shmheap_version()) };
        format!("{}, scalable, through the C functions", version.to_string_lossy())
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn create(&self, name: &str) -> Result<Connection> {
        let name = CString::new(name)?;
        let options = Options {
            size: size_of::<Options>(),
            len: LEN_BYTES as usize,
            max_len: HEAP_BYTES_MAX as usize,
            policy: POLICY_SCALABLE,
            ..Options::default()
        };
        // SAFETY: a C string, and a struct as long as it says.
        Connection::new(unsafe { shmheap_create_with(name.as_ptr(), &raw const options) })
    }

    fn connect(&self, name: &str, _number: usize) -> Result<Connection> {
        let name = CString::new(name)?;
        // SAFETY: a C string.
        Connection::new(unsafe { shmheap_connect(name.as_ptr()) })
    }

    fn remove(&self, name: &str) {
        // Most often it is gone already: the workers remove it as soon as they are connected.
        if let Ok(name) = CString::new(name) {
            // SAFETY: a C string, and no heap that this process is connected to.
            unsafe { shmheap_destroy(name.as_ptr(), ptr::null_mut()) };
        }
    }
}

impl Connection {
    fn new(handle: MemoryHandle) -> Result<Self> {
        if handle.is_null() {
            // SAFETY: a C string that stands until this thread's next failure.
            let text = unsafe { CStr::from_ptr(shmheap_last_error()) };
            bail!("{}", text.to_string_lossy());
        }
        Ok(Self(handle))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        shmheap_disconnect(self.0);
    }
}

impl Worker for Connection {
    #[inline]
    fn alloc(&self, bytes: usize) -> Object<Self> {
        let address = shmheap_alloc(self.0, bytes).cast();
        let address = NonNull::new(address).expect("the workloads fit the heap");
        // SAFETY: the object is new, has `bytes` bytes, and nobody else knows it.
        unsafe { Object::new(address) }
    }

    #[inline]
    fn free(&self, object: Object<Self>) {
        // SAFETY: a live object of the heap, the caller's alone, and he gives it up.
        unsafe { shmheap_free(self.0, object.address().as_ptr().cast()) }
    }

    #[inline]
    fn give(&self, object: Object<Self>) -> u64 {
        shmheap_ptr_to_handle(self.0, object.address().as_ptr().cast()) as u64
    }

    #[inline]
    unsafe fn take(&self, given: u64) -> Object<Self> {
        let address = shmheap_handle_to_ptr(self.0, given as usize).cast();
        let address = NonNull::new(address).expect("the object is live");
        // SAFETY: the giver gave up a live object, and the caller is its only taker.
        unsafe { Object::new(address) }
    }

    fn footprint(&self) -> Footprint {
        let mut statistics = Statistics { size: size_of::<Statistics>(), ..Statistics::default() };
        // SAFETY: a struct as long as it says.
        let error = unsafe { shmheap_stats(self.0, &raw mut statistics) };
        assert_eq!(error, 0, "a connected heap has statistics");
        Footprint::Stated(statistics.len + statistics.metadata_bytes)
    }
}
