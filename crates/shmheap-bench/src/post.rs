//! `Post`: objects from each worker of a crew to the next, and from the last to the first, each
//! exactly once.
//!
//! # Unsafe code
//!
//! Takes the object that a number stands for.
#![allow(unsafe_code)]

use crate::board::{Board, Patience};
use crate::peer::{Object, Worker};
use crate::ring::{Receiver, Sender};

/// What is sent when nothing more will come; no object has it.
const END: u64 = 0;

/// A worker's two ends of the rings.
#[derive(Debug)]
pub(crate) struct Post<'b, W> {
    worker: &'b W,
    outgoing: Sender<'b>,
    incoming: Receiver<'b>,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Parcel<W> {
    Nothing,
    Object(Object<W>),
    /// The worker before sends nothing more.
    End,
}

impl<'b, W: Worker> Post<'b, W> {
    /// The ends that belong to the worker of that number, of so many; to be made once.
    pub(crate) fn new(board: &'b Board, worker: &'b W, number: usize, workers: usize) -> Self {
        let before = (number + workers - 1) % workers;
        let [own, other] = [&board.rings[number], &board.rings[before]];
        Self { worker, outgoing: Sender::new(own), incoming: Receiver::new(other) }
    }

    /// Sends an object as soon as there is room; meanwhile, does what the caller says.
    #[inline]
    pub(crate) fn send(&mut self, object: Object<W>, meanwhile: impl FnMut(&mut Self)) {
        let given = self.worker.give(object);
        self.send_number(given, meanwhile);
    }

    /// Tells the next worker that nothing more will come.
    pub(crate) fn send_end(&mut self, meanwhile: impl FnMut(&mut Self)) {
        self.send_number(END, meanwhile);
    }

    #[inline]
    fn send_number(&mut self, number: u64, mut meanwhile: impl FnMut(&mut Self)) {
        let mut patience = Patience::default();
        while !self.outgoing.try_send(number) {
            meanwhile(self);
            patience.wait();
        }
    }

    #[inline]
    pub(crate) fn receive(&mut self) -> Parcel<W> {
        match self.incoming.try_receive() {
            None => Parcel::Nothing,
            Some(END) => Parcel::End,
            // SAFETY: only `send` puts numbers into the rings, which it got from `give` of a worker
            // of the crew's heap; a ring hands each on once.
            Some(given) => Parcel::Object(unsafe { self.worker.take(given) }),
        }
    }

    /// As [`receive`](Self::receive), once something has come.
    #[inline]
    pub(crate) fn wait(&mut self) -> Parcel<W> {
        let mut patience = Patience::default();
        loop {
            match self.receive() {
                Parcel::Nothing => patience.wait(),
                parcel => return parcel,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::board::{self, Mapped};
    use crate::peer::Peer;
    use crate::peer::malloc::Malloc;

    /// Sends its number `COUNT` times, and expects that of the worker before as often.
    fn pass_on(board: &Board, number: usize, workers: usize) {
        const COUNT: usize = 10_000;
        let worker = Malloc.connect("", number).unwrap();
        let mut post = Post::new(board, &worker, number, workers);
        let before = (if number == 0 { workers } else { number }) - 1;
        let (received, ended) = (Cell::new(0), Cell::new(false));
        let accept = |parcel: Parcel<_>| match parcel {
            Parcel::Object(object) => {
                assert_eq!(object.read(), before as u64);
                worker.free(object);
                received.set(received.get() + 1);
            }
            Parcel::End => ended.set(true),
            Parcel::Nothing => {}
        };
        for _ in 0..COUNT {
            let mut object = worker.alloc(8);
            object.write(number as u64);
            post.send(object, |post| accept(post.receive()));
        }
        post.send_end(|post| accept(post.receive()));
        while !ended.get() {
            accept(post.wait());
        }
        assert_eq!(received.get(), COUNT);
    }

    #[test]
    fn objects_come_from_the_worker_before() {
        for workers in 1..=board::WORKERS_MAX {
            let file = board::create().unwrap();
            let board = Mapped::inherited(board::number(&file)).unwrap();
            std::thread::scope(|scope| {
                let board = &board;
                for number in 0..workers {
                    scope.spawn(move || pass_on(board, number, workers));
                }
            });
        }
    }
}
