//! How a failure reaches a Python program: as the exception of the same name.
//!
//! The exceptions are made in Python (`_errors.py`), where they can derive from built-in ones. A
//! test compares their names with the variants of [`Error`].

use pyo3::prelude::*;
use shmheap::Error;

/// `Result` with [`Failure`].
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The heap refused.
    Heap(Error),
    /// An exception already.
    Python(PyErr),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Heap(error)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Heap(error) => Python::attach(|py| exception(py, &error)),
            Failure::Python(error) => error,
        }
    }
}

/// The exception that stands for the error, or what kept it from being made.
fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let made = || -> PyResult<Bound<'_, PyAny>> {
        let class = py.import("shmheap._errors")?.getattr(name(error))?;
        let exception = class.call1((text(error),))?;
        exception.setattr("errno", error.errno())?;
        Ok(exception)
    };
    made().map_or_else(|failure| failure, PyErr::from_value)
}

/// What the error says, in words that Python's users know.
fn text(error: &Error) -> String {
    match error {
        Error::Full { .. } | Error::AddressSpace { .. } => {
            error.to_string().replace("max_len", "max_size")
        }
        Error::InvalidOption { option, value, why } => {
            let option = match *option {
                "len" => "size",
                "max_len" => "max_size",
                other => other,
            };
            format!("{option} cannot be {value}: {}", why.replace("max_len", "max_size"))
        }
        Error::NoRoot { name } => {
            format!("the heap has no root '{name}'; give the name to something, or look at roots()")
        }
        Error::Damaged { .. } => error.to_string().replace("ShmMap", "map"),
        _ => error.to_string(),
    }
}

fn name(error: &Error) -> &'static str {
    match error {
        Error::InvalidName { .. } => "InvalidName",
        Error::InvalidOption { .. } => "InvalidOption",
        Error::AlreadyExists { .. } => "AlreadyExists",
        Error::NotFound { .. } => "NotFound",
        Error::PermissionDenied { .. } => "PermissionDenied",
        Error::NotAHeap { .. } => "NotAHeap",
        Error::VersionMismatch { .. } => "VersionMismatch",
        Error::NoSpace { .. } => "NoSpace",
        Error::AddressSpace { .. } => "AddressSpace",
        Error::AddressTaken { .. } => "AddressTaken",
        Error::Full { .. } => "Full",
        Error::QuotaExceeded { .. } => "QuotaExceeded",
        Error::NotLabelled => "NotLabelled",
        Error::InvalidTag { .. } => "InvalidTag",
        Error::TooManyTags { .. } => "TooManyTags",
        Error::TooManyLabels { .. } => "TooManyLabels",
        Error::InvalidLayout { .. } => "InvalidLayout",
        Error::InvalidPointer { .. } => "InvalidPointer",
        Error::InvalidHandle { .. } => "InvalidHandle",
        Error::Stale { .. } => "Stale",
        Error::ReadOnly { .. } => "ReadOnly",
        Error::TooManyPeers { .. } => "TooManyPeers",
        Error::InvalidCell { .. } => "InvalidCell",
        Error::Occupied { .. } => "Occupied",
        Error::Inherited { .. } => "Inherited",
        Error::TooManyThreads { .. } => "TooManyThreads",
        Error::TooManyUnpublished { .. } => "TooManyUnpublished",
        Error::NoRoot { .. } => "NoRoot",
        Error::RootExists { .. } => "RootExists",
        Error::WrongType { .. } => "WrongType",
        Error::OwnerDied { .. } => "OwnerDied",
        Error::NotOwner { .. } => "NotOwner",
        Error::TimedOut { .. } => "TimedOut",
        Error::Closed { .. } => "Closed",
        Error::AtCapacity { .. } => "AtCapacity",
        Error::Damaged { .. } => "Damaged",
        Error::System { .. } => "System",
        // Outside its crate the enum can be matched in no other way.
        _ => "Error",
    }
}
