//! shmheap's channels: of values, with ends that wait in several manners, and of objects.

use ::shmheap::{Channel, Heap, ObjectChannel, ShmBox};
use anyhow::Result;

use super::shmheap::{description, lay_out, lies_in_a_heap};
use super::{Facility, Ground, LINE_CAPACITY, LINES, Lines, Receiver, Sender};
use crate::board::Patience;
use crate::peer::Sharing;

/// How many messages are sent and received together.
const BATCH: usize = 32;

const NAMES: [&str; LINES] = ["there", "back"];

/// How the ends of a channel work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Whoever waits sleeps after a moment, as is usual.
    Asleep,
    /// Whoever waits looks again and again.
    Awake,
    /// As usual, and many messages are sent and received together.
    Batches,
}

/// `Channel`, a queue of values of `N` numbers.
#[derive(Debug)]
pub(crate) struct Channels<const N: usize>(pub(crate) Manner);

/// A heap with two of them.
#[derive(Debug)]
pub(crate) struct Site(Heap, Manner);

impl<const N: usize> Facility for Channels<N> {
    type Site = Site;

    lies_in_a_heap!();

    fn name(&self) -> &'static str {
        match self.0 {
            Manner::Asleep => "shmheap channel",
            Manner::Awake => "shmheap awake",
            Manner::Batches => "shmheap batches",
        }
    }

    fn description(&self) -> String {
        description(match self.0 {
            Manner::Asleep => "Channel: send and recv",
            Manner::Awake => "Channel: send, and try_recv until something has come",
            Manner::Batches => "Channel: send_batch and recv_batch of up to 32",
        })
    }

    fn refuses(&self, workers: usize) -> Option<&'static str> {
        // A batch of one receiver may hold what tells another that nothing more will come.
        let is_too_much = self.0 == Manner::Batches && workers > 2;
        is_too_much.then_some("batches are measured with one producer and one consumer")
    }

    fn lay_out(&self, name: &str) -> Result<Ground> {
        lay_out(name, |heap| {
            for name in NAMES {
                Channel::<[u64; N]>::find_or_create(heap, name, LINE_CAPACITY as u64)?;
            }
            Ok(())
        })
    }

    fn enter(&self, address: &str) -> Result<Site> {
        Ok(Site(Heap::connect(address)?, self.0))
    }
}

/// An end of a channel.
struct End<'h, const N: usize> {
    channel: Channel<'h, [u64; N]>,
    manner: Manner,
    /// To be sent; or received already, the next one last.
    batch: Vec<[u64; N]>,
}

impl Site {
    fn end<const N: usize>(&self, line: usize) -> Result<End<'_, N>> {
        let channel = Channel::find_or_create(&self.0, NAMES[line], LINE_CAPACITY as u64)?;
        Ok(End { channel, manner: self.1, batch: Vec::with_capacity(BATCH) })
    }
}

impl<const N: usize> Lines<N> for Site {
    fn sender(&self, line: usize) -> Result<impl Sender<N> + '_> {
        self.end(line)
    }

    fn receiver(&self, line: usize) -> Result<impl Receiver<N> + '_> {
        self.end(line)
    }
}

impl<const N: usize> Sender<N> for End<'_, N> {
    #[inline]
    fn send(&mut self, message: [u64; N]) -> Result<()> {
        if self.manner != Manner::Batches {
            return Ok(self.channel.send(message)?);
        }
        self.batch.push(message);
        if self.batch.len() == BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.channel.send_batch(&self.batch)?;
        self.batch.clear();
        Ok(())
    }
}

impl<const N: usize> Receiver<N> for End<'_, N> {
    #[inline]
    fn receive(&mut self) -> Result<[u64; N]> {
        match self.manner {
            Manner::Asleep => Ok(self.channel.recv()?),
            Manner::Awake => {
                let mut patience = Patience::default();
                loop {
                    match self.channel.try_recv()? {
                        Some(message) => return Ok(message),
                        None => patience.wait(),
                    }
                }
            }
            Manner::Batches => {
                if self.batch.is_empty() {
                    self.channel.recv_batch(&mut self.batch, BATCH)?;
                    self.batch.reverse();
                }
                Ok(self.batch.pop().expect("a batch has at least one"))
            }
        }
    }
}

/// `ObjectChannel`: each message is an object, which changes hands.
#[derive(Debug)]
pub(crate) struct Objects;

/// A heap with two channels of objects.
#[derive(Debug)]
pub(crate) struct ObjectSite(Heap);

impl Facility for Objects {
    type Site = ObjectSite;

    lies_in_a_heap!();

    fn name(&self) -> &'static str {
        "shmheap objects"
    }

    fn description(&self) -> String {
        description("ObjectChannel: each message is allocated, handed over and freed")
    }

    fn lay_out(&self, name: &str) -> Result<Ground> {
        lay_out(name, |heap| {
            for name in NAMES {
                ObjectChannel::find_or_create(heap, name, LINE_CAPACITY as u64)?;
            }
            Ok(())
        })
    }

    fn enter(&self, address: &str) -> Result<ObjectSite> {
        Ok(ObjectSite(Heap::connect(address)?))
    }
}

/// An end of a channel of objects.
struct ObjectEnd<'h> {
    heap: &'h Heap,
    channel: ObjectChannel<'h>,
}

impl ObjectSite {
    fn end(&self, line: usize) -> Result<ObjectEnd<'_>> {
        let (heap, name) = (&self.0, NAMES[line]);
        let channel = ObjectChannel::find_or_create(heap, name, LINE_CAPACITY as u64)?;
        Ok(ObjectEnd { heap, channel })
    }
}

impl<const N: usize> Lines<N> for ObjectSite {
    fn sender(&self, line: usize) -> Result<impl Sender<N> + '_> {
        self.end(line)
    }

    fn receiver(&self, line: usize) -> Result<impl Receiver<N> + '_> {
        self.end(line)
    }
}

impl<const N: usize> Sender<N> for ObjectEnd<'_> {
    #[inline]
    fn send(&mut self, message: [u64; N]) -> Result<()> {
        let object = ShmBox::into_unpublished(ShmBox::new(self.heap, message)?);
        self.channel.send(object).map_err(::shmheap::Error::from)?;
        Ok(())
    }
}

impl<const N: usize> Receiver<N> for ObjectEnd<'_> {
    #[inline]
    fn receive(&mut self) -> Result<[u64; N]> {
        Ok(*ShmBox::<[u64; N]>::from_plain(self.channel.recv()?)?)
    }
}
