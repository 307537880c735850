//! The derive can be used where unsafe code is forbidden, and every lint is on.

#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unused_qualifications, trivial_casts, trivial_numeric_casts)]

use shmheap::{Handle, Shareable};

/// Public, with private fields of a private type.
#[derive(Shareable)]
#[repr(C)]
pub struct Public<T, const N: u64> {
    inner: Private<T>,
}

#[derive(Shareable)]
#[repr(C)]
struct Private<T> {
    next: Handle<Private<T>>,
    value: T,
}

fn main() {
    let value = Public::<u64, 3> { inner: Private { next: Handle::NONE, value: 7 } };
    assert!(value.inner.next.is_none());
    assert_eq!(value.inner.value, 7);
}
