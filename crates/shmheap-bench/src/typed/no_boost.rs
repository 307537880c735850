//! In place of `boost.rs` where this was built without Boost's headers: its rows say why they are
//! empty.

use anyhow::{Result, bail};

use super::{Facility, Ground, Lock, Locks, Maps, Value};
use crate::peer::Sharing;

const REASON: &str = "libboost-dev was not there when this was built";

#[derive(Debug)]
pub(crate) struct Map;

#[derive(Debug)]
pub(crate) struct Mutex;

/// A site that there never is.
#[derive(Debug)]
pub(crate) enum Nowhere {}

/// What both have in common.
macro_rules! is_absent {
    () => {
        type Site = Nowhere;

        fn description(&self) -> String {
            REASON.to_owned()
        }

        fn sharing(&self) -> Sharing {
            Sharing::Processes
        }

        fn refuses(&self, _workers: usize) -> Option<&'static str> {
            Some(REASON)
        }

        fn lay_out(&self, _name: &str) -> Result<Ground> {
            bail!(REASON)
        }

        fn enter(&self, _address: &str) -> Result<Nowhere> {
            bail!(REASON)
        }
    };
}

impl Facility for Map {
    is_absent!();

    fn name(&self) -> &'static str {
        "boost unordered_map"
    }
}

impl Facility for Mutex {
    is_absent!();

    fn name(&self) -> &'static str {
        "boost mutex"
    }
}

impl Maps for Nowhere {
    fn map(&self) -> Result<impl super::Map + '_> {
        Ok(self)
    }
}

impl super::Map for &Nowhere {
    fn get(&self, _key: u64) -> Option<Value> {
        match **self {}
    }

    fn insert(&self, _key: u64, _value: Value) {
        match **self {}
    }
}

impl Locks for Nowhere {
    fn lock(&self) -> Result<impl Lock + '_> {
        Ok(self)
    }
}

impl Lock for &Nowhere {
    fn count(&self) -> [u64; 2] {
        match **self {}
    }
}
