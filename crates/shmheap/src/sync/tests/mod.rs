//! Tests of the layer: in one process, killed at every store, and over weak memory.

mod kills;
mod loom;
mod one_process;

use std::alloc::Layout;

use crate::os::testing::NameGuard;
use crate::{Handle, Heap, HeapOptions, Shareable};

/// A heap, and the name under which this process can become further peers of it.
struct Place {
    name: NameGuard,
    heap: Heap,
}

impl Place {
    fn new() -> Self {
        let name = NameGuard::new();
        let heap = HeapOptions::new(4 << 20).create(name.at().label()).unwrap();
        Self { name, heap }
    }

    /// This process once more, as another peer.
    fn peer(&self) -> Heap {
        Heap::connect(self.name.at().label()).unwrap()
    }
}

/// A fresh object of zeros.
fn made<T: Shareable>(heap: &Heap) -> Handle {
    let object = heap.alloc_zeroed(Layout::new::<T>()).unwrap();
    heap.handle(object).unwrap()
}

/// The object that a handle names.
#[allow(unsafe_code)]
fn at<T: Shareable>(heap: &Heap, handle: Handle) -> &T {
    let object = heap.resolve(handle).unwrap();
    // SAFETY: tests make their objects of zeros and of that type, and never free them.
    unsafe { object.cast().as_ref() }
}
