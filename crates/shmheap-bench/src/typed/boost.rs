//! Boost.Interprocess: `boost::unordered_map` in a managed shared memory, and its mutex, which also
//! guards the map.
//!
//! The C++ side is in `shim/boost.cpp`. Where there were no headers at build time, `no_boost.rs`
//! stands in for this module.
//!
//! # Unsafe code
//!
//! Calls of the shim's functions.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;

use anyhow::{Result, bail};

use super::{Facility, Ground, Lock, Locks, Maps, Value};
use crate::peer::{HEAP_BYTES_MAX, Sharing};

unsafe extern "C" {
    fn shim_boost_site_create(name: *const c_char, bytes: usize) -> *mut c_void;
    fn shim_boost_site_open(name: *const c_char) -> *mut c_void;
    fn shim_boost_site_close(site: *mut c_void);
    fn shim_boost_map_get(site: *mut c_void, key: u64, value: *mut u64) -> bool;
    fn shim_boost_map_insert(site: *mut c_void, key: u64, value: *const u64);
    fn shim_boost_count(site: *mut c_void, counts: *mut u64);
    fn shim_boost_remove(name: *const c_char);
    safe fn shim_boost_last_error() -> *const c_char;
}

/// `boost::unordered_map` behind an `interprocess_mutex`.
#[derive(Debug)]
pub(crate) struct Map;

/// `interprocess_mutex`.
#[derive(Debug)]
pub(crate) struct Mutex;

/// A segment with a map and counts in this process's address space.
#[derive(Debug)]
pub(crate) struct Site(NonNull<c_void>);

// SAFETY: all that is called from several threads takes the mutex in the segment.
unsafe impl Sync for Site {}

impl Site {
    fn new(site: *mut c_void) -> Result<Self> {
        match NonNull::new(site) {
            Some(site) => Ok(Self(site)),
            None => {
                // SAFETY: a C string that stands until this thread's next failure.
                let text = unsafe { CStr::from_ptr(shim_boost_last_error()) };
                bail!("Boost.Interprocess: {}", text.to_string_lossy())
            }
        }
    }

    fn create(name: &CStr) -> Result<Self> {
        // SAFETY: a C string.
        Self::new(unsafe { shim_boost_site_create(name.as_ptr(), HEAP_BYTES_MAX as usize) })
    }

    fn open(name: &CStr) -> Result<Self> {
        // SAFETY: a C string.
        Self::new(unsafe { shim_boost_site_open(name.as_ptr()) })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // SAFETY: it is open, and nobody uses it any more.
        unsafe { shim_boost_site_close(self.0.as_ptr()) }
    }
}

/// A segment that is gone with this at the latest.
struct Name(CString);

impl Drop for Name {
    fn drop(&mut self) {
        // SAFETY: a C string.
        unsafe { shim_boost_remove(self.0.as_ptr()) }
    }
}

fn lay_out(name: &str) -> Result<Ground> {
    let c_name = Name(CString::new(name)?);
    drop(Site::create(&c_name.0)?);
    Ok(Ground::new(name, c_name))
}

/// What both have in common.
macro_rules! lies_in_a_segment {
    () => {
        type Site = Site;

        fn sharing(&self) -> Sharing {
            Sharing::Processes
        }

        fn lay_out(&self, name: &str) -> Result<Ground> {
            lay_out(name)
        }

        fn enter(&self, address: &str) -> Result<Site> {
            Site::open(&CString::new(address)?)
        }

        fn remove(&self, address: &str) {
            drop(CString::new(address).map(Name));
        }
    };
}

impl Facility for Map {
    lies_in_a_segment!();

    fn name(&self) -> &'static str {
        "boost unordered_map"
    }

    fn description(&self) -> String {
        "in managed_shared_memory, behind one interprocess_mutex".to_owned()
    }
}

impl Facility for Mutex {
    lies_in_a_segment!();

    fn name(&self) -> &'static str {
        "boost mutex"
    }

    fn description(&self) -> String {
        "interprocess_mutex of Boost.Interprocess, not robust".to_owned()
    }
}

impl Maps for Site {
    fn map(&self) -> Result<impl super::Map + '_> {
        Ok(self)
    }
}

impl super::Map for &Site {
    #[inline]
    fn get(&self, key: u64) -> Option<Value> {
        let mut value = Value::default();
        // SAFETY: an open segment, and room for a value.
        let found = unsafe { shim_boost_map_get(self.0.as_ptr(), key, value.as_mut_ptr()) };
        found.then_some(value)
    }

    #[inline]
    fn insert(&self, key: u64, value: Value) {
        // SAFETY: an open segment, and a value.
        unsafe { shim_boost_map_insert(self.0.as_ptr(), key, value.as_ptr()) }
    }
}

impl Locks for Site {
    fn lock(&self) -> Result<impl Lock + '_> {
        Ok(self)
    }
}

impl Lock for &Site {
    #[inline]
    fn count(&self) -> [u64; 2] {
        let mut counts = [0; 2];
        // SAFETY: an open segment, and room for two counts.
        unsafe { shim_boost_count(self.0.as_ptr(), counts.as_mut_ptr()) };
        counts
    }
}
