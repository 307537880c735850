//! AddressSanitizer's shadow, by the two functions that its runtime offers to allocators.
//!
//! A program that is compiled with `-fsanitize=address` has them, any other has not, and one and
//! the same library serves both. So they are referred to as *weak* symbols: where nobody defines
//! them, the dynamic linker leaves their addresses 0. Stable Rust has no weak symbols, the
//! assembler has; `dlsym` would not find the functions in a program that has them linked
//! statically, since nothing there would ask the linker to export them.
//!
//! # Safety
//!
//! The table below is written by the dynamic linker, before any code of this library runs, and
//! never again. The functions change nothing but the sanitizer's own shadow.
#![allow(unsafe_code)]

use std::arch::global_asm;
use std::ffi::c_void;
use std::ops::Range;
use std::ptr;

/// `void f(void const volatile *address, size_t size)`
type Function = unsafe extern "C" fn(*const c_void, usize);

/// What the assembler lays out below: two addresses, or 0.
#[repr(C)]
struct Functions {
    poison: Option<Function>,
    unpoison: Option<Function>,
}

global_asm!(
    ".pushsection .data.rel.ro.shmheap_asan_functions, \"aw\", @progbits",
    ".balign 8",
    ".weak __asan_poison_memory_region",
    ".weak __asan_unpoison_memory_region",
    ".globl shmheap_asan_functions",
    ".hidden shmheap_asan_functions",
    ".type shmheap_asan_functions, @object",
    "shmheap_asan_functions:",
    ".quad __asan_poison_memory_region",
    ".quad __asan_unpoison_memory_region",
    ".size shmheap_asan_functions, 16",
    ".popsection",
);

// SAFETY: defined above, with this layout; nobody writes to it once the library is loaded.
unsafe extern "C" {
    #[link_name = "shmheap_asan_functions"]
    safe static FUNCTIONS: Functions;
}

/// Whether this program has AddressSanitizer in it.
pub(crate) fn is_here() -> bool {
    FUNCTIONS.poison.is_some() && FUNCTIONS.unpoison.is_some()
}

/// From here on a touch of the bytes at these addresses is reported.
pub(crate) fn poison(bytes: Range<usize>) {
    call(FUNCTIONS.poison, bytes);
}

/// From here on it is not.
pub(crate) fn unpoison(bytes: Range<usize>) {
    call(FUNCTIONS.unpoison, bytes);
}

fn call(function: Option<Function>, bytes: Range<usize>) {
    if let Some(function) = function {
        // SAFETY: the function takes any range of the program's memory, and touches its shadow
        // only.
        unsafe { function(ptr::without_provenance(bytes.start), bytes.len()) };
    }
}
