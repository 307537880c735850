//! A fingerprint that would be made of itself.

use shmheap::{Handle, Shareable};

#[derive(Shareable)]
#[repr(C)]
struct List<T> {
    first: Handle<T>,
}

#[derive(Shareable)]
#[repr(C)]
struct Folder {
    children: List<Folder>,
}

fn main() {}
