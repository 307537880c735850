//! `Post`: objects from one worker of a pair to the other, each exactly once.
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
    /// The other worker sends nothing more.
    End,
}

impl<'b, W: Worker> Post<'b, W> {
    /// The ends that belong to the worker of that number, 0 or 1; to be made once.
    pub(crate) fn new(board: &'b Board, worker: &'b W, number: usize) -> Self {
        let [own, other] = [&board.rings[number], &board.rings[1 - number]];
        Self { worker, outgoing: Sender::new(own), incoming: Receiver::new(other) }
    }

    /// Sends an object as soon as there is room; meanwhile, does what the caller says.
    #[inline]
    pub(crate) fn send(&mut self, object: Object<W>, meanwhile: impl FnMut(&mut Self)) {
        let given = self.worker.give(object);
        self.send_number(given, meanwhile);
    }

    /// Tells the other worker that nothing more will come.
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
