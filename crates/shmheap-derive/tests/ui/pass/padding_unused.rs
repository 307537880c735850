//! A generic struct that has padding with some parameters can be used with the others.

use shmheap::Shareable;

#[derive(Shareable)]
#[repr(C)]
struct Tagged<T> {
    tag: u32,
    value: T,
}

fn main() {
    let value = Tagged::<f32> { tag: 1, value: 1.0 };
    assert_eq!((value.tag, value.value), (1, 1.0));
    assert_ne!(Tagged::<f32>::FINGERPRINT, Tagged::<i32>::FINGERPRINT);
}
