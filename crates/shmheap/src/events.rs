//! Events: what happens in the life of a heap, for programs that keep a log.
//!
//! With the feature `tracing` they go to whatever the program has subscribed with; without it there
//! are none, and no code. Nothing that is done for each object is an event.
//!
//! | level | event |
//! |---|---|
//! | info | created, removed |
//! | debug | connected, disconnected, grown, trimmed, full |
//! | warn | what a killed process left was taken over; a stopped one was robbed of the lock |
//!
//! All have the target `shmheap`, and a field `heap` with its name.
#![cfg_attr(not(feature = "tracing"), allow(unused_variables))]

/// One event, if anybody can want it.
macro_rules! event {
    ($level:ident, $($fields:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::event!(target: "shmheap", tracing::Level::$level, $($fields)*);
    };
}

#[inline]
pub(crate) fn created(heap: &str, len_bytes: u64) {
    event!(INFO, heap, len_bytes, "created");
}

#[inline]
pub(crate) fn removed(heap: &str) {
    event!(INFO, heap, "removed");
}

#[inline]
pub(crate) fn connected(heap: &str, read_only: bool) {
    event!(DEBUG, heap, read_only, "connected");
}

#[inline]
pub(crate) fn disconnected(heap: &str) {
    event!(DEBUG, heap, "disconnected");
}

#[inline]
pub(crate) fn grown(heap: &str, from_bytes: u64, to_bytes: u64) {
    event!(DEBUG, heap, from_bytes, to_bytes, "grown");
}

#[inline]
pub(crate) fn trimmed(heap: &str, bytes: u64) {
    event!(DEBUG, heap, bytes, "trimmed");
}

#[inline]
pub(crate) fn full(heap: &str, requested_bytes: u64, free_bytes: u64) {
    event!(DEBUG, heap, requested_bytes, free_bytes, "full");
}

/// Of the process that had the record `slot`.
#[inline]
pub(crate) fn taken_over(heap: &str, slot: u16) {
    event!(WARN, heap, slot, "took over what a killed process left");
}

/// Under first fit, of a holder that kept this process waiting.
#[inline]
pub(crate) fn robbed(heap: &str, slot: Option<u16>) {
    event!(WARN, heap, slot, "takes the lock from a process that does not go on");
}
