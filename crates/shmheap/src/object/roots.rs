//! Roots: values with a name, by which processes that know nothing else of a heap find each other's
//! objects.
//!
//! A root is a [`ShmArc`] with a name: it lives while it has that, or while a process holds it. One
//! process makes it and the others wait; if that one dies meanwhile, they are told. C programs, and
//! who manages memory by hand, give names to ordinary objects ([`Heap::set_root`]).

use std::time::{Duration, Instant};

use crate::heap::Unpublished;
use crate::object::arc::Held;
use crate::object::belongings;
use crate::object::place;
pub use crate::object::registry::Root;
use crate::object::registry::{Description, Found, Holding, Registry, checked_name};
use crate::object::{Fingerprint, Shareable, ShmArc};
use crate::{Error, Handle, Heap, Result};

impl Heap {
    /// The root of that name: the one there is, or a new one, which `init` makes from a value of
    /// zeros. Of processes that call at once, one makes it, and the others wait for it.
    ///
    /// The value stays until [`remove_root`](Self::remove_root) takes the name away and no process
    /// holds it any more; so also when all processes are gone.
    ///
    /// Cost: a walk through the names. Killed while it is being made: it is freed, and whoever
    /// waits and sees it gets [`Error::OwnerDied`]; the others find none, and make one. If `init`
    /// panics, the root is given up, and the panic goes on. An `init` that asks for the same root
    /// waits for itself, for ever. In a child that `init` forks it fails ([`Error::Inherited`]):
    /// the root is its parent's.
    ///
    /// # Errors
    ///
    /// [`Error::WrongType`] if there is one of another type, [`Error::OwnerDied`],
    /// [`Error::InvalidName`] for names that are empty or above 120 bytes, [`Error::Full`] and
    /// other errors of [`alloc_unpublished`](Self::alloc_unpublished).
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// // In any number of processes:
    /// let visits = heap.find_or_create::<AtomicU64>("visits", |visits| {
    ///     *visits.get_mut() = 1000;
    /// })?;
    /// visits.fetch_add(1, Ordering::Relaxed);
    /// assert_eq!(heap.find_root::<AtomicU64>("visits")?.load(Ordering::Relaxed), 1001);
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn find_or_create<T: Shareable>(
        &self,
        name: &str,
        init: impl FnOnce(&mut T),
    ) -> Result<ShmArc<'_, T>> {
        self.find_or_make(name, None, |value| {
            init(value);
            Ok(())
        })
    }

    /// As [`find_or_create`](Self::find_or_create), by an `init` that can fail: the root is given
    /// up then. Others are waited for no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As there, [`Error::TimedOut`], and what `init` returns.
    pub fn try_find_or_create<T: Shareable>(
        &self,
        name: &str,
        timeout: Duration,
        init: impl FnOnce(&mut T) -> Result<()>,
    ) -> Result<ShmArc<'_, T>> {
        self.find_or_make(name, Instant::now().checked_add(timeout), init)
    }

    fn find_or_make<T: Shareable>(
        &self,
        name: &str,
        deadline: Option<Instant>,
        init: impl FnOnce(&mut T) -> Result<()>,
    ) -> Result<ShmArc<'_, T>> {
        checked_name(name)?;
        let object = || belongings::alloc::<T>(self);
        let registry = Registry::roots(self);
        match registry.find_or_make(name, Description::of::<T>(), deadline, object)? {
            Found::There(holding) => self.typed_root(name, holding),
            Found::Ours(mut making) => {
                // Should it fail or panic, the root is given up with its guard.
                init(place::in_the_making(self, &mut making)?)?;
                ShmArc::of(self, making.finish()?)
            }
        }
    }

    /// The root of that name whose value is laid out by who asks, and whose object `make` makes if
    /// there is none. It is held by this process.
    pub(crate) fn find_or_create_object<'h>(
        &'h self,
        name: &str,
        fingerprint: Fingerprint,
        make: impl Fn() -> Result<Unpublished<'h>>,
    ) -> Result<Held<'h>> {
        checked_name(name)?;
        let description = Description::laid_out_as(fingerprint);
        let holding = match Registry::roots(self).find_or_make(name, description, None, make)? {
            Found::There(holding) => holding,
            Found::Ours(making) => making.finish()?,
        };
        let held = Held::new(self, holding);
        match holding.fingerprint() == fingerprint {
            true => Ok(held),
            false => Err(Error::WrongType { what: format!("the root '{name}'") }),
        }
    }

    fn typed_root<'h, T: Shareable>(
        &'h self,
        name: &str,
        holding: Holding<'h>,
    ) -> Result<ShmArc<'h, T>> {
        if holding.fingerprint() == T::FINGERPRINT {
            return ShmArc::of(self, holding);
        }
        drop(Held::new(self, holding));
        Err(Error::WrongType { what: format!("the root '{name}'") })
    }

    /// The root of that name. While another process makes it, it is waited for.
    ///
    /// Cost: a walk through the names.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoot`], [`Error::WrongType`], [`Error::OwnerDied`]; [`Error::Full`] and
    /// [`Error::ReadOnly`], as to hold a value is to write that down.
    ///
    /// ```
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// use shmheap::Error;
    /// heap.find_or_create::<u64>("limit", |limit| *limit = 10)?;
    /// assert_eq!(*heap.find_root::<u64>("limit")?, 10);
    /// assert!(matches!(heap.find_root::<f64>("limit"), Err(Error::WrongType { .. })));
    /// assert!(matches!(heap.find_root::<u64>("limits"), Err(Error::NoRoot { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn find_root<T: Shareable>(&self, name: &str) -> Result<ShmArc<'_, T>> {
        let found = Registry::roots(self).find(name, None)?;
        let holding = found.ok_or_else(|| no_root(name))?;
        self.typed_root(name, holding)
    }

    /// Gives an ordinary object a name: so do C programs, and who frees objects by hand. The name
    /// does not keep the object.
    ///
    /// # Errors
    ///
    /// [`Error::RootExists`], [`Error::InvalidHandle`] if the object is not live,
    /// [`Error::InvalidName`], [`Error::Full`], [`Error::ReadOnly`].
    ///
    /// ```
    /// use std::alloc::Layout;
    /// # let heap = shmheap::HeapOptions::new(1 << 20).create_memfd()?;
    /// let object = heap.alloc(Layout::new::<[u8; 100]>())?;
    /// heap.set_root("buffer", heap.handle(object)?)?;
    /// // Another process:
    /// let handle = heap.root_handle("buffer")?;
    /// assert_eq!(heap.resolve(handle)?, object);
    /// // First the name goes, then the object.
    /// heap.remove_root("buffer")?;
    /// // SAFETY: nobody uses it any more.
    /// unsafe { heap.free(object) }?;
    /// # Ok::<(), shmheap::Error>(())
    /// ```
    pub fn set_root(&self, name: &str, object: Handle) -> Result<()> {
        checked_name(name)?;
        self.resolve(object)?;
        match Registry::roots(self).set(name, object)? {
            true => Ok(()),
            false => Err(Error::RootExists { name: name.to_owned() }),
        }
    }

    /// The object that has a name, whoever gave it. It may be freed at any time, unless its users
    /// have agreed otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoot`], also while it is being made.
    pub fn root_handle(&self, name: &str) -> Result<Handle> {
        Registry::roots(self).peek(name).ok_or_else(|| no_root(name))
    }

    /// Takes the name away from a root. Its value is freed when no process holds it any more; an
    /// object that was given the name by [`set_root`](Self::set_root) stays, and is the caller's.
    /// Returns the handle of what had the name.
    ///
    /// Killed inside: the name is there, or it is not.
    ///
    /// # Errors
    ///
    /// [`Error::NoRoot`], [`Error::Occupied`] while it is being made, [`Error::ReadOnly`].
    pub fn remove_root(&self, name: &str) -> Result<Handle> {
        Registry::roots(self).remove(name)?.ok_or_else(|| no_root(name))
    }

    /// All roots, in no order. Others may come and go meanwhile.
    #[must_use]
    pub fn roots(&self) -> Vec<Root> {
        Registry::roots(self).list()
    }

    /// Frees shared values that nobody holds any more because their processes were killed. This is
    /// done in passing, too, whenever a value is shared; so it need not be called.
    ///
    /// Cost: a walk through all shared values, and a system call for each that another process
    /// holds.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`].
    pub fn sweep_shared(&self) -> Result<()> {
        Registry::shared(self).sweep()?;
        Registry::roots(self).sweep()
    }
}

fn no_root(name: &str) -> Error {
    Error::NoRoot { name: name.to_owned() }
}
