//! In place of `boost.rs` where this was built without Boost's headers: its peers keep their rows,
//! which say why they are empty.

use std::convert::Infallible;

use anyhow::{Result, bail};

use super::{Demand, Footprint, Object, Peer, Sharing, Worker};

#[derive(Debug)]
pub(crate) struct Absent(&'static str);

pub(crate) const RBTREE: Absent = Absent("boost rbtree");
pub(crate) const SEQ_FIT: Absent = Absent("boost seq fit");

const REASON: &str = "libboost-dev was not there when this was built";

impl Peer for Absent {
    type Worker = Nobody;

    fn name(&self) -> &'static str {
        self.0
    }

    fn description(&self) -> String {
        REASON.to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn refuses(&self, _demand: Demand) -> Option<&'static str> {
        Some(REASON)
    }

    fn connect(&self, _name: &str, _number: usize) -> Result<Nobody> {
        bail!(REASON)
    }
}

/// A worker that there never is.
#[derive(Debug)]
pub(crate) struct Nobody(Infallible);

impl Worker for Nobody {
    fn alloc(&self, _bytes: usize) -> Object<Self> {
        match self.0 {}
    }

    fn free(&self, _object: Object<Self>) {
        match self.0 {}
    }

    fn footprint(&self) -> Footprint {
        match self.0 {}
    }
}
