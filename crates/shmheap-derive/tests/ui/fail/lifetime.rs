//! A lifetime: there is nothing to borrow from.

use shmheap::Shareable;

#[derive(Shareable)]
#[repr(C)]
struct Borrowing<'a> {
    text: &'a [u8; 8],
}

fn main() {}
