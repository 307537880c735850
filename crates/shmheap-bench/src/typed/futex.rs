//! Two words and the system call to sleep on one: what any round trip between processes that sleep
//! costs at the least.
//!
//! A line is one word: 0, or the message on its way. It holds one number that is not 0, and has one
//! sender and one receiver.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags};

use super::{Facility, Ground, LINES, Lines, Receiver, Sender};
use crate::board::{self, Shared};
use crate::peer::Sharing;

#[derive(Debug)]
pub(crate) struct Futexes;

/// The first word is a line's, the others keep it apart from the next.
type Line = [AtomicU32; 32];

type Words = [Line; LINES];

impl Facility for Futexes {
    type Site = Shared<Words>;

    fn name(&self) -> &'static str {
        "futex"
    }

    fn description(&self) -> String {
        "two words and the system call to sleep on one: the least that sleeping costs".to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn lay_out(&self, _name: &str) -> Result<Ground> {
        let file = board::create_for::<Words>()?;
        Ok(Ground::new(board::number(&file).to_string(), file))
    }

    fn enter(&self, address: &str) -> Result<Self::Site> {
        Shared::inherited(address.parse()?)
    }
}

impl Lines<1> for Shared<Words> {
    fn sender(&self, line: usize) -> Result<impl Sender<1> + '_> {
        Ok(&self[line][0])
    }

    fn receiver(&self, line: usize) -> Result<impl Receiver<1> + '_> {
        Ok(&self[line][0])
    }
}

impl Sender<1> for &AtomicU32 {
    #[inline]
    fn send(&mut self, message: [u64; 1]) -> Result<()> {
        let message = u32::try_from(message[0])?;
        ensure!(message != 0, "a message is no 0");
        // Release: with the acquire in `receive`.
        self.store(message, Ordering::Release);
        futex::wake(self, Flags::empty(), 1)?;
        Ok(())
    }
}

impl Receiver<1> for &AtomicU32 {
    #[inline]
    fn receive(&mut self) -> Result<[u64; 1]> {
        loop {
            // Acquire: with the release in `send`.
            let message = self.swap(0, Ordering::Acquire);
            if message != 0 {
                return Ok([message.into()]);
            }
            match futex::wait(self, Flags::empty(), 0, None) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
