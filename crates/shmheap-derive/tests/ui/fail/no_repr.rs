//! A layout that is not laid down.

use shmheap::Shareable;

#[derive(Shareable)]
struct Bare {
    x: u32,
}

#[derive(Shareable)]
#[repr(align(8))]
struct Aligned {
    x: u64,
}

fn main() {}
