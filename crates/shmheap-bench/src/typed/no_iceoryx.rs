//! In place of `iceoryx.rs` where this was built without the feature `iceoryx2`: its rows say so.

use anyhow::{Result, bail};

use super::{Facility, Ground, Lines, Receiver, Sender};
use crate::peer::Sharing;

#[derive(Debug)]
pub(crate) struct Iceoryx;

const REASON: &str = "needs the feature iceoryx2, which fetches 80 crates";

/// A site that there never is.
#[derive(Debug)]
pub(crate) enum Nowhere {}

impl Facility for Iceoryx {
    type Site = Nowhere;

    fn name(&self) -> &'static str {
        "iceoryx2"
    }

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
}

impl<const N: usize> Lines<N> for Nowhere {
    fn sender(&self, _line: usize) -> Result<impl Sender<N> + '_> {
        Ok(self)
    }

    fn receiver(&self, _line: usize) -> Result<impl Receiver<N> + '_> {
        Ok(self)
    }
}

impl<const N: usize> Sender<N> for &Nowhere {
    fn send(&mut self, _message: [u64; N]) -> Result<()> {
        match **self {}
    }
}

impl<const N: usize> Receiver<N> for &Nowhere {
    fn receive(&mut self) -> Result<[u64; N]> {
        match **self {}
    }
}
