//! `AsyncChannel`: a channel of values for tasks, whatever runs these.
//!
//! No runtime knows of futexes, so a *helper* thread sleeps on the channel's event in place of the
//! tasks, and wakes them:
//!
//! ```text
//!   task    attempt, in vain -> leave a waker -> attempt again -> pending
//!   helper  wakers? -> announce -> is there something? -> sleep -> wake all who left one
//! ```
//!
//! There is one for those who receive and one for those who send, from the first task that must
//! wait until no task has waited for a second. While tasks wait for long, it wakes them twenty
//! times a second: then they look for what the dead have left.
//!
//! # Unsafe code
//!
//! Opening by handle, whose contract is the caller's.
#![allow(unsafe_code)]

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::event::{Event, Look};
use super::queue::Queue;
use super::shape::Shape;
use super::values::{Channel, ShmChannel};
use crate::heap::Gate;
use crate::object::{Lease, Shareable};
use crate::{Error, Handle, Heap, Result};

/// How long a helper sleeps at once.
const SLICE: Duration = Duration::from_millis(50);
/// So many rounds without a sleep, and tasks look for what the dead have left.
const HURRIED_ROUNDS: u32 = 64;
/// How long a helper without tasks stays.
const LINGER: Duration = Duration::from_secs(1);

/// A [`Channel`](crate::Channel) whose messages are awaited by tasks, of any runtime.
///
/// Clones are the same channel. In a forked child, open another one.
///
/// Cost: while tasks wait, a thread for those who receive and one for those who send; a wake-up
/// goes through it, some microseconds. The heap stays connected until the thread has noticed that
/// the last clone is gone, a twentieth of a second at the most.
///
/// ```
/// use shmheap::{AsyncChannel, HeapOptions};
/// use std::sync::Arc;
///
/// let heap = Arc::new(HeapOptions::new(1 << 20).create_memfd()?);
/// let channel = AsyncChannel::<u64>::find_or_create(Arc::clone(&heap), "numbers", 16)?;
/// let work = async move {
///     channel.send_async(7).await?;
///     channel.recv_async().await
/// };
/// # let mut work = std::pin::pin!(work);
/// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// # let std::task::Poll::Ready(received) = work.as_mut().poll(&mut context) else { panic!() };
/// # assert_eq!(received?, 7);
/// # use std::future::Future as _;
/// # Ok::<(), shmheap::Error>(())
/// ```
pub struct AsyncChannel<T> {
    owner: Arc<Owner>,
    handle: Handle<ShmChannel<T>>,
}

/// What ends with the last clone.
struct Owner(Arc<Shared>);

struct Shared {
    heap: Arc<Heap>,
    shape: Shape,
    /// Keeps the object of one that was found by its name.
    lease: Option<Lease>,
    receivers: Side,
    senders: Side,
}

/// Tasks that wait for one event.
#[derive(Default)]
struct Side {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    wakers: Vec<Waker>,
    has_helper: bool,
    /// Tasks that are woken look for what the dead have left.
    is_thorough: bool,
    has_ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Receive,
    Send,
}

impl Shared {
    fn queue(&self) -> Queue<'_, Gate<'_>, Heap> {
        Queue { words: self.heap.gate(), roll: &self.heap, shape: self.shape }
    }

    fn side(&self, kind: Kind) -> &Side {
        match kind {
            Kind::Receive => &self.receivers,
            Kind::Send => &self.senders,
        }
    }

    fn event(&self, kind: Kind) -> Event {
        match kind {
            Kind::Receive => Event(self.shape.items()),
            Kind::Send => Event(self.shape.room()),
        }
    }

    fn may_succeed(&self, kind: Kind) -> bool {
        match kind {
            Kind::Receive => self.queue().has_items(),
            Kind::Send => self.queue().has_room(),
        }
    }

    /// Leaves a waker for the helper, and starts that if there is none.
    fn leave(self: &Arc<Self>, kind: Kind, waker: &Waker) -> Result<()> {
        let side = self.side(kind);
        let mut waiting = side.lock();
        if !waiting.wakers.iter().any(|other| other.will_wake(waker)) {
            waiting.wakers.push(waker.clone());
        }
        if !waiting.has_helper {
            let shared = Arc::clone(self);
            let helper = std::thread::Builder::new().name("shmheap-channel".to_owned());
            let started = helper.spawn(move || shared.help(kind));
            started.map_err(|source| Error::System { operation: "starting a thread", source })?;
            waiting.has_helper = true;
        }
        side.changed.notify_one();
        Ok(())
    }

