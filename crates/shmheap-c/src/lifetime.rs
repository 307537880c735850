//! How a heap begins and ends for a program, and its size: create, connect, disconnect, destroy,
//! grow, trim.
//!
//! # Safety
//!
//! Names and option structs are read as the header promises: names end with NUL, structs are as
//! long as they say. Memory handles may be any value.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use shmheap::{Granule, Heap, HeapOptions, Policy};

use crate::call;
use crate::error::Failure;
use crate::handles::{Connection, HEAPS};
use crate::options::{
    EPHEMERAL, FILE, LABELS, MemoryHandle, Options, READ_ONLY, SAME_ADDRESS, SET_GROUP, check_flags,
};

const NO_MEMORY_HANDLE: MemoryHandle = ptr::null_mut();

/// `shmheap_create`: a heap of fixed size with the original library's placement.
///
/// # Safety
///
/// `name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_create(name: *const c_char, len: usize) -> MemoryHandle {
    open(|| {
        // SAFETY: the caller's promise.
        let name = unsafe { name_of(name) }?;
        // Eight bytes: programs written for the original rely on neighbours' distances.
        Ok(HeapOptions::new(len as u64)
            .policy(Policy::FirstFit)
            .granule(Granule::Eight)
            .create(name)?)
    })
}

/// `shmheap_create_with`.
///
/// # Safety
///
/// `name` is null or a C string; `options` is null or a struct as long as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_create_with(
    name: *const c_char,
    options: *const Options,
) -> MemoryHandle {
    open(|| {
        // SAFETY: the caller's promise.
        let name = unsafe { name_of(name) }?;
        // SAFETY: the caller's promise.
        let options = unsafe { Options::copy_from(options) }?;
        let chosen =
            options.to_heap_options(FILE | SET_GROUP | SAME_ADDRESS | EPHEMERAL | LABELS)?;
        Ok(if options.in_file() { chosen.create_file(name)? } else { chosen.create(name)? })
    })
}

/// `shmheap_create_memfd`.
///
/// # Safety
///
/// `options` is null or a struct as long as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_create_memfd(options: *const Options) -> MemoryHandle {
    open(|| {
        // SAFETY: the caller's promise.
        let options = unsafe { Options::copy_from(options) }?;
        Ok(options
            .to_heap_options(SET_GROUP | SAME_ADDRESS | EPHEMERAL | LABELS)?
            .create_memfd()?)
    })
}

/// `shmheap_connect`.
///
/// # Safety
///
/// `name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_connect(name: *const c_char) -> MemoryHandle {
    // SAFETY: the caller's promise.
    unsafe { shmheap_connect_with(name, 0) }
}

/// `shmheap_connect_with`.
///
/// # Safety
///
/// `name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_connect_with(name: *const c_char, flags: u32) -> MemoryHandle {
    open(|| {
        // SAFETY: the caller's promise.
        let name = unsafe { name_of(name) }?;
        check_flags(flags, FILE | READ_ONLY)?;
        Ok(match (flags & FILE != 0, flags & READ_ONLY != 0) {
            (false, false) => Heap::connect(name)?,
            (false, true) => Heap::connect_read_only(name)?,
            (true, false) => Heap::connect_file(name)?,
            (true, true) => Heap::connect_file_read_only(name)?,
        })
    })
}

/// `shmheap_connect_fd`: the descriptor stays the caller's.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_connect_fd(fd: c_int) -> MemoryHandle {
    open(|| {
        if fd < 0 {
            let error = std::io::Error::from_raw_os_error(libc::EBADF);
            return Err(Failure::System("shmheap_connect_fd", error));
        }
        // SAFETY: not -1; whether it is open, the duplication below finds out.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let own = borrowed.try_clone_to_owned();
        Ok(Heap::connect_fd(own.map_err(|error| Failure::System("shmheap_connect_fd", error))?)?)
    })
}

/// `shmheap_fd`: a new descriptor, which the caller closes.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_fd(mem: MemoryHandle) -> c_int {
    call::on_heap(mem, -1, |connection| Ok(connection.heap.to_fd()?.into_raw_fd()))
}

/// `shmheap_disconnect`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_disconnect(mem: MemoryHandle) {
    call::elsewhere((), || disconnect(mem));
}

/// `shmheap_destroy`.
///
/// # Safety
///
/// `name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_destroy(name: *const c_char, mem: MemoryHandle) {
    // SAFETY: the caller's promise.
    unsafe { shmheap_destroy_with(name, mem, 0) };
}

/// `shmheap_destroy_with`.
///
/// # Safety
///
/// `name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_destroy_with(
    name: *const c_char,
    mem: MemoryHandle,
    flags: u32,
) -> c_int {
    call::elsewhere(-1, || {
        // SAFETY: the caller's promise.
        let name = unsafe { name_of(name) }?;
        check_flags(flags, FILE)?;
        if !mem.is_null() {
            disconnect(mem)?;
        }
        if flags & FILE == 0 {
            Heap::destroy(name)?
        } else {
            Heap::destroy_file(name)?
        }
        Ok(0)
    })
}

/// `shmheap_grow`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_grow(mem: MemoryHandle, len: usize) -> usize {
    call::on_heap(mem, 0, |connection| Ok(connection.heap.grow(len as u64)? as usize))
}

/// `shmheap_trim`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_trim(mem: MemoryHandle) -> usize {
    call::on_heap(mem, 0, |connection| Ok(connection.heap.trim()? as usize))
}

fn open(heap: impl FnOnce() -> Result<Heap, Failure>) -> MemoryHandle {
    call::silence_own_panics();
    call::elsewhere(NO_MEMORY_HANDLE, || {
        let handle = HEAPS.insert(Connection::new(heap()?))?;
        Ok(ptr::without_provenance_mut(handle))
    })
}

fn disconnect(mem: MemoryHandle) -> Result<(), Failure> {
    HEAPS.remove(mem.addr())?.disconnect();
    Ok(())
}

/// # Safety
///
/// `name` is null or a C string that outlives the result.
unsafe fn name_of<'call>(name: *const c_char) -> Result<&'call OsStr, Failure> {
    if name.is_null() {
        return Err(Failure::Argument("the name is NULL"));
    }
    // SAFETY: not null, and the caller's promise.
    Ok(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}
