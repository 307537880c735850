//! Channels: messages between processes, whoever is killed or stopped.
//!
//! ```text
//!            tail                                head
//!             |                                   |
//!   ring    | open 9 | 5, cell 7 | 6, cell 8 | 7, cell 2 | 8, cell 1 |   the order of messages
//!                          |           |           |
//!   cells   | free | queued 8 | queued 7 | receiving A | free | ... |    the messages
//! ```
//!
//! A message is written into a cell, which nobody else has, and then named by a slot of the ring:
//! one exchange, before which there is no message and after which there is one. It is claimed by
//! one exchange of its cell, which then belongs to the receiver until that has it. So whoever is
//! killed or stopped has a cell in hand and nothing that others need.
//!
//! | file | holds | its table says what a kill leaves |
//! |---|---|---|
//! | `words` | what the states of cells and the slots of the ring say | |
//! | `shape` | where everything lies in the object | |
//! | `queue` | how messages come into the ring and out of it | of sending and receiving |
//! | `dead` | how what the dead have left is found | |
//! | `event` | how processes sleep and are woken | |
//! | `transfer` | all of that, for any kind of message | |
//! | `sequence`, `broadcast` | one writer, and readers with positions of their own | of writing |
//! | `asynchronous` | the channel of values for tasks | |
//! | `port`, `values`, `bytes`, `objects` | channels of each kind | of objects on their way |

#[cfg(feature = "async")]
mod asynchronous;
mod broadcast;
mod bytes;
mod dead;
mod event;
mod objects;
mod port;
mod queue;
mod sequence;
mod shape;
mod transfer;
mod values;
mod words;

#[cfg(test)]
mod tests;

#[cfg(feature = "async")]
pub use asynchronous::{AsyncChannel, RecvFuture, SendFuture};
pub use broadcast::{Broadcast, Publisher, ShmBroadcast, Subscriber};
pub use bytes::ByteChannel;
pub use objects::{NotSent, ObjectChannel, ShmObjectChannel};
pub use sequence::Received;
pub use values::{Channel, ShmChannel};
