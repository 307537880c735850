//! Channels: messages of bytes between processes.
//!
//! # Safety
//!
//! Names are C strings, and messages are as long as their callers say, as the header promises.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::slice;

use shmheap::{ByteChannel, Error, Handle};

use crate::call;
use crate::error::Failure;
use crate::handles::Connection;
use crate::options::{MemoryHandle, ObjectHandle, timeout_of};
use crate::roots::name_of;

/// `shmheap_channel_open`.
///
/// # Safety
///
/// `name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_channel_open(
    mem: MemoryHandle,
    name: *const c_char,
    capacity: usize,
    size: usize,
) -> ObjectHandle {
    call::on_heap(mem, 0, |connection| {
        // SAFETY: the caller's promise.
        let name = unsafe { name_of(name) }?;
        let heap = &connection.heap;
        let channel = ByteChannel::find_or_create(heap, name, capacity as u64, size)?;
        Ok(channel.handle().to_raw() as ObjectHandle)
    })
}

/// `shmheap_channel_send`.
///
/// # Safety
///
/// `message` points to `size` bytes, unless that is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_channel_send(
    mem: MemoryHandle,
    channel: ObjectHandle,
    message: *const c_void,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    call::on_heap(mem, -1, |connection| {
        let bytes: &[u8] = match size {
            0 => &[],
            _ if message.is_null() => return Err(Failure::Argument("NULL is no message")),
            // SAFETY: the caller's promise.
            _ => unsafe { slice::from_raw_parts(message.cast(), size) },
        };
        open(connection, channel)?.send(bytes, timeout_of(timeout_ns))?;
        Ok(0)
    })
}

/// `shmheap_channel_recv`.
///
/// # Safety
///
/// `message` points to room for `size` bytes, unless that is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_channel_recv(
    mem: MemoryHandle,
    channel: ObjectHandle,
    message: *mut c_void,
    size: usize,
    timeout_ns: i64,
) -> c_int {
    call::on_heap(mem, -1, |connection| {
        let channel = open(connection, channel)?;
        if message.is_null() || size < channel.message_bytes() {
            return Err(Failure::Argument(
                "the message has no room: a multiple of 8 bytes, at least the channel's size",
            ));
        }
        match channel.recv(timeout_of(timeout_ns)) {
            Ok(received) => {
                // SAFETY: the room is that large, as the caller has promised.
                unsafe { message.cast::<u8>().copy_from(received.as_ptr(), received.len()) };
                Ok(1)
            }
            Err(Error::Closed { .. }) => Ok(0),
            Err(error) => Err(error.into()),
        }
    })
}

/// `shmheap_channel_close`.
#[unsafe(no_mangle)]
pub extern "C" fn shmheap_channel_close(mem: MemoryHandle, channel: ObjectHandle) -> c_int {
    call::on_heap(mem, -1, |connection| {
        open(connection, channel)?.close()?;
        Ok(0)
    })
}

fn open(connection: &Connection, channel: ObjectHandle) -> Result<ByteChannel<'_>, Failure> {
    // SAFETY: that nobody frees a channel in use is asked of the caller in the header, as of every
    // object.
    Ok(unsafe { ByteChannel::open(&connection.heap, Handle::from_raw(channel as u64)) }?)
}