    /// The helper.
    fn help(&self, kind: Kind) {
        let (side, event) = (self.side(kind), self.event(kind));
        let mut hurried: u32 = 0;
        while side.wait_for_tasks() {
            let words = self.heap.gate();
            let announced = event.announce(&words);
            let is_late = if self.may_succeed(kind) {
                // With room and no cell, for the dead have them, tasks are woken in vain.
                hurried = hurried.wrapping_add(1);
                hurried.is_multiple_of(HURRIED_ROUNDS)
            } else {
                event.sleep(&words, announced, SLICE)
            };
            let wakers = {
                let mut waiting = side.lock();
                waiting.is_thorough |= is_late;
                std::mem::take(&mut waiting.wakers)
            };
            wakers.into_iter().for_each(Waker::wake);
            // The tasks may be gone, or take one of several.
            event.pass_on(&words, || self.may_succeed(kind));
        }
    }
}

impl Side {
    /// A task that panics in a waker's clone leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are tasks to wait for; if not, the helper is no more.
    fn wait_for_tasks(&self) -> bool {
        let waiting = self.lock();
        let is_idle = |waiting: &mut Waiting| waiting.wakers.is_empty() && !waiting.has_ended;
        let waited = self.changed.wait_timeout_while(waiting, LINGER, is_idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        waiting.has_helper = !waiting.wakers.is_empty() && !waiting.has_ended;
        waiting.has_helper
    }

    /// How thoroughly the next attempt looks.
    fn look(&self) -> Look {
        if std::mem::take(&mut self.lock().is_thorough) { Look::Thorough } else { Look::Quick }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        for side in [&self.0.receivers, &self.0.senders] {
            side.lock().has_ended = true;
            side.changed.notify_one();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.end(&self.heap);
        }
    }
}

impl<T: Shareable + Copy> AsyncChannel<T> {
    /// The channel of that name, or a new one: see
    /// [`Channel::find_or_create`](crate::Channel::find_or_create).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn find_or_create(heap: Arc<Heap>, name: &str, capacity: u64) -> Result<Self> {
        let Channel { port } = Channel::<T>::find_or_create(&heap, name, capacity)?;
        let (handle, shape) = (port.handle.cast(), port.shape);
        let lease = port.into_lease();
        Ok(Self::new(heap, handle, shape, lease))
    }

    /// Opens a channel that somebody has made.
    ///
    /// # Errors
    ///
    /// As [`Channel::open`](crate::Channel::open).
    ///
    /// # Safety
    ///
    /// As there, of the last clone.
    pub unsafe fn open(heap: Arc<Heap>, handle: Handle<ShmChannel<T>>) -> Result<Self> {
        let shape = Channel::of(&heap, handle)?.port.shape;
        Ok(Self::new(heap, handle, shape, None))
    }

    fn new(
        heap: Arc<Heap>,
        handle: Handle<ShmChannel<T>>,
        shape: Shape,
        lease: Option<Lease>,
    ) -> Self {
        let (receivers, senders) = (Side::default(), Side::default());
        let shared = Arc::new(Shared { heap, shape, lease, receivers, senders });
        Self { owner: Arc::new(Owner(shared)), handle }
    }

