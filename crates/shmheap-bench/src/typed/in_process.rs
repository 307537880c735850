//! What threads of one process use: the limit of what processes could reach.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock, mpsc};

use anyhow::{Context, Result, bail};
use crossbeam_channel as crossbeam;

use super::{
    Facility, Ground, LINE_CAPACITY, LINES, Lines, Lock, Locks, Map, Maps, Receiver, Sender, Value,
};
use crate::peer::Sharing;

/// What all of them have in common.
macro_rules! lies_in_a_process {
    () => {
        fn sharing(&self) -> Sharing {
            Sharing::Threads
        }

        fn lay_out(&self, _name: &str) -> Result<Ground> {
            Ok(Ground::new("", ()))
        }
    };
}

/// The standard library's map behind its mutex.
#[derive(Debug)]
pub(crate) struct MutexMap;

/// The same behind its lock for readers and writers.
#[derive(Debug)]
pub(crate) struct RwLockMap;

impl Facility for MutexMap {
    type Site = Mutex<HashMap<u64, Value>>;

    lies_in_a_process!();

    fn name(&self) -> &'static str {
        "Mutex of HashMap"
    }

    fn description(&self) -> String {
        "of Rust's standard library, hashed as by default".to_owned()
    }

    fn enter(&self, _address: &str) -> Result<Self::Site> {
        Ok(Mutex::default())
    }
}

impl Maps for Mutex<HashMap<u64, Value>> {
    fn map(&self) -> Result<impl Map + '_> {
        Ok(self)
    }
}

impl Map for &Mutex<HashMap<u64, Value>> {
    #[inline]
    fn get(&self, key: u64) -> Option<Value> {
        self.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    #[inline]
    fn insert(&self, key: u64, value: Value) {
        self.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }
}

impl Facility for RwLockMap {
    type Site = RwLock<HashMap<u64, Value>>;

    lies_in_a_process!();

    fn name(&self) -> &'static str {
        "RwLock of HashMap"
    }

    fn description(&self) -> String {
        "of Rust's standard library, hashed as by default".to_owned()
    }

    fn enter(&self, _address: &str) -> Result<Self::Site> {
        Ok(RwLock::default())
    }
}

impl Maps for RwLock<HashMap<u64, Value>> {
    fn map(&self) -> Result<impl Map + '_> {
        Ok(self)
    }
}

impl Map for &RwLock<HashMap<u64, Value>> {
    #[inline]
    fn get(&self, key: u64) -> Option<Value> {
        self.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    #[inline]
    fn insert(&self, key: u64, value: Value) {
        self.write().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }
}

/// The standard library's mutex.
#[derive(Debug)]
pub(crate) struct StdMutex;

impl Facility for StdMutex {
    type Site = Mutex<[u64; 2]>;

    lies_in_a_process!();

    fn name(&self) -> &'static str {
        "std mutex"
    }

    fn description(&self) -> String {
        "Mutex of Rust's standard library".to_owned()
    }

    fn enter(&self, _address: &str) -> Result<Self::Site> {
        Ok(Mutex::default())
    }
}

impl Locks for Mutex<[u64; 2]> {
    fn lock(&self) -> Result<impl Lock + '_> {
        Ok(self)
    }
}

impl Lock for &Mutex<[u64; 2]> {
    #[inline]
    fn count(&self) -> [u64; 2] {
        let mut counts = self.lock().unwrap_or_else(PoisonError::into_inner);
        counts[0] += 1;
        counts[1] += 1;
        *counts
    }
}

/// The standard library's channel, which has one receiver.
#[derive(Debug)]
pub(crate) struct Mpsc<const N: usize>;

/// Two of them. A receiver is taken by the one thread that uses it.
#[derive(Debug)]
pub(crate) struct MpscSite<const N: usize> {
    senders: Vec<mpsc::SyncSender<[u64; N]>>,
    receivers: Mutex<Vec<Option<mpsc::Receiver<[u64; N]>>>>,
}

impl<const N: usize> Facility for Mpsc<N> {
    type Site = MpscSite<N>;

    lies_in_a_process!();

    fn name(&self) -> &'static str {
        "std mpsc"
    }

    fn description(&self) -> String {
        format!("sync_channel({LINE_CAPACITY}) of Rust's standard library")
    }

    fn refuses(&self, workers: usize) -> Option<&'static str> {
        (workers > 2).then_some("has one receiver")
    }

    fn enter(&self, _address: &str) -> Result<Self::Site> {
        let lines = (0..LINES).map(|_| mpsc::sync_channel(LINE_CAPACITY));
        let (senders, receivers) = lines.map(|(to, from)| (to, Some(from))).unzip();
        Ok(MpscSite { senders, receivers: Mutex::new(receivers) })
    }
}

impl<const N: usize> Lines<N> for MpscSite<N> {
    fn sender(&self, line: usize) -> Result<impl Sender<N> + '_> {
        Ok(self.senders[line].clone())
    }

    fn receiver(&self, line: usize) -> Result<impl Receiver<N> + '_> {
        let mut receivers = self.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        receivers[line].take().context("a channel with one receiver")
    }
}

impl<const N: usize> Sender<N> for mpsc::SyncSender<[u64; N]> {
    #[inline]
    fn send(&mut self, message: [u64; N]) -> Result<()> {
        match mpsc::SyncSender::send(self, message) {
            Ok(()) => Ok(()),
            Err(_) => bail!("the receiver is gone"),
        }
    }
}

impl<const N: usize> Receiver<N> for mpsc::Receiver<[u64; N]> {
    #[inline]
    fn receive(&mut self) -> Result<[u64; N]> {
        Ok(self.recv()?)
    }
}

/// Crossbeam's channel.
#[derive(Debug)]
pub(crate) struct Crossbeam<const N: usize>;

type CrossbeamLine<const N: usize> = (crossbeam::Sender<[u64; N]>, crossbeam::Receiver<[u64; N]>);

/// Two of them.
#[derive(Debug)]
pub(crate) struct CrossbeamSite<const N: usize>(Vec<CrossbeamLine<N>>);

impl<const N: usize> Facility for Crossbeam<N> {
    type Site = CrossbeamSite<N>;

    lies_in_a_process!();

    fn name(&self) -> &'static str {
        "crossbeam"
    }

    fn description(&self) -> String {
        let version = env!("VERSION_OF_CROSSBEAM_CHANNEL");
        format!("crossbeam-channel {version}, bounded({LINE_CAPACITY})")
    }

    fn enter(&self, _address: &str) -> Result<Self::Site> {
        Ok(CrossbeamSite((0..LINES).map(|_| crossbeam::bounded(LINE_CAPACITY)).collect()))
    }
}

impl<const N: usize> Lines<N> for CrossbeamSite<N> {
    fn sender(&self, line: usize) -> Result<impl Sender<N> + '_> {
        Ok(&self.0[line].0)
    }

    fn receiver(&self, line: usize) -> Result<impl Receiver<N> + '_> {
        Ok(&self.0[line].1)
    }
}

impl<const N: usize> Sender<N> for &crossbeam::Sender<[u64; N]> {
    #[inline]
    fn send(&mut self, message: [u64; N]) -> Result<()> {
        Ok(crossbeam::Sender::send(self, message)?)
    }
}

impl<const N: usize> Receiver<N> for &crossbeam::Receiver<[u64; N]> {
    #[inline]
    fn receive(&mut self) -> Result<[u64; N]> {
        Ok(self.recv()?)
    }
}
