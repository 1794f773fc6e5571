//! A packet with its descriptors: `SOCK_SEQPACKET` and `SCM_RIGHTS`, nothing more (unix(7), cmsg(3)).

use crate::wire::{self, Conversation, DecodeError, MESSAGE_BYTES_MAX};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most descriptors in one packet. The kernel's own bound is 253 (`SCM_MAX_FD`); no message of ours needs more than a service's grants.
pub const DESCRIPTORS_MAX: usize = 32;

/// One end of a connection on which whole messages travel with descriptors.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// One received packet. Its descriptors are close-on-exec and are closed when the packet is dropped, so nothing leaks where a message is refused.
#[derive(Debug)]
pub struct Packet {
    /// The message, not yet decoded.
    pub bytes: Vec<u8>,
    /// The descriptors in the order of the sender.
    pub descriptors: Vec<OwnedFd>,
}

/// Why nothing was received.
#[derive(Debug)]
pub enum ReceiveError {
    /// The bytes or the descriptors did not fit: the peer broke the bounds. Hang up.
    Truncated,
    /// Of a byte stream: it ended inside a frame, or without the farewell that its transport owes (a close_notify of TLS). What was to come
    /// may have been cut off by somebody in between, so this is not the end that the peer meant.
    Cut,
    /// The system call failed; `EAGAIN` on a non-blocking receive means that nothing is there yet.
    System(Errno),
}

impl std::fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Truncated => write!(f, "message larger than the protocol allows"),
            Self::Cut => write!(f, "the stream ended before the peer had said so"),
            Self::System(errno) => write!(f, "recvmsg: {errno}"),
        }
    }
}

impl std::error::Error for ReceiveError {}

/// Why a message was not sent or not received.
#[derive(Debug)]
pub enum MessageError {
    /// The peer does not take it; `EAGAIN` if its queue is full and the send was not to wait.
    Send(Errno),
    /// Nothing came.
    Receive(ReceiveError),
    /// What came, or was to go, is not a message of this conversation: hang up.
    Decode(DecodeError),
}

impl MessageError {
    /// Whether a call that was not to wait would have had to.
    pub fn would_block(&self) -> bool {
        matches!(
            self,
            Self::Send(Errno::AGAIN) | Self::Receive(ReceiveError::System(Errno::AGAIN))
        )
    }
}

impl std::fmt::Display for MessageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Send(errno) => write!(f, "sendmsg: {errno}"),
            Self::Receive(error) => error.fmt(f),
            Self::Decode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MessageError {}

impl Channel {
    /// Two connected ends, both close-on-exec and blocking.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { socket: ours }, Self { socket: theirs }))
    }

    /// Sends one packet; waits while the peer's queue is full unless `flags` has `DONTWAIT`.
    ///
    /// The descriptors are lent: the kernel takes duplicates. Never raises SIGPIPE; a peer that has gone is `EPIPE` or
    /// `ECONNRESET`. At most [`DESCRIPTORS_MAX`] descriptors (`EINVAL` beyond) and [`MESSAGE_BYTES_MAX`] bytes (`EMSGSIZE`).
    pub fn send(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), Errno> {
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(Errno::INVAL);
        }
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Errno::MSGSIZE);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Errno::INVAL);
        }
        let flags = flags | SendFlags::NOSIGNAL;
        loop {
            match sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, flags) {
                Err(Errno::INTR) => continue,
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Receives one packet, or `None` when the peer has hung up.
    ///
    /// `buffer` is scratch space that the caller keeps between calls, so that an idle connection costs no 128 KiB of its own.
    /// A zero-length packet cannot be told from a hang-up (recv(2)); no message of ours is empty.
    pub fn receive(
        &self,
        buffer: &mut ReceiveBuffer,
        flags: RecvFlags,
    ) -> Result<Option<Packet>, ReceiveError> {
        let received = self.receive_into(buffer, flags)?;
        Ok(received.map(|(bytes, descriptors)| Packet {
            bytes: bytes.to_vec(),
            descriptors,
        }))
    }

    /// The same with the bytes left in `buffer`.
    fn receive_into<'b>(
        &self,
        buffer: &'b mut ReceiveBuffer,
        flags: RecvFlags,
    ) -> Result<Option<(&'b [u8], Vec<OwnedFd>)>, ReceiveError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut buffer.bytes)];
            match recvmsg(&self.socket, &mut parts, &mut control, flags) {
                Err(Errno::INTR) => continue,
                // The peer died with our packets unread: for us the same as a hang-up.
                Err(Errno::CONNRESET) => return Ok(None),
                Err(errno) => return Err(ReceiveError::System(errno)),
                Ok(received) => break received,
            }
        };
        // Owned before anything is judged, so that a refused packet closes what it brought.
        let descriptors: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(list) => Some(list),
                _ => None,
            })
            .flatten()
            .collect();
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(ReceiveError::Truncated);
        }
        if received.bytes == 0 {
            return Ok(None);
        }
        let bytes = buffer.bytes.get(..received.bytes).unwrap_or_default();
        Ok(Some((bytes, descriptors)))
    }

    /// Encodes `message` in conversation `C` and sends it: see [`Channel::send`].
    pub fn send_message<C: Conversation>(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), MessageError> {
        let bytes = wire::encode::<C>(message).map_err(MessageError::Decode)?;
        self.send(&bytes, descriptors, flags)
            .map_err(MessageError::Send)
    }

    /// Receives one packet and decodes it in conversation `C`, or `None` when the peer has hung up: see [`Channel::receive`].
    pub fn receive_message<C: Conversation, T: DeserializeOwned>(
        &self,
        buffer: &mut ReceiveBuffer,
        flags: RecvFlags,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, MessageError> {
        let received = self.receive_into(buffer, flags);
        let Some((bytes, descriptors)) = received.map_err(MessageError::Receive)? else {
            return Ok(None);
        };
        let message = wire::decode::<C, T>(bytes).map_err(MessageError::Decode)?;
        Ok(Some((message, descriptors)))
    }

    /// The socket itself, for a poll set or to be handed on.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Space for the largest packet; one per thread is enough.
pub struct ReceiveBuffer {
    bytes: Box<[u8]>,
}

impl ReceiveBuffer {
    /// [`MESSAGE_BYTES_MAX`] bytes, touched only as far as packets reach.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; MESSAGE_BYTES_MAX].into_boxed_slice(),
        }
    }
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self::new()
    }
}
