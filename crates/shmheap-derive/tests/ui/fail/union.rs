//! A union: bytes that its fields do not cover.

use shmheap::Shareable;

#[derive(Shareable)]
#[repr(C)]
union Number {
    whole: u64,
    float: f64,
}

fn main() {}
