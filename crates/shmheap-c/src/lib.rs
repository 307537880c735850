//! The C library of shmheap: what `include/shmheap.h` and `include/shmheap/labels.h` declare.
//!
//! The headers are the documentation of every function; here is how they are made. A call goes
//! through the same five steps, whatever it does:
//!
//! ```text
//!  C program       shmheap_alloc(mem, 24)
//!      |
//!  call.rs         keeps errno as it was, catches panics, turns a failure into errno and text
//!      |
//!  pins.rs         notes "this thread is inside `mem`" (one plain store)
//!      |
//!  handles.rs      `mem` -> Heap: a number looked up in a table, so stale and invented
//!      |                          handles are noticed and never dereferenced
//!  watch.rs        tells AddressSanitizer or Valgrind, if the program runs with one of them and
//!      |           the library was built with the feature `sanitizers`; else nothing
//!  shmheap::Heap   does the work
//! ```
//!
//! | file | functions |
//! |---|---|
//! | `lifetime.rs` | create, connect, disconnect, destroy and their variants, grow, trim |
//! | `objects.rs` | alloc, free, handles and the rest of the malloc family |
//! | `inspect.rs` | statistics, audit, error texts, version |
//! | `options.rs` | the two structs of the header, as programs of any version pass them |
//! | `roots.rs`, `mutex.rs`, `channel.rs` | names, mutexes, and channels of bytes |
//! | `labels.rs` | tags, quotas, usage |
//! | `tool.rs`, `asan.rs`, `memcheck.rs` | none: how the tools are found and told |
//!
//! No call unwinds into C, ends the process, prints, or installs a signal handler. A failed call
//! changes nothing but `errno` and the thread's error text; a successful one leaves both alone.

#[cfg(feature = "sanitizers")]
mod asan;
mod call;
mod channel;
mod error;
mod handles;
mod inspect;
mod labels;
mod lifetime;
#[cfg(feature = "sanitizers")]
mod memcheck;
mod mutex;
mod objects;
mod options;
mod pins;
mod roots;
#[cfg_attr(not(feature = "sanitizers"), path = "no_tool.rs")]
mod tool;
mod watch;

pub use channel::{
    shmheap_channel_close, shmheap_channel_open, shmheap_channel_recv, shmheap_channel_send,
};
pub use inspect::{
    shmheap_check, shmheap_last_error, shmheap_stats, shmheap_strerror, shmheap_version,
};
pub use labels::{
    UsageEntry, shmheap_set_quota, shmheap_set_thread_tag, shmheap_tag_pop, shmheap_tag_push,
    shmheap_usage,
};
pub use lifetime::{
    shmheap_connect, shmheap_connect_fd, shmheap_connect_with, shmheap_create,
    shmheap_create_memfd, shmheap_create_with, shmheap_destroy, shmheap_destroy_with,
    shmheap_disconnect, shmheap_fd, shmheap_grow, shmheap_trim,
};
pub use mutex::{Mutex, shmheap_mutex_lock, shmheap_mutex_set_sound, shmheap_mutex_unlock};
pub use objects::{
    shmheap_aligned_alloc, shmheap_alloc, shmheap_calloc, shmheap_free, shmheap_handle_to_ptr,
    shmheap_ptr_to_handle, shmheap_realloc, shmheap_underlying, shmheap_usable_size,
};
pub use options::{MemoryHandle, ObjectHandle, Options, Statistics};
pub use roots::{shmheap_root_get, shmheap_root_list, shmheap_root_remove, shmheap_root_set};
