//! What holds typed data for several workers: maps, channels and locks, in shared memory or not.
//!
//! A [`Facility`] is such a thing as a program would choose it; a site is its use by one process,
//! and gives each worker what it works with: a [`Map`], a [`Lock`], or the ends of lines. Workloads
//! are generic over these, so every call is the facility's own, without a pointer in between.
//!
//! Values are small arrays of numbers, so that each facility can hold them as it likes best.

#[cfg_attr(not(boost), path = "no_boost.rs")]
pub(crate) mod boost;
pub(crate) mod channels;
pub(crate) mod futex;
#[cfg_attr(not(feature = "iceoryx2"), path = "no_iceoryx.rs")]
pub(crate) mod iceoryx;
pub(crate) mod in_process;
pub(crate) mod kernel;
pub(crate) mod pthread;
pub(crate) mod shmheap;

use std::any::Any;

use anyhow::Result;

use crate::peer::Sharing;

/// How many messages may be under way in a line, for facilities that can be told.
pub(crate) const LINE_CAPACITY: usize = 1024;

/// What a map holds for each key.
pub(crate) type Value = [u64; 2];

/// A thing under test.
pub(crate) trait Facility: Sync {
    /// Its use by one process.
    type Site: Sync;

    /// The name in the table.
    fn name(&self) -> &'static str;

    /// Version, and what is particular about it.
    fn description(&self) -> String;

    fn sharing(&self) -> Sharing;

    /// Why so many workers cannot use it, if so.
    fn refuses(&self, _workers: usize) -> Option<&'static str> {
        None
    }

    /// Makes what the processes of a crew are to share, under a name that nobody else has.
    fn lay_out(&self, name: &str) -> Result<Ground>;

    /// Begins to use it, once for each process.
    fn enter(&self, address: &str) -> Result<Self::Site>;

    /// Removes its name, if it stands: all who are to know it are there.
    fn remove(&self, _address: &str) {}
}

/// What the processes of a crew share: it must live until they have ended.
pub(crate) struct Ground {
    /// By which they find it.
    pub(crate) address: String,
    _kept: Box<dyn Any>,
}

impl Ground {
    /// Found by its address, as long as what is `kept` lives.
    fn new(address: impl Into<String>, kept: impl Any) -> Self {
        Self { address: address.into(), _kept: Box::new(kept) }
    }
}

/// A site with a map.
pub(crate) trait Maps: Sync {
    /// The map, for one worker.
    fn map(&self) -> Result<impl Map + '_>;
}

/// A map that all workers use. Panics where the facility fails: a figure of a workload that was not
/// done is none.
pub(crate) trait Map {
    fn get(&self, key: u64) -> Option<Value>;

    /// Gives the key that value, whether it has one or not.
    fn insert(&self, key: u64, value: Value);
}

/// A site with a lock.
pub(crate) trait Locks: Sync {
    /// The lock, for one worker.
    fn lock(&self) -> Result<impl Lock + '_>;
}

/// A lock and two numbers that it protects, both 0 at first.
pub(crate) trait Lock {
    /// Adds 1 to both numbers under the lock, and returns what they are then.
    fn count(&self) -> [u64; 2];
}

/// A site with lines for messages of `N` numbers. There are two of them, for there and back.
pub(crate) trait Lines<const N: usize>: Sync {
    fn sender(&self, line: usize) -> Result<impl Sender<N> + '_>;
    fn receiver(&self, line: usize) -> Result<impl Receiver<N> + '_>;
}

pub(crate) const LINES: usize = 2;

pub(crate) trait Sender<const N: usize> {
    /// Sends, as soon as there is room.
    fn send(&mut self, message: [u64; N]) -> Result<()>;

    /// Sends what was held back to be sent together.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

pub(crate) trait Receiver<const N: usize> {
    /// Waits for a message.
    fn receive(&mut self) -> Result<[u64; N]>;
}

#[cfg(test)]
mod tests {
    use super::channels::{Channels, Manner, Objects};
    use super::*;

    fn name_for_test(facility: &impl Facility) -> String {
        let name = facility.name().replace(|letter: char| !letter.is_alphanumeric(), "-");
        format!("shmheap-bench-test-{}-{name}", std::process::id())
    }

    /// Hands a site to the test, as a process of a crew has it.
    fn at_site<F: Facility>(facility: &F, test: impl FnOnce(&F::Site)) {
        if facility.refuses(2).is_some() {
            return;
        }
        let ground = facility.lay_out(&name_for_test(facility)).unwrap();
        let site = facility.enter(&ground.address).unwrap();
        facility.remove(&ground.address);
        test(&site);
    }

    fn is_a_map<F: Facility<Site: Maps>>(facility: F) {
        at_site(&facility, |site| {
            let (one, other) = (site.map().unwrap(), site.map().unwrap());
            assert_eq!(one.get(7), None, "{}", facility.name());
            (0..1000).for_each(|key| one.insert(key, [key, 1]));
            other.insert(7, [8, 9]);
            assert_eq!((one.get(7), one.get(999)), (Some([8, 9]), Some([999, 1])));
            assert_eq!(other.get(1000), None, "{}", facility.name());
        });
    }

    fn is_a_lock<F: Facility<Site: Locks>>(facility: F) {
        const COUNT: u64 = 10_000;
        at_site(&facility, |site| {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let lock = site.lock().unwrap();
                        for _ in 0..COUNT {
                            let [one, other] = lock.count();
                            assert_eq!(one, other, "{}", facility.name());
                        }
                    });
                }
            });
            assert_eq!(site.lock().unwrap().count(), [2 * COUNT + 1; 2], "{}", facility.name());
        });
    }

    fn has_lines<F: Facility<Site: Lines<N>>, const N: usize>(facility: F) {
        const COUNT: u64 = 100;
        at_site(&facility, |site| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut back, mut there) =
                        (site.sender(1).unwrap(), site.receiver(0).unwrap());
                    for _ in 0..COUNT {
                        back.send(there.receive().unwrap()).unwrap();
                        back.flush().unwrap();
                    }
                });
                let (mut there, mut back) = (site.sender(0).unwrap(), site.receiver(1).unwrap());
                for number in 1..=COUNT {
                    there.send([number; N]).unwrap();
                    there.flush().unwrap();
                    assert_eq!(back.receive().unwrap(), [number; N], "{}", facility.name());
                }
            });
        });
    }

    #[test]
    fn every_map_holds_what_was_inserted() {
        is_a_map(shmheap::Map);
        is_a_map(boost::Map);
        is_a_map(in_process::MutexMap);
        is_a_map(in_process::RwLockMap);
    }

    #[test]
    fn every_line_keeps_messages_and_their_order() {
        for manner in [Manner::Asleep, Manner::Awake, Manner::Batches] {
            has_lines::<_, 8>(Channels::<8>(manner));
            has_lines::<_, 1>(Channels::<1>(manner));
        }
        has_lines::<_, 8>(Objects);
        has_lines::<_, 8>(kernel::Pipes);
        has_lines::<_, 1>(kernel::Sockets);
        has_lines::<_, 8>(in_process::Mpsc::<8>);
        has_lines::<_, 1>(in_process::Crossbeam::<1>);
        has_lines::<_, 1>(futex::Futexes);
        has_lines::<_, 8>(iceoryx::Iceoryx);
    }

    #[test]
    fn no_lock_lets_two_in() {
        is_a_lock(shmheap::Mutex);
        is_a_lock(in_process::StdMutex);
        is_a_lock(pthread::RobustMutex);
        is_a_lock(boost::Mutex);
    }
}
