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

/// One event, if anybody can want it.
macro_rules! event {
    ($level:ident, $message:literal, $($field:ident),*) => {
        #[cfg(feature = "tracing")]
        tracing::event!(target: "shmheap", tracing::Level::$level, $($field),*, $message);
        #[cfg(not(feature = "tracing"))]
        let _ = ($($field),*);
    };
}

#[inline]
pub(crate) fn created(heap: &str, len_bytes: u64) {
    event!(INFO, "created", heap, len_bytes);
}

#[inline]
pub(crate) fn removed(heap: &str) {
    event!(INFO, "removed", heap);
}

#[inline]
pub(crate) fn connected(heap: &str, read_only: bool) {
    event!(DEBUG, "connected", heap, read_only);
}

#[inline]
pub(crate) fn disconnected(heap: &str) {
    event!(DEBUG, "disconnected", heap);
}

#[inline]
pub(crate) fn grown(heap: &str, from_bytes: u64, to_bytes: u64) {
    event!(DEBUG, "grown", heap, from_bytes, to_bytes);
}

#[inline]
pub(crate) fn trimmed(heap: &str, bytes: u64) {
    event!(DEBUG, "trimmed", heap, bytes);
}

#[inline]
pub(crate) fn full(heap: &str, requested_bytes: u64, free_bytes: u64) {
    event!(DEBUG, "full", heap, requested_bytes, free_bytes);
}

/// Of the process that had the record `slot`.
#[inline]
pub(crate) fn taken_over(heap: &str, slot: u16) {
    event!(WARN, "took over what a killed process left", heap, slot);
}

/// Under first fit, of a holder that kept this process waiting.
#[inline]
pub(crate) fn robbed(heap: &str, slot: u16) {
    event!(WARN, "took the lock from a process that does not go on", heap, slot);
}
