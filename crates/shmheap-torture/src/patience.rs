//! `Patience`: how long to wait for a process that may hang.
//!
//! Counted in looks, not by a clock: one that goes on while the machine is paused, or all of its
//! processes are, would find all of them hanging.

use std::thread::sleep;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks that are left.
#[derive(Debug)]
pub(crate) struct Patience {
    all: u128,
    left: u128,
}

impl Patience {
    /// For at least so long.
    pub(crate) fn new(time: Duration) -> Self {
        let all = time.as_nanos() / LOOK_EVERY.as_nanos();
        Self { all, left: all }
    }

    /// Waits until it is time for the next look; false if there is no patience left for one.
    pub(crate) fn wait(&mut self) -> bool {
        sleep(LOOK_EVERY);
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// Begins anew: something has happened.
    pub(crate) fn renew(&mut self) {
        self.left = self.all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_unless_it_is_renewed() {
        let mut patience = Patience::new(3 * LOOK_EVERY);
        assert!(patience.wait() && patience.wait());
        patience.renew();
        assert!(patience.wait() && patience.wait() && !patience.wait());
    }
}