    /// The channel for threads.
    ///
    /// # Errors
    ///
    /// As [`Channel::open`](crate::Channel::open).
    pub fn channel(&self) -> Result<Channel<'_, T>> {
        Channel::of(&self.owner.0.heap, self.handle)
    }

    /// Receives a value. Dropped before it is ready, it has received nothing.
    #[must_use = "nothing is received before it is awaited"]
    pub fn recv_async(&self) -> RecvFuture<'_, T> {
        RecvFuture { channel: self }
    }

    /// Sends a value. Dropped before it is ready, it has sent nothing.
    #[must_use = "nothing is sent before it is awaited"]
    pub fn send_async(&self, value: T) -> SendFuture<'_, T> {
        SendFuture { channel: self, value }
    }

    fn poll<U>(
        &self,
        kind: Kind,
        context: &Context<'_>,
        attempt: impl Fn(&Channel<'_, T>, Look) -> Result<Option<U>>,
    ) -> Poll<Result<U>> {
        let shared = &self.owner.0;
        let channel = match self.channel() {
            Ok(channel) => channel,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let look = shared.side(kind).look();
        let outcome = attempt(&channel, look).and_then(|outcome| match outcome {
            Some(outcome) => Ok(Some(outcome)),
            None => {
                shared.leave(kind, context.waker())?;
                attempt(&channel, Look::Quick)
            }
        });
        outcome.transpose().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T> Clone for AsyncChannel<T> {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner), handle: self.handle }
    }
}

impl<T> fmt::Debug for AsyncChannel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncChannel").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// A value to come; made by [`AsyncChannel::recv_async`].
#[derive(Debug)]
pub struct RecvFuture<'a, T> {
    channel: &'a AsyncChannel<T>,
}

impl<T: Shareable + Copy> Future for RecvFuture<'_, T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let attempt = |channel: &Channel<'_, T>, look| channel.port.transfer().try_receive(look);
        self.channel.poll(Kind::Receive, context, attempt)
    }
}

/// A value to be sent; made by [`AsyncChannel::send_async`].
#[derive(Debug)]
pub struct SendFuture<'a, T> {
    channel: &'a AsyncChannel<T>,
    value: T,
}

impl<T: Shareable + Copy> Future for SendFuture<'_, T> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let value = self.value;
        self.channel.poll(Kind::Send, context, |channel, look| {
            channel.port.transfer().try_send(&value, look)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HeapOptions;
    use std::pin::pin;
    use std::task::Wake;
    use std::thread::Thread;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            std::thread::park();
        }
    }

    #[test]
    fn tasks_and_threads_pass_messages_to_each_other() {
        const COUNT: u64 = 2000;
        let heap = Arc::new(HeapOptions::new(1 << 20).create_memfd().unwrap());
        let channel = AsyncChannel::find_or_create(Arc::clone(&heap), "numbers", 4).unwrap();
        assert!(heap.remove_root("numbers").is_ok(), "it stays while it is open");
        let sums: Vec<u64> = std::thread::scope(|scope| {
            let receivers = [(); 2].map(|()| {
                let channel = channel.clone();
                scope.spawn(move || {
                    let mut sum = 0;
                    while let Ok(number) = block_on(channel.recv_async()) {
                        sum += number;
                    }
                    sum
                })
            });
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    (0..COUNT).for_each(|number| block_on(channel.send_async(number)).unwrap());
                });
                let threads = channel.channel().unwrap();
                (0..COUNT).for_each(|number| threads.send(number).unwrap());
            });
            channel.channel().unwrap().close().unwrap();
            receivers.into_iter().map(|receiver| receiver.join().unwrap()).collect()
        });
        assert_eq!(sums.iter().sum::<u64>(), COUNT * (COUNT - 1));
        assert!(matches!(block_on(channel.send_async(1)), Err(Error::Closed { .. })));
        drop(channel);
        // The helpers let the heap go, and the last the channel.
        while Arc::strong_count(&heap) > 1 {
            std::thread::yield_now();
        }
        assert_eq!(heap.stats().live_objects, 1, "the registry");
    }

    #[test]
    fn a_future_that_is_dropped_has_done_nothing() {
        let heap = Arc::new(HeapOptions::new(1 << 20).create_memfd().unwrap());
        let (handle, sender) = Channel::<u64>::create(&heap, 1).unwrap();
        // SAFETY: nobody frees it.
        let channel = unsafe { AsyncChannel::open(Arc::clone(&heap), handle) }.unwrap();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(channel.recv_async()).poll(&mut context).is_pending());
        sender.send(1).unwrap();
        assert!(pin!(channel.send_async(2)).poll(&mut context).is_pending());
        assert_eq!(block_on(channel.recv_async()).unwrap(), 1);
        assert_eq!(sender.len(), 0);
    }
}
