//! Derived types at run time: their layout, held against zerocopy, and their fingerprints.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64};

use shmheap::{Fingerprint, Handle, Shareable, ShmCell, ShmPtr, Untyped};
use zerocopy::{FromBytes, IntoBytes};

fn shareable_as_zerocopy_sees_it<T: Shareable + FromBytes + IntoBytes>() -> Fingerprint {
    T::FINGERPRINT
}

#[derive(Shareable, FromBytes, IntoBytes)]
#[repr(C)]
struct Point {
    x: u32,
    y: u32,
}

#[derive(Shareable, FromBytes, IntoBytes)]
#[repr(C)]
struct Nested {
    corners: [Point; 2],
    count: AtomicU64,
    flags: u8,
    _padding: [u8; 7],
}

#[derive(Shareable, FromBytes, IntoBytes)]
#[repr(C)]
struct Tuple(u64, AtomicU32, f32);

#[derive(Shareable, FromBytes, IntoBytes)]
#[repr(C)]
struct Unit;

#[derive(Shareable, FromBytes, IntoBytes)]
#[repr(transparent)]
struct Meters(f64);

#[derive(Shareable, FromBytes, IntoBytes)]
#[repr(C, align(64))]
struct Line([u64; 8]);

#[derive(Shareable)]
#[repr(transparent)]
struct Id<#[shareable(skip)] T>(PhantomData<fn() -> T>, u32, PhantomData<fn() -> T>);

#[derive(Shareable)]
#[repr(C)]
struct Node<T> {
    next: Handle<Self>,
    others: [Handle<Node<T>>; 2],
    value: T,
}

#[derive(Shareable)]
#[repr(C)]
struct List<#[shareable(skip)] T = Untyped> {
    first: Handle<T>,
    len: u64,
}

#[derive(Shareable)]
#[repr(C)]
struct Folder {
    parent: Handle<Folder>,
    children: List<Folder>,
}

#[derive(Shareable)]
#[repr(C)]
struct Fixed<const SCALE: i8, const SIGNED: bool, const UNIT: char>(i64);

#[test]
fn what_is_derived_is_without_padding_for_zerocopy_too() {
    shareable_as_zerocopy_sees_it::<Point>();
    shareable_as_zerocopy_sees_it::<Nested>();
    shareable_as_zerocopy_sees_it::<Tuple>();
    shareable_as_zerocopy_sees_it::<Unit>();
    shareable_as_zerocopy_sees_it::<Meters>();
    shareable_as_zerocopy_sees_it::<Line>();
}

#[test]
fn a_fingerprint_is_made_of_name_layout_and_fields() {
    let number = u32::FINGERPRINT;
    let point = Fingerprint::new("Point", 8, 4).field("x", 0, number).field("y", 4, number);
    assert_eq!(Point::FINGERPRINT, point);
    let tuple = Fingerprint::new("Tuple", 16, 8)
        .field("0", 0, u64::FINGERPRINT)
        .field("1", 8, AtomicU32::FINGERPRINT)
        .field("2", 12, f32::FINGERPRINT);
    assert_eq!(Tuple::FINGERPRINT, tuple);
    assert_eq!(Unit::FINGERPRINT, Fingerprint::new("Unit", 0, 1));
    let handle = <Handle<Untyped>>::FINGERPRINT;
    let node = Fingerprint::new("Node", 32, 8)
        .parameter(u64::FINGERPRINT)
        .field("next", 0, handle)
        .field("others", 8, <[Handle<Untyped>; 2]>::FINGERPRINT)
        .field("value", 24, u64::FINGERPRINT);
    assert_eq!(Node::<u64>::FINGERPRINT, node);
}

/// Where fields without bytes lie in a transparent struct is the compiler's affair.
#[test]
fn fields_of_a_transparent_struct_have_no_offset() {
    let marker = <PhantomData<fn() -> String>>::FINGERPRINT;
    let id = Fingerprint::new("Id", 4, 4)
        .field("0", 0, marker)
        .field("1", 0, u32::FINGERPRINT)
        .field("2", 0, marker);
    assert_eq!(Id::<String>::FINGERPRINT, id);
}

