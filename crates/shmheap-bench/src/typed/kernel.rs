//! What the kernel carries from process to process: pipes, and pairs of Unix sockets.
//!
//! The conductor makes two lines and its children inherit both ends of each, under numbers that
//! they are told. A message is one system call to send and one to receive. Of a pipe, writes of up
//! to 4096 bytes come out whole; of a stream socket too, as long as all are of one length.
//!
//! # Unsafe code
//!
//! Borrows inherited descriptors by their numbers, to duplicate them.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use zerocopy::IntoBytes;

use super::{Facility, Ground, LINES, Lines, Receiver, Sender};
use crate::peer::Sharing;

/// A pipe for each line.
#[derive(Debug)]
pub(crate) struct Pipes;

/// A pair of sockets for each line, used in one direction.
#[derive(Debug)]
pub(crate) struct Sockets;

/// The ends of both lines, as inherited.
#[derive(Debug)]
pub(crate) struct Site(Vec<[File; 2]>);

/// The ends to receive from and to send to, without CLOEXEC.
fn pipe() -> Result<[OwnedFd; 2]> {
    let (from, to) = rustix::pipe::pipe_with(PipeFlags::empty()).context("no pipe")?;
    Ok([from, to])
}

fn sockets() -> Result<[OwnedFd; 2]> {
    let pair = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::empty(),
        None,
    );
    let (from, to) = pair.context("no pair of sockets")?;
    Ok([from, to])
}

fn lay_out(line: fn() -> Result<[OwnedFd; 2]>) -> Result<Ground> {
    let lines = (0..LINES).map(|_| line()).collect::<Result<Vec<_>>>()?;
    let numbers = lines.iter().flatten().map(|end| end.as_raw_fd().to_string());
    Ok(Ground::new(numbers.collect::<Vec<_>>().join(","), lines))
}

fn enter(address: &str) -> Result<Site> {
    let ends = address.split(',').map(|number| end(number.parse()?));
    let mut ends = ends.collect::<Result<Vec<_>>>()?.into_iter();
    let mut lines = Vec::new();
    while let (Some(from), Some(to)) = (ends.next(), ends.next()) {
        lines.push([from, to]);
    }
    Ok(Site(lines))
}

/// This process's own descriptor of an inherited one.
fn end(number: i32) -> Result<File> {
    // SAFETY: it was inherited and stays open: nobody in this process owns it.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    let own = inherited.try_clone_to_owned();
    Ok(File::from(own.context("a line is handed from parent to child only")?))
}

impl Facility for Pipes {
    type Site = Site;

    fn name(&self) -> &'static str {
        "pipe"
    }

    fn description(&self) -> String {
        "of the kernel: a write and a read for each message".to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn lay_out(&self, _name: &str) -> Result<Ground> {
        lay_out(pipe)
    }

    fn enter(&self, address: &str) -> Result<Site> {
        enter(address)
    }
}

impl Facility for Sockets {
    type Site = Site;

    fn name(&self) -> &'static str {
        "Unix socket"
    }

    fn description(&self) -> String {
        "of the kernel: a pair of streams, a write and a read for each message".to_owned()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Processes
    }

    fn lay_out(&self, _name: &str) -> Result<Ground> {
        lay_out(sockets)
    }

    fn enter(&self, address: &str) -> Result<Site> {
        enter(address)
    }
}

impl<const N: usize> Lines<N> for Site {
    fn sender(&self, line: usize) -> Result<impl Sender<N> + '_> {
        Ok(&self.0[line][1])
    }

    fn receiver(&self, line: usize) -> Result<impl Receiver<N> + '_> {
        Ok(&self.0[line][0])
    }
}

impl<const N: usize> Sender<N> for &File {
    #[inline]
    fn send(&mut self, message: [u64; N]) -> Result<()> {
        Ok(self.write_all(message.as_bytes())?)
    }
}

impl<const N: usize> Receiver<N> for &File {
    #[inline]
    fn receive(&mut self) -> Result<[u64; N]> {
        let mut message = [0; N];
        self.read_exact(message.as_mut_bytes())?;
        Ok(message)
    }
}
