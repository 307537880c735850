//! Padding before a field, before one without a name, and at the end.

use shmheap::Shareable;

#[derive(Shareable)]
#[repr(C)]
struct Before {
    channel: u8,
    value: u32,
}

#[derive(Shareable)]
#[repr(C)]
struct Unnamed(u16, u64);

#[derive(Shareable)]
#[repr(C)]
struct Behind {
    value: u64,
    channel: u8,
}

#[derive(Shareable)]
#[repr(C, align(64))]
struct Line {
    value: u32,
}

#[derive(Shareable)]
#[repr(C)]
struct EmptyButAligned {
    channel: u8,
    words: [u64; 0],
}

fn main() {}
