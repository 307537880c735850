//! A parameter that is not shareable, and a field whose type follows from one.

use shmheap::{Handle, Shareable};

#[derive(Shareable)]
#[repr(C)]
struct Pair<T>(T, T);

#[derive(Shareable)]
#[repr(C)]
struct Skipped<#[shareable(skip)] T> {
    by_handle: Handle<T>,
    by_value: T,
}

#[derive(Shareable)]
#[repr(C)]
struct Perhaps<T> {
    value: Option<T>,
}

fn fingerprint<T: Shareable>() -> u64 {
    T::FINGERPRINT.to_raw()
}

fn main() {
    fingerprint::<Pair<bool>>();
}
