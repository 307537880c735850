//! Fields that are not even for all threads of one process.

use shmheap::Shareable;

#[derive(Shareable)]
#[repr(C)]
struct Pointer(*const u32);

#[derive(Shareable)]
#[repr(C)]
struct Cell {
    cell: std::cell::Cell<u32>,
}

fn main() {}
