//! Channels opened by handle, in tests in which nobody frees them.
//!
//! # Unsafe code
//!
//! Such opening.
#![allow(unsafe_code)]

use shmheap::{
    Broadcast, Channel, Handle, Heap, ObjectChannel, Result, Shareable, ShmBroadcast, ShmChannel,
    ShmObjectChannel,
};

pub(crate) fn values<T: Shareable + Copy>(
    heap: &Heap,
    handle: Handle<ShmChannel<T>>,
) -> Result<Channel<'_, T>> {
    // SAFETY: nobody frees it.
    unsafe { Channel::open(heap, handle) }
}

pub(crate) fn objects(heap: &Heap, handle: Handle<ShmObjectChannel>) -> Result<ObjectChannel<'_>> {
    // SAFETY: as above.
    unsafe { ObjectChannel::open(heap, handle) }
}

pub(crate) fn broadcast<T: Shareable + Copy>(
    heap: &Heap,
    handle: Handle<ShmBroadcast<T>>,
) -> Result<Broadcast<'_, T>> {
    // SAFETY: as above.
    unsafe { Broadcast::open(heap, handle) }
}
