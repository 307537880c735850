//! `#[derive(Shareable)]`: structs that may lie in shared memory.
//!
//! shmheap hands it on beside its trait `Shareable`; nobody needs this crate by itself.
//!
//! | file | holds |
//! |---|---|
//! | `input` | what the struct must be like, and what its attributes say |
//! | `output` | the implementation, and the checks that only the compiler can make |

mod input;
mod output;

use input::Input;
use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Makes a struct `Shareable`: its values may lie in a heap and be read and written by any process.
///
/// ```
/// use shmheap::{Handle, Shareable};
/// use std::sync::atomic::AtomicU64;
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Sensor {
///     name: [u8; 12],
///     unit: u32,
///     readings: AtomicU64,
///     next: Handle<Sensor>,
/// }
///
/// // The same in every program that has the same struct; another for any other.
/// assert_ne!(Sensor::FINGERPRINT, u64::FINGERPRINT);
/// ```
///
/// # What it asks for
///
/// The struct has `#[repr(C)]`, or `#[repr(transparent)]`, and each of its fields is `Shareable`.
/// What is not, cannot be: other processes have other addresses, and may write any bytes.
///
/// | instead of | take |
/// |---|---|
/// | `usize`, `isize`, `AtomicUsize` | `u64`, `i64`, `AtomicU64` |
/// | `bool`, `char` | `u8`, `u32` |
/// | an enum | a number, and a constant for each variant |
/// | references, pointers, `Box<T>` | `Handle<T>` |
/// | `Option<Handle<T>>` | `Handle<T>`, with `Handle::NONE` |
/// | `String`, `Vec<T>` | `[u8; N]`, `[T; N]`, or the handle of an object of its own |
/// | `PhantomData<T>` | `PhantomData<fn() -> T>` |
///
/// There is no padding, in which bytes of one process could be seen by others. Where the compiler
/// would put some, it names the field to put there:
///
/// ```compile_fail
/// # use shmheap::Shareable;
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Reading {
///     channel: u8,
///     value: u32, // error: padding: put a field `_padding: [u8; 3]` before this one
/// }
/// # println!("{:?}", Reading::FINGERPRINT);
/// ```
///
/// It has no `Drop`. A process that is killed drops nothing, and one that reads a value has a copy
/// of it: what must be done at the end of an object's life is to be done by whoever frees it.
///
/// # The fingerprint
///
/// It is made of the struct's name, size and alignment, of its parameters, and of each field's
/// name, offset and fingerprint. The struct's module does not count, nor does the compiler. A type
/// that gets another name in Rust keeps its fingerprint with
/// `#[shareable(name = "...")]`:
///
/// ```
/// # use shmheap::Shareable;
/// mod first_version {
/// #   use shmheap::Shareable;
///     #[derive(Shareable)]
///     #[repr(C)]
///     pub struct Point { x: u32, y: u32 }
/// }
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// #[shareable(name = "Point")]
/// struct Position { x: u32, y: u32 }
///
/// assert_eq!(Position::FINGERPRINT, first_version::Point::FINGERPRINT);
/// ```
///
/// # Generic structs
///
/// Type parameters have to be `Shareable`, and are part of the fingerprint, as numbers among the
/// parameters are. A parameter that only handles mention can be left out of both with
/// `#[shareable(skip)]`. That is needed where the fingerprint would be made of itself:
///
/// ```
/// use shmheap::{Handle, Shareable};
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct List<#[shareable(skip)] T> {
///     first: Handle<T>,
///     len: u64,
/// }
///
/// #[derive(Shareable)]
/// #[repr(C)]
/// struct Folder {
///     name: [u8; 56],
///     parent: Handle<Folder>,
///     children: List<Folder>,
/// }
/// ```
///
/// Whether a generic struct has padding may depend on its parameters. So it is looked at where the
/// struct is used with some, and not where it stands.
///
/// # Attributes
///
/// | attribute | on | effect |
/// |---|---|---|
/// | `#[shareable(name = "...")]` | the struct | the name in the fingerprint |
/// | `#[shareable(crate = "...")]` | the struct | where shmheap is, if it is not `::shmheap` |
/// | `#[shareable(skip)]` | a type parameter | not in the fingerprint, may be any type |
#[proc_macro_derive(Shareable, attributes(shareable))]
pub fn derive_shareable(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as DeriveInput);
    match Input::new(&item) {
        Ok(input) => output::implementation(&input).into(),
        Err(errors) => errors.into_compile_error().into(),
    }
}
