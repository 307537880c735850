//! Waiting for other processes, while the threads of this one run and Ctrl-C is noticed.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use shmheap::Error;

use crate::error::{Failure, Result};

/// How long signals wait to be noticed. Whoever waits for longer in Rust is woken as often anyway.
const SLICE: Duration = Duration::from_millis(50);

/// How long somebody is willing to wait; `None`: for ever.
pub(crate) type Timeout = Option<Duration>;

/// What Python says in seconds.
pub(crate) fn timeout_of(seconds: Option<f64>) -> PyResult<Timeout> {
    let Some(seconds) = seconds else { return Ok(None) };
    if seconds.is_nan() || seconds < 0.0 {
        let why = format!("a timeout is a number of seconds, 0 or more, or None; not {seconds}");
        return Err(PyValueError::new_err(why));
    }
    // What is too long for a clock is for ever.
    Ok(Duration::try_from_secs_f64(seconds).ok())
}

/// Does what may have to wait, which is told for how long at the most, until it is done or out of
/// time. Python's signal handlers run in between; if one raises, that ends it.
pub(crate) fn in_slices<T: Send>(
    py: Python<'_>,
    timeout: Timeout,
    mut attempt: impl FnMut(Duration) -> shmheap::Result<T> + Send,
) -> Result<T> {
    let attempt = |(), slice| attempt(slice).map_err(|error| ((), error));
    in_slices_with(py, timeout, (), attempt).map_err(|((), failure)| failure)
}

/// As [`in_slices`], of what takes something along, which comes back with a failure.
pub(crate) fn in_slices_with<L: Send, T: Send>(
    py: Python<'_>,
    timeout: Timeout,
    mut luggage: L,
    mut attempt: impl FnMut(L, Duration) -> std::result::Result<T, (L, Error)> + Send,
) -> std::result::Result<T, (L, Failure)> {
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()));
        let attempt = &mut attempt;
        match py.detach(move || attempt(luggage, left.min(SLICE))) {
            Ok(done) => return Ok(done),
            Err((back, Error::TimedOut { .. })) if end.is_none() || left > SLICE => {
                if let Err(raised) = py.check_signals() {
                    return Err((back, raised.into()));
                }
                luggage = back;
            }
            Err((back, error)) => return Err((back, error.into())),
        }
    }
}
