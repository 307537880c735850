//! A destructor: nobody would run it.

use shmheap::Shareable;

#[derive(Shareable)]
#[repr(C)]
struct Guard {
    token: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {}
}

fn main() {}
