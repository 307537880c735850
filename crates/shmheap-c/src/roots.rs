//! Roots: names in a heap, by which programs find each other's objects.
//!
//! # Safety
//!
//! Names are C strings, as the header promises; pointers may be any value. The roots are listed to
//! the caller's function outside the gate (`call`), in a frame that has nothing to clean up: so it
//! may call this library, and leave by `longjmp` or a C++ exception.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use shmheap::Error;

use crate::call;
use crate::error::Failure;
use crate::handles::Connection;
use crate::options::MemoryHandle;

/// What is called for each root.
type Visit = unsafe extern "C-unwind" fn(*const c_char, *mut c_void, *mut c_void) -> c_int;

/// `shmheap_root_set`.
///
/// # Safety
///
/// `name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_root_set(
    mem: MemoryHandle,
    name: *const c_char,
    ptr: *mut c_void,
) -> c_int {
    call::on_heap(mem, -1, |connection| {
        // SAFETY: the caller's promise.
        let name = unsafe { name_of(name) }?;
        let object = NonNull::new(ptr.cast());
        let object = object.ok_or(Failure::Argument("NULL is no object, so it gets no name"))?;
        connection.heap.set_root(name, connection.heap.handle(object)?)?;
        Ok(0)
    })
}

/// `shmheap_root_get`.
///
/// # Safety
///
/// `name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_root_get(mem: MemoryHandle, name: *const c_char) -> *mut c_void {
    call::on_heap(mem, ptr::null_mut(), |connection| {
        // SAFETY: the caller's promise.
        let name = unsafe { name_of(name) }?;
        Ok(connection.resolve(connection.heap.root_handle(name)?)?.as_ptr().cast())
    })
}

/// `shmheap_root_remove`.
///
/// # Safety
///
/// `name` is null or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmheap_root_remove(mem: MemoryHandle, name: *const c_char) -> c_int {
    call::on_heap(mem, -1, |connection| {
        // SAFETY: the caller's promise.
        let name = unsafe { name_of(name) }?;
        match connection.heap.remove_root(name) {
            Ok(_) => Ok(0),
            Err(Error::Occupied { .. }) => Err(Failure::RootInTheMaking),
            Err(error) => Err(error.into()),
        }
    })
}

/// `shmheap_root_list`.
///
/// # Safety
///
/// `visit` is null or a function that can be called with a C string, a pointer, and `context`.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn shmheap_root_list(
    mem: MemoryHandle,
    visit: Option<Visit>,
    context: *mut c_void,
) -> c_int {
    let listed = call::on_heap(mem, None, |connection| {
        let visit = visit.ok_or(Failure::Argument("the function to call for each root is NULL"))?;
        Ok(Some((visit, List::of(connection))))
    });
    let Some((visit, list)) = listed else { return -1 };
    // Without a destructor: see the module's text.
    let list: *mut List = Box::into_raw(Box::new(list));
    // SAFETY: made just now, and freed below.
    let count = unsafe { &*list }.0.len();
    let mut answer = 0;
    for number in 0..count {
        // SAFETY: as above.
        let (name, object) = &unsafe { &*list }.0[number];
        // SAFETY: the caller's promise; the name stands until the list is freed.
        answer = unsafe { visit(name.as_ptr(), *object, context) };
        if answer != 0 {
            break;
        }
    }
    // SAFETY: from `Box::into_raw`, and used no more.
    drop(unsafe { Box::from_raw(list) });
    answer
}

/// The roots that are made, and where their objects are in this process; null if they are gone.
struct List(Vec<(CString, *mut c_void)>);

impl List {
    fn of(connection: &Connection) -> Self {
        let made = connection.heap.roots().into_iter().filter(|root| root.is_made);
        let listed = made.map(|root| {
            let object = connection.resolve(root.handle);
            (c_string(root.name), object.map_or(ptr::null_mut(), |object| object.as_ptr().cast()))
        });
        Self(listed.collect())
    }
}

/// The text as C has it. No root was given a name with a NUL; one that was overwritten ends there.
fn c_string(mut text: String) -> CString {
    if let Some(len) = text.find('\0') {
        text.truncate(len);
    }
    CString::new(text).unwrap_or_default()
}

/// # Safety
///
/// `name` is null or a C string that outlives the result.
pub(crate) unsafe fn name_of<'call>(name: *const c_char) -> Result<&'call str, Failure> {
    if name.is_null() {
        return Err(Failure::Argument("the root's name is NULL"));
    }
    // SAFETY: not null, and the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    name.to_str().map_err(|_| Failure::Argument("the root's name is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_at_a_nul() {
        assert_eq!(c_string("a\0b".to_owned()), c"a".to_owned());
        assert_eq!(c_string("\u{20ac}".to_owned()).to_bytes(), "\u{20ac}".as_bytes());
    }
}
