//! The protocol of the read-write lock: a word that a writer owns, and the table of readers.
//!
//! ```text
//!   reader                                 writer
//!     waits until nobody has the word        reserves the word: nobody enters for long any more
//!     enters the table                       waits until the table is empty
//!     looks at the word: free? is in         is inside
//!     else leaves, and again                 gives the word up, wakes all
//!     leaves the table
//! ```

use super::owned::{Inside, Owned, Want};
use super::readers::{Among, Readers};
use super::wait::Waiting;
use crate::Result;
use crate::peers::{PeerId, Roll};
use crate::segment::words::Words;

/// Where the words of a read-write lock are.
#[derive(Debug, Clone, Copy)]
pub(super) struct SharedLock {
    pub(super) writer: Owned,
    pub(super) readers: Readers,
}

impl SharedLock {
    /// Waits until nobody writes, and reads.
    #[inline]
    pub(super) fn read(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        waiting: &mut Waiting,
    ) -> Result<Among> {
        loop {
            self.writer.wait_until_sound(words, roll, me, waiting)?;
            let among = self.readers.enter(words, roll, me, waiting)?;
            // The table's exchange and this load are those of the writer the other way round: if
            // this sees nobody, that one sees the reader.
            if self.writer.is_sound(words) {
                return Ok(among);
            }
            self.readers.leave(words, me, &among);
            waiting.lost()?;
        }
    }

    /// Waits until nobody reads or writes, and writes; whether the value is in doubt.
    #[inline]
    pub(super) fn write(
        &self,
        words: &impl Words,
        roll: &impl Roll,
        me: PeerId,
        want: Want,
        waiting: &mut Waiting,
    ) -> Result<(bool, Inside)> {
        let in_doubt = self.writer.reserve(words, roll, me, want, waiting)?;
        if let Err(error) = self.readers.drain(words, roll, me, waiting) {
            self.writer.give_up(words, me);
            return Err(error);
        }
        Ok((in_doubt, self.writer.enter(words, me)))
    }
}
