//! Everything that is wrong is said in one go.

use shmheap::Shareable;

#[derive(Shareable)]
#[shareable(rename = "Y")]
struct Wrong<'a> {
    #[shareable(skip)]
    text: &'a u8,
}

fn main() {}
