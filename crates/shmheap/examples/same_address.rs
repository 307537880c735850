//! Raw pointers and collections that two processes share: a heap at one address in both.
//!
//! ```sh
//! cargo run --example same_address --features allocator-api2
//! ```
//!
//! The program starts itself once more. What the first process has linked by plain pointers, the
//! second follows and lengthens; the vectors that the first has made, the second fills.
//!
//! ```text
//!   Root (in the heap, found by its handle)
//!   +-------+       +------+------+      +------+------+
//!   | list -|------>| next | word |----->| null | word |       pointers as C has them
//!   | rows -|--+    +------+------+      +------+------+
//!   +-------+  +--> Vec< Vec<u64> >, headers and elements     all of it in the heap
//! ```
#![allow(unsafe_code, clippy::print_stdout)]

use std::env;
use std::process::Command;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use shmheap::{Handle, Heap, HeapOptions, SharedAllocator};

/// A node of a list as C has it.
#[repr(C)]
struct Node {
    next: *mut Node,
    number: u64,
}

/// Everything that the processes share. Both are the same build, so both lay it out alike.
struct Root {
    list: *mut Node,
    rows: Vec<Vec<u64, SharedAllocator>, SharedAllocator>,
}

/// This process's connection, for good: collections in the heap find it by the heap's address.
static HEAP: OnceLock<Heap> = OnceLock::new();

type AnyError = std::boxed::Box<dyn std::error::Error>;

fn main() -> Result<(), AnyError> {
    let arguments: std::vec::Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [] => first(),
        [name, root] => second(name, root.parse()?),
        _ => Err("usage: same_address".into()),
    }
}

fn use_for_good(heap: Heap) -> (&'static Heap, SharedAllocator) {
    let heap = HEAP.get_or_init(|| heap);
    (heap, heap.shared_allocator().expect("it was made with same_address"))
}

/// Makes a heap and a root in it, has another process work on that, and looks at it again.
fn first() -> Result<(), AnyError> {
    let name = format!("/same-address-{}", std::process::id());
    let options = HeapOptions::new(1 << 20).max_len(1 << 30).same_address();
    let (heap, shared) = use_for_good(options.create(&name)?);

    let mut root = Box::new_in(Root { list: ptr::null_mut(), rows: Vec::new_in(shared) }, shared);
    lengthen(&mut root, &[3, 2, 1], shared);
    root.rows.push(Vec::new_in(shared));
    show("first", heap, &root);

    let root = Box::into_raw(root);
    let handle = heap.handle(NonNull::new(root).expect("a box's").cast())?;
    let program = env::current_exe()?;
    let status = Command::new(program).args([&name, &handle.to_string()]).status()?;
    Heap::destroy(&name)?;
    if !status.success() {
        return Err(format!("the second process: {status}").into());
    }

    // SAFETY: the root is this process's again: the other one has ended.
    let root = unsafe { Box::from_raw_in(root, shared) };
    show("first", heap, &root);
    free_list(&root, shared);
    drop(root); // the rows and all that is in them
    println!("first: {} objects left", heap.stats().live_objects);
    Ok(())
}

/// Lengthens what the first process, which waits meanwhile, has made.
fn second(name: &str, root: Handle) -> Result<(), AnyError> {
    let (heap, shared) = use_for_good(Heap::connect(name)?);
    let root = heap.resolve(root)?.cast::<Root>();
    // SAFETY: the first process, the same build, has put a root there, and waits for this one.
    let root = unsafe { &mut *root.as_ptr() };
    show("second", heap, root);
    lengthen(root, &[5, 4], shared);
    root.rows[0].extend(1..=4);
    root.rows.push(Vec::new_in(shared));
    root.rows[1].extend((0..10_000).map(|number| number * number));
    Ok(())
}

/// Puts nodes before the list, the last number first.
fn lengthen(root: &mut Root, numbers: &[u64], shared: SharedAllocator) {
    for &number in numbers {
        root.list = Box::into_raw(Box::new_in(Node { next: root.list, number }, shared));
    }
}

fn numbers(root: &Root) -> impl Iterator<Item = u64> {
    let mut node = root.list;
    std::iter::from_fn(move || {
        // SAFETY: a node of the list, of whichever process; nobody changes it meanwhile.
        let found = unsafe { node.as_ref() }?;
        node = found.next;
        Some(found.number)
    })
}

fn free_list(root: &Root, shared: SharedAllocator) {
    let mut node = root.list;
    while !node.is_null() {
        // SAFETY: each node was made as a box with the heap's allocator, and is met once.
        node = unsafe { Box::from_raw_in(node, shared) }.next;
    }
}

fn show(who: &str, heap: &Heap, root: &Root) {
    let list: std::vec::Vec<u64> = numbers(root).collect();
    let sums: std::vec::Vec<u64> = root.rows.iter().map(|row| row.iter().sum()).collect();
    let address = heap.info().address.map_or(0, usize::from);
    println!("{who}, heap at {address:#x}: list {list:?}, sums of the rows {sums:?}");
}
