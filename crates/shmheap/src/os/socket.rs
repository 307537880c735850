//! One descriptor over a Unix socket.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::refused;
use crate::{Error, Result};

/// A stream carries a descriptor only along with data.
const CARRIER: [u8; 1] = [b'H'];

/// Sends a duplicate of the descriptor, with one byte of data to carry it.
pub(crate) fn send_fd(socket: &UnixStream, fd: BorrowedFd<'_>) -> Result<()> {
    let descriptors = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(refused("sending a descriptor over the socket")(Errno::NOBUFS));
    }
    let carrier = [IoSlice::new(&CARRIER)];
    // NOSIGNAL: a peer that has gone is an error, not a SIGPIPE.
    retry(|| sendmsg(socket, &carrier, &mut control, SendFlags::NOSIGNAL))
        .map_err(refused("sending a descriptor over the socket"))?;
    Ok(())
}

/// Receives what [`send_fd`] has sent. The descriptor is closed on exec.
pub(crate) fn receive_fd(socket: &UnixStream) -> Result<OwnedFd> {
    let failed = |kind, text: &str| Error::System {
        operation: "receiving a descriptor over the socket",
        source: io::Error::new(kind, text),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut carrier = [IoSliceMut::new(&mut byte)];
    let received = retry(|| recvmsg(socket, &mut carrier, &mut control, RecvFlags::CMSG_CLOEXEC))
        .map_err(refused("receiving a descriptor over the socket"))?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match descriptor {
        Some(fd) => Ok(fd),
        None if received.bytes == 0 => {
            Err(failed(ErrorKind::UnexpectedEof, "the other side closed the connection first"))
        }
        None => Err(failed(
            ErrorKind::InvalidData,
            "a message without a descriptor came; the other side must send a heap, and this \
             process be below its limit of open files (ulimit -n)",
        )),
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_descriptor_arrives_open_and_closed_on_exec() {
        let (left, right) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        send_fd(&left, file.as_fd()).unwrap();
        let received = receive_fd(&right).unwrap();
        let flags = rustix::io::fcntl_getfd(&received).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let mut content = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        std::fs::File::from(received).read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
    }

    #[test]
    fn what_is_not_a_descriptor_is_told_apart() {
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(b"H").unwrap();
        let error = receive_fd(&right).unwrap_err().to_string();
        assert!(error.contains("without a descriptor"), "{error}");
        drop(left);
        let error = receive_fd(&right).unwrap_err().to_string();
        assert!(error.contains("closed the connection"), "{error}");
        // A SIGPIPE would be ignored by Rust's runtime; in a C program it would be deadly.
        let error = send_fd(&right, right.as_fd()).unwrap_err();
        assert_eq!(error.errno(), libc::EPIPE);
    }
}
