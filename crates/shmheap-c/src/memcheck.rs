//! Memcheck's shadow, by Valgrind's client requests.
//!
//! A client request is a row of instructions that do nothing on a processor and that Valgrind,
//! which reads all code before it runs, takes for a question. The row and the numbers below are
//! those of `valgrind.h` and `memcheck.h`, which promise to keep them for ever, for programs
//! carry them about. Written here they ask nothing of whoever builds the library, neither those
//! headers nor a C compiler.
//!
//! A freed object is announced as a block of `malloc`'s kind and freed in the same breath: so
//! Memcheck can say where that was. Live objects are not announced as such blocks: it would take
//! those of this process that outlive it, which is their purpose, for leaks, and a free of another
//! process's object for a wrong one.
//!
//! # Safety
//!
//! A request reads its arguments, and changes nothing but Memcheck's own shadow and records.
#![allow(unsafe_code)]

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::ops::Range;

const OF_MEMCHECK: usize = (b'M' as usize) << 24 | (b'C' as usize) << 16;
const MAKE_MEM_NOACCESS: usize = OF_MEMCHECK;
const MAKE_MEM_DEFINED: usize = OF_MEMCHECK + 2;
const MALLOCLIKE_BLOCK: usize = 0x1301;
const FREELIKE_BLOCK: usize = 0x1302;

/// What Memcheck answers to the first two. A processor, and Valgrind's other tools, leave it 0.
const UNDERSTOOD: usize = usize::MAX;

/// Whether this program runs under Memcheck.
pub(crate) fn is_here() -> bool {
    request(MAKE_MEM_DEFINED, [0; 4]) == UNDERSTOOD
}

/// From here on a touch of the bytes at these addresses is reported.
pub(crate) fn make_inaccessible(bytes: Range<usize>) {
    request(MAKE_MEM_NOACCESS, [bytes.start, bytes.len(), 0, 0]);
}

/// From here on it is not, nor is a decision that depends on their values.
pub(crate) fn make_defined(bytes: Range<usize>) {
    request(MAKE_MEM_DEFINED, [bytes.start, bytes.len(), 0, 0]);
}

/// From here on a touch of the bytes at these addresses is reported, with this call's callers.
pub(crate) fn make_freed(bytes: Range<usize>) {
    const RED_ZONE_BYTES: usize = 0;
    const IS_ZEROED: usize = 1;
    request(MALLOCLIKE_BLOCK, [bytes.start, bytes.len(), RED_ZONE_BYTES, IS_ZEROED]);
    request(FREELIKE_BLOCK, [bytes.start, RED_ZONE_BYTES, 0, 0]);
}

/// Asks Valgrind; 0 where nobody answers.
fn request(what: usize, [first, second, third, fourth]: [usize; 4]) -> usize {
    ask(&[what, first, second, third, fourth, 0])
}

#[cfg(target_arch = "x86_64")]
fn ask(question: &[usize; 6]) -> usize {
    let mut answer = 0;
    // SAFETY: rdi turns by 128 bits in all and rbx is exchanged with itself, so both end as they
    // began; Valgrind reads the array and writes rdx, which the operands say.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") question.as_ptr(),
            inout("rdx") answer,
            options(nostack),
        );
    }
    answer
}

#[cfg(target_arch = "aarch64")]
fn ask(question: &[usize; 6]) -> usize {
    let mut answer = 0;
    // SAFETY: x12 turns by 128 bits in all and x10 is combined with itself, so both end as they
    // began; Valgrind reads the array and writes x3, which the operands say.
    unsafe {
        asm!(
            "ror x12, x12, #3",
            "ror x12, x12, #13",
            "ror x12, x12, #51",
            "ror x12, x12, #61",
            "orr x10, x10, x10",
            in("x4") question.as_ptr(),
            inout("x3") answer,
            options(nostack),
        );
    }
    answer
}

/// On other processors Memcheck is not told anything.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn ask(_question: &[usize; 6]) -> usize {
    0
}
