//! Mutexes: a word of the caller's own, in an object of the heap.
//!
//! # Safety
//!
//! The word may be anywhere: the heap looks whether it is its own, and reaches it as an atomic.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ptr::NonNull;

use shmheap::{Locked, RawMutex};

use crate::call;
use crate::error::Failure;
use crate::handles::Connection;
use crate::options::{MemoryHandle, timeout_of};

/// `shmheap_mutex`: as in a `ShmMutex` of Rust, the word comes first.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Mutex {
    /// 0 when nobody has it.
    pub word: u64,
}

/// `shmheap_mutex_lock`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_mutex_lock(
    mem: MemoryHandle,
    mutex: *mut Mutex,
    timeout_ns: i64,
) -> c_int {
    call::on_heap(mem, -1, |connection| {
        Ok(match raw(connection, mutex)?.lock(timeout_of(timeout_ns))? {
            Locked::Sound => 0,
            Locked::InDoubt => 1,
        })
    })
}

/// `shmheap_mutex_set_sound`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_mutex_set_sound(mem: MemoryHandle, mutex: *mut Mutex) -> c_int {
    call::on_heap(mem, -1, |connection| {
        raw(connection, mutex)?.set_sound()?;
        Ok(0)
    })
}

/// `shmheap_mutex_unlock`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_mutex_unlock(mem: MemoryHandle, mutex: *mut Mutex) -> c_int {
    call::on_heap(mem, -1, |connection| {
        raw(connection, mutex)?.unlock()?;
        Ok(0)
    })
}

fn raw(connection: &Connection, mutex: *mut Mutex) -> Result<RawMutex<'_>, Failure> {
    let mutex = NonNull::new(mutex).ok_or(Failure::Argument("NULL is no mutex"))?;
    // SAFETY: a program in C has no guards, and promises by the name that it is a mutex.
    Ok(unsafe { RawMutex::at(&connection.heap, mutex.cast()) }?)
}
