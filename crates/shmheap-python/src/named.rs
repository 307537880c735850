//! Values with names: what is common to a map, a mutex and a segment.
//!
//! ```text
//!   root: name --> value  <---holds--- Open { connection, value }
//! ```

/// Declares `Open`: a shared value of that type, and the connection that it is in.
macro_rules! open_value {
    ($value:ty) => {
        self_cell::self_cell! {
            /// The value, held, and the connection that it is in.
            struct Open {
                owner: pyo3::Py<$crate::connection::Connection>,
                #[covariant]
                dependent: Value,
            }
        }

        type Value<'h> = shmheap::ShmArc<'h, $value>;

        impl Open {
            /// What `find` finds, or makes, which may have to wait for whoever makes it. If that
            /// one has died, there is nothing yet, and so it is tried again, as long as it may be
            /// waited for.
            fn find(
                py: pyo3::Python<'_>,
                connection: pyo3::Py<$crate::connection::Connection>,
                timeout: $crate::waiting::Timeout,
                mut find: impl for<'h> FnMut(
                    &'h shmheap::Heap,
                    std::time::Duration,
                ) -> shmheap::Result<Value<'h>>
                + Send,
            ) -> $crate::error::Result<Self> {
                let open = |connection, slice| {
                    Self::try_new_or_recover(
                        connection,
                        |connection: &pyo3::Py<$crate::connection::Connection>| {
                            find(&connection.get().heap, slice).map_err(|error| match error {
                                shmheap::Error::OwnerDied { what } => {
                                    shmheap::Error::TimedOut { what }
                                }
                                error => error,
                            })
                        },
                    )
                };
                $crate::waiting::in_slices_with(py, timeout, connection, open)
                    .map_err(|(_, failure)| failure)
            }

            fn connection(&self) -> &$crate::connection::Connection {
                self.borrow_owner().get()
            }
        }
    };
}

/// Declares how an `Open` of zeros is found, or made.
macro_rules! find_or_create {
    () => {
        impl Open {
            fn find_or_create(
                py: pyo3::Python<'_>,
                connection: pyo3::Py<$crate::connection::Connection>,
                name: &str,
            ) -> $crate::error::Result<Self> {
                Self::find(py, connection, None, |heap, slice| {
                    heap.try_find_or_create(name, slice, |_| Ok(()))
                })
            }
        }
    };
}

pub(crate) use {find_or_create, open_value};
