//! An enum: other processes may write what is none of its variants.

use shmheap::Shareable;

#[derive(Shareable)]
#[repr(u32)]
enum State {
    Idle,
    Busy,
}

fn main() {}