/// Each has a name of its own in Rust and, but for the last, the same in its fingerprint.
mod variants {
    use shmheap::Shareable;

    macro_rules! points {
        ($($ident:ident($name:literal) { $($field:ident: $ty:ty),* })*) => {$(
            #[derive(Shareable)]
            #[repr(C)]
            #[shareable(name = $name)]
            pub(super) struct $ident { $($field: $ty),* }
        )*};
    }

    points! {
        Same("Point") { x: u32, y: u32 }
        Reordered("Point") { y: u32, x: u32 }
        Renamed("Point") { x: u32, z: u32 }
        Retyped("Point") { x: u32, y: f32 }
        Longer("Point") { x: u32, y: u32, z: u32 }
        OneArray("Point") { x: [u32; 2] }
        Other("Position") { x: u32, y: u32 }
    }

    /// Of the name in Rust alone.
    #[derive(Shareable)]
    #[repr(C)]
    pub(super) struct Point {
        x: u32,
        y: u32,
    }
}

#[test]
fn a_change_of_the_type_changes_its_fingerprint() {
    assert_eq!(variants::Same::FINGERPRINT, Point::FINGERPRINT);
    assert_eq!(variants::Point::FINGERPRINT, Point::FINGERPRINT, "modules do not count");
    let all = [
        Point::FINGERPRINT,
        variants::Reordered::FINGERPRINT,
        variants::Renamed::FINGERPRINT,
        variants::Retyped::FINGERPRINT,
        variants::Longer::FINGERPRINT,
        variants::OneArray::FINGERPRINT,
        variants::Other::FINGERPRINT,
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[..at].contains(one), "{at}");
    }
}

#[test]
fn parameters_are_part_of_the_fingerprint_unless_skipped() {
    assert_ne!(Node::<u64>::FINGERPRINT, Node::<f64>::FINGERPRINT);
    assert_eq!(List::<u64>::FINGERPRINT, List::<f64>::FINGERPRINT);
    assert_eq!(List::<Untyped>::FINGERPRINT, List::<Folder>::FINGERPRINT);
    let all = [
        Fixed::<-1, false, 'm'>::FINGERPRINT,
        Fixed::<1, false, 'm'>::FINGERPRINT,
        Fixed::<1, true, 'm'>::FINGERPRINT,
        Fixed::<1, true, 's'>::FINGERPRINT,
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[..at].contains(one), "{at}");
    }
}

#[test]
fn a_type_may_hold_handles_of_itself() {
    let expected = Fingerprint::new("Folder", 24, 8)
        .field("parent", 0, <Handle<Folder>>::FINGERPRINT)
        .field("children", 8, List::<Folder>::FINGERPRINT);
    assert_eq!(Folder::FINGERPRINT, expected);
}

/// A program built today must know a type that one built last year has stored.
#[test]
fn fingerprints_stay_as_they_are() {
    let fingerprints = [
        Point::FINGERPRINT,
        Node::<u64>::FINGERPRINT,
        Fixed::<-1, false, 'm'>::FINGERPRINT,
        Id::<String>::FINGERPRINT,
    ];
    let known = [
        0x61d6_550e_e79f_8b63,
        0x6856_e9fb_8fbd_baf6,
        0x7722_ed3c_5fc0_9484,
        0xe700_2d1b_5381_ee08,
    ];
    assert_eq!(fingerprints.map(Fingerprint::to_raw), known);
}

#[derive(Shareable)]
#[repr(C)]
struct Shelf {
    number: u64,
    boxes: [ShmCell<Shelf>; 2],
    next: ShmPtr<Shelf>,
    lower: Lower,
}

#[derive(Shareable)]
#[repr(transparent)]
struct Lower(ShmCell<u64>);

#[test]
fn a_struct_owns_what_its_fields_own() {
    let mut offsets = Vec::new();
    Shelf::owned_cells(&mut |cell| offsets.push(cell.offset_bytes));
    assert_eq!(offsets, [8, 24, 48]);
}
