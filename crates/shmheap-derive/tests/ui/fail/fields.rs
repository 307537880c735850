//! Fields that hold an address, differ between programs, or are not any bytes.

use shmheap::Shareable;

#[derive(Clone, Copy)]
#[repr(C)]
struct NotDerived(u32);

#[derive(Shareable)]
#[repr(C)]
struct Fields {
    usize: usize,
    isize: isize,
    bool: bool,
    char: char,
    reference: &'static u32,
    function: fn(u32),
    option: Option<u32>,
    string: String,
    vec: Vec<u8>,
    boxed: Box<u32>,
    text: &'static str,
    atomic_usize: std::sync::atomic::AtomicUsize,
    atomic_bool: std::sync::atomic::AtomicBool,
    atomic_pointer: std::sync::atomic::AtomicPtr<u8>,
    tuple: (u32, u32),
    phantom: std::marker::PhantomData<String>,
    not_derived: NotDerived,
    slice_of_bad: [bool; 4],
    non_zero: std::num::NonZeroU32,
    duration: std::time::Duration,
    maybe_uninit: std::mem::MaybeUninit<u32>,
}

fn main() {}
