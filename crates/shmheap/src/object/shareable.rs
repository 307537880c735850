//! `Shareable`: what may lie in shared memory and be looked at by any process.
//!
//! Three things must hold of such a type. *Any bytes are a value of it*, for peers may have
//! written what they like; so no `bool`, `char`, enum or reference. *It means the same in every
//! process*: no pointers, no `usize`, a layout that is laid down (`repr(C)`). *It has no padding*,
//! which would carry bytes of one process's stack into the sight of others.
//!
//! # Unsafe code
//!
//! The implementations for the types of the language, whose layout its reference lays down. The
//! test below holds each of them against `zerocopy`.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::sync::atomic::{
    AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
};

use crate::Handle;
use crate::object::ShmPtr;

/// A type whose values may lie in a heap and be shared between processes: see the derive macro of
/// the same name.
///
/// Numbers, atomic numbers, arrays of shareable types, and [`Handle`]s are. Structs of such fields
/// become so by the derive macro.
///
/// # Safety
///
/// Every sequence of bytes is a value of the type; it has no padding; it holds no address of any
/// kind, and nothing whose size or layout differs between programs.
/// [`FINGERPRINT`](Self::FINGERPRINT) is another for each layout.
///
/// A generic type may have padding with some parameters and none with others. Such a type must not
/// compile: its `FINGERPRINT` panics. So whoever relies on a generic `T: Shareable` names
/// `T::FINGERPRINT` in the function that does.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot lie in shared memory",
    label = "other processes can make nothing of it, or write what is no value of it",
    note = "numbers can, and atomic numbers, of a fixed size: for `usize` take `u64`, for `bool` \
            `u8`, for `char` `u32`",
    note = "arrays of what can can, for text and lists of a bounded length: `[u8; 32]`",
    note = "other objects are named by handle, not by address: for pointers, references, `Box`, \
            `Vec`, `String`, `Option<..>` take `Handle<T>`, which may be `Handle::NONE`",
    note = "structs can that have `#[repr(C)]` and `#[derive(Shareable)]`; a type parameter as \
            `PhantomData<fn() -> T>`"
)]
pub unsafe trait Shareable: Sized + Send + Sync + 'static {
    /// What tells the type from others, in every program: a hash of its name and its layout.
    const FINGERPRINT: Fingerprint;

    /// The cells in a value through which it owns other objects, which are freed with it. Most
    /// types have none; a struct has those of its fields.
    fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
        let _ = visit;
    }
}

/// A cell in a value, through which the value owns another object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedCell {
    /// How far behind the start of the value the cell lies: a multiple of 8.
    pub offset_bytes: usize,
    /// How far behind it the word lies that says to which heap the cell belongs, likewise. Safe
    /// code can swap two values of different heaps; what is in such a cell is not to be found then.
    pub home_bytes: usize,
    /// Whether the object in the cell begins with a cell in turn, and so on.
    pub starts_chain: bool,
}

impl OwnedCell {
    /// The same cell of a value that lies so far behind the start of another.
    #[must_use]
    pub const fn within(self, offset_bytes: usize) -> Self {
        Self {
            offset_bytes: self.offset_bytes + offset_bytes,
            home_bytes: self.home_bytes + offset_bytes,
            ..self
        }
    }
}

/// A hash of a type's name and layout, the same in every program that has the same type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// What an object has whose type nobody has named, as those that C programs make.
    pub const UNTYPED: Self = Self(0);

    const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const FNV_PRIME: u64 = 0x0100_0000_01b3;

    /// That of a type without its parts.
    #[must_use]
    pub const fn new(name: &str, size_bytes: usize, align_bytes: usize) -> Self {
        Self(Self::FNV_OFFSET).text(name).number(size_bytes as u64).number(align_bytes as u64)
    }

    /// With one more field.
    #[must_use]
    pub const fn field(self, name: &str, offset_bytes: usize, field: Self) -> Self {
        self.text(name).number(offset_bytes as u64).number(field.0)
    }

    /// With one more parameter.
    #[must_use]
    pub const fn parameter(self, parameter: Self) -> Self {
        self.number(parameter.0)
    }

    /// The number that stands in a segment.
    #[must_use]
    pub const fn to_raw(self) -> u64 {
        self.0
    }

    /// Takes a number that [`to_raw`](Self::to_raw) gave.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The text and its end, so that texts that follow each other are not one.
    const fn text(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            self = self.byte(bytes[at]);
            at += 1;
        }
        self.byte(0xff)
    }

    const fn number(mut self, number: u64) -> Self {
        let bytes = number.to_le_bytes();
        let mut at = 0;
        while at < bytes.len() {
            self = self.byte(bytes[at]);
            at += 1;
        }
        self
    }

    const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(Self::FNV_PRIME))
    }
}

