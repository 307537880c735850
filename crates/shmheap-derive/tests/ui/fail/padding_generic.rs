//! Padding that depends on a parameter: the type cannot be used with that one.

use shmheap::Shareable;

#[derive(Shareable)]
#[repr(C)]
struct Tagged<T> {
    tag: u32,
    value: T,
}

fn fingerprint<T: Shareable>() -> u64 {
    T::FINGERPRINT.to_raw()
}

fn main() {
    fingerprint::<Tagged<u32>>();
    fingerprint::<Tagged<u64>>();
}
