//! A packed struct: its fields are not aligned.

use shmheap::Shareable;

#[derive(Shareable)]
#[repr(C, packed)]
struct Packed {
    x: u8,
    y: u32,
}

#[derive(Shareable)]
#[repr(packed(2), C)]
struct PackedByTwo {
    x: u16,
    y: u32,
}

fn main() {}