macro_rules! shareable_numbers {
    ($($number:ident)*) => {$(
        // SAFETY: a number has no padding and no address, and any bytes are one. Atomic numbers
        // have the layout of the plain ones.
        unsafe impl Shareable for $number {
            const FINGERPRINT: Fingerprint = Fingerprint::new(
                stringify!($number),
                size_of::<$number>(),
                align_of::<$number>(),
            );
        }
    )*};
}

shareable_numbers! {
    u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64
    AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicI8 AtomicI16 AtomicI32 AtomicI64
}

// SAFETY: it has no bytes.
unsafe impl Shareable for () {
    const FINGERPRINT: Fingerprint = Fingerprint::new("()", 0, 1);
}

// SAFETY: elements follow each other without a gap, and each is shareable.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {
    const FINGERPRINT: Fingerprint =
        Fingerprint::new("array", size_of::<Self>(), align_of::<Self>()).parameter(T::FINGERPRINT);

    fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
        for number in 0..N {
            T::owned_cells(&mut |cell| visit(cell.within(number * size_of::<T>())));
        }
    }
}

// SAFETY: it has no bytes.
unsafe impl<T: 'static> Shareable for PhantomData<fn() -> T> {
    const FINGERPRINT: Fingerprint = Fingerprint::new("PhantomData", 0, 1);
}

// SAFETY: a transparent u64 that means the same in every process.
unsafe impl<T: 'static> Shareable for Handle<T> {
    const FINGERPRINT: Fingerprint = Fingerprint::new("Handle", 8, 8);
}

// SAFETY: a distance, any of which is one.
unsafe impl<T: Shareable> Shareable for ShmPtr<T> {
    const FINGERPRINT: Fingerprint = Fingerprint::new("ShmPtr", 8, 8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::{FromBytes, IntoBytes};

    #[test]
    fn what_is_shareable_takes_any_bytes_and_has_no_padding() {
        fn confirm<T: Shareable + FromBytes + IntoBytes>() {}
        macro_rules! confirm_all { ($($type:ty)*) => { $(confirm::<$type>();)* } }
        confirm_all! {
            u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 [u32; 3]
            AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicI8 AtomicI16 AtomicI32 AtomicI64
        }
        assert_eq!(size_of::<Handle<String>>(), size_of::<u64>());
    }

    #[test]
    fn fingerprints_differ_where_types_do() {
        let all = [
            u32::FINGERPRINT,
            i32::FINGERPRINT,
            f32::FINGERPRINT,
            AtomicU32::FINGERPRINT,
            <[u32; 1]>::FINGERPRINT,
            <[u32; 2]>::FINGERPRINT,
            <[i32; 2]>::FINGERPRINT,
            <()>::FINGERPRINT,
            Fingerprint::UNTYPED,
            Fingerprint::new("S", 8, 4).field("a", 0, u32::FINGERPRINT),
            Fingerprint::new("S", 8, 4).field("b", 0, u32::FINGERPRINT),
            Fingerprint::new("S", 8, 4).field("a", 4, u32::FINGERPRINT),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
    }

    /// A program built today must know a type that one built last year has stored.
    #[test]
    fn fingerprints_stay_as_they_are() {
        assert_eq!(u64::FINGERPRINT.to_raw(), 0x931b_4f74_c532_06d7);
    }
}
