//! What a lock protects, and who may look at it: where this layer touches users' bytes.
//!
//! # Unsafe code
//!
//! A value in its cell becomes a reference in exchange for what an acquisition of the lock returns
//! ([`Inside`], [`Among`]), which this layer's guards pass for the value of that very lock. The
//! lock then keeps everybody out of the value, or all who would change it, until the guard is
//! dropped. Against peers that write where they have no lock there is no protection in shared
//! memory, as the promise of the crate says.
//!
//! And the implementations of [`Shareable`] for the types of this layer.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};

use super::owned::Inside;
use super::readers::Among;
use super::{ShmCondvar, ShmMutex, ShmOnce, ShmPermits, ShmRwLock, ShmSemaphore};
use crate::{Fingerprint, OwnedCell, Shareable};

/// A value behind a lock.
#[repr(transparent)]
pub(super) struct Value<T>(UnsafeCell<T>);

// SAFETY: it is reached through `Shared` and `Exclusive` alone, whose makers have the lock.
unsafe impl<T: Send + Sync> Sync for Value<T> {}

/// A value to look at.
pub(super) struct Shared<'a, T>(&'a Value<T>);

/// A value to look at and to change.
pub(super) struct Exclusive<'a, T>(&'a Value<T>);

impl<T> Value<T> {
    /// Who is among the readers of the value's lock may look at it.
    pub(super) fn shared(&self, _: &Among) -> Shared<'_, T> {
        Shared(self)
    }

    /// Who has the lock itself to himself has the value, too.
    pub(super) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// Who is inside the value's lock has it for himself.
    pub(super) fn exclusive(&self, _: Inside) -> Exclusive<'_, T> {
        Exclusive(self)
    }
}

impl<T> Deref for Shared<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock keeps writers out as long as the guard that holds this lives; any bytes
        // are a value of a shareable type, which is all that locks are made for.
        unsafe { &*self.0.0.get() }
    }
}

impl<T> Deref for Exclusive<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock keeps all others out as long as the guard that holds this lives.
        unsafe { &*self.0.0.get() }
    }
}

impl<T> DerefMut for Exclusive<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above; the reference borrows the only `Exclusive` that there is.
        unsafe { &mut *self.0.0.get() }
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").finish_non_exhaustive()
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for Exclusive<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The fingerprint of a type of this layer.
const fn fingerprint<S>(name: &str) -> Fingerprint {
    Fingerprint::new(name, size_of::<S>(), align_of::<S>())
}

// SAFETY: words, and a value of which any bytes are one; no address. Bytes between the words and
// the value, and behind it, carry nothing anywhere: the type cannot be made or copied, only be
// there as the zeros of its object.
unsafe impl<T: Shareable> Shareable for ShmMutex<T> {
    const FINGERPRINT: Fingerprint =
        fingerprint::<Self>("shmheap::ShmMutex").parameter(T::FINGERPRINT);

    fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
        T::owned_cells(&mut |cell| visit(cell.within(offset_of!(Self, value))));
    }
}

// SAFETY: as a mutex.
unsafe impl<T: Shareable> Shareable for ShmRwLock<T> {
    const FINGERPRINT: Fingerprint =
        fingerprint::<Self>("shmheap::ShmRwLock").parameter(T::FINGERPRINT);

    fn owned_cells(visit: &mut dyn FnMut(OwnedCell)) {
        T::owned_cells(&mut |cell| visit(cell.within(offset_of!(Self, value))));
    }
}

// SAFETY: one word.
unsafe impl Shareable for ShmCondvar {
    const FINGERPRINT: Fingerprint = fingerprint::<Self>("shmheap::ShmCondvar");
}

// SAFETY: one word.
unsafe impl Shareable for ShmOnce {
    const FINGERPRINT: Fingerprint = fingerprint::<Self>("shmheap::ShmOnce");
}

// SAFETY: one word.
unsafe impl Shareable for ShmSemaphore {
    const FINGERPRINT: Fingerprint = fingerprint::<Self>("shmheap::ShmSemaphore");
}

// SAFETY: words.
unsafe impl<const N: usize> Shareable for ShmPermits<N> {
    const FINGERPRINT: Fingerprint = fingerprint::<Self>("shmheap::ShmPermits");
}
