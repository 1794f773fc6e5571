//! A connection in a tokio context, over either transport: packets within a node, frames of a stream between nodes.

use crate::Stream;
use crate::sys::Watchable;
use protocol::channel::{MessageError, ReceiveBuffer, ReceiveError};
use protocol::wire::Conversation;

use protocol::{Channel, Packet};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, Notify};

/// See [`AsyncChannel::send`].
const FULL_AGAIN: Duration = Duration::from_millis(1);

thread_local! {
    /// One buffer for all connections of a thread: a packet is copied out before anything else runs.
    pub(crate) static BUFFER: RefCell<ReceiveBuffer> = RefCell::new(ReceiveBuffer::new());
}

/// What carries the messages.
pub(crate) enum Transport {
    Packets(Channel),
    Frames(Stream),
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Packets(channel) => channel.as_fd(),
            Self::Frames(stream) => stream.as_fd(),
        }
    }
}

/// A [`Channel`] or a [`Stream`] in a tokio context. Clones share the socket.
#[derive(Clone)]
pub struct AsyncChannel {
    shared: Rc<Watched>,
}

struct Watched {
    socket: AsyncFd<Watchable>,
    closed: Notify,
    /// Of a stream: frames go one after the other.
    sending: Mutex<()>,
}

impl AsyncChannel {
    /// Registers `channel` with the current runtime.
    pub fn new(channel: Channel) -> std::io::Result<Self> {
        Self::over(Transport::Packets(channel))
    }

    /// Registers a byte stream to another node: see [`Stream`].
    pub fn on_stream(socket: OwnedFd) -> std::io::Result<Self> {
        Self::over(Transport::Frames(Stream::new(socket)))
    }

    fn over(transport: Transport) -> std::io::Result<Self> {
        Ok(Self {
            shared: Rc::new(Watched {
                socket: crate::sys::watch(transport)?,
                closed: Notify::new(),
                sending: Mutex::new(()),
            }),
        })
    }

    fn transport(&self) -> &Transport {
        &self.shared.socket.get_ref().0
    }

    /// Whether it leads to another node, where no descriptor can go.
    pub(crate) fn leaves_the_node(&self) -> bool {
        matches!(self.transport(), Transport::Frames(_))
    }

    /// Whether another connection should take its place: see [`Stream::is_worn`].
    pub(crate) fn is_worn(&self) -> bool {
        matches!(self.transport(), Transport::Frames(stream) if stream.is_worn())
    }

    /// See [`Stream::heard`]; of packets nothing is known before they are whole.
    pub(crate) fn heard(&self) -> u64 {
        match self.transport() {
            Transport::Packets(_) => 0,
            Transport::Frames(stream) => stream.heard(),
        }
    }

    /// The next packet or frame, or `None` when the peer has hung up. Cancel-safe.
    pub async fn receive(&self) -> Result<Option<Packet>, ReceiveError> {
        loop {
            let mut ready = self.shared.socket.readable().await.map_err(|error| {
                ReceiveError::System(Errno::from_io_error(&error).unwrap_or(Errno::IO))
            })?;
            let received = match self.transport() {
                Transport::Packets(socket) => {
                    BUFFER.with_borrow_mut(|buffer| socket.receive(buffer, RecvFlags::DONTWAIT))
                }
                Transport::Frames(stream) => stream.receive().map(|frame| {
                    frame.map(|bytes| Packet {
                        bytes,
                        descriptors: Vec::new(),
                    })
                }),
            };
            match received {
                Err(ReceiveError::System(Errno::AGAIN)) => ready.clear_ready(),
                other => return other,
            }
        }
    }

    /// The next message of conversation `C` with its descriptors, or `None` when the peer has hung up. Cancel-safe. Decoded where it was
    /// received, so that it is not copied once more.
    pub(crate) async fn receive_message<C: Conversation, T: DeserializeOwned>(
        &self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, MessageError> {
        loop {
            let mut ready = self.shared.socket.readable().await.map_err(|error| {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                MessageError::Receive(ReceiveError::System(errno))
            })?;
            let received = match self.transport() {
                Transport::Packets(socket) => BUFFER.with_borrow_mut(|buffer| {
                    socket.receive_message::<C, T>(buffer, RecvFlags::DONTWAIT)
                }),
                Transport::Frames(stream) => stream
                    .receive_message::<C, T>()
                    .map(|message| message.map(|message| (message, Vec::new()))),
            };
            match received {
                Err(error) if error.would_block() => ready.clear_ready(),
                other => return other,
            }
        }
    }

    /// Tries `accept` on the socket, which listens, until it does not have to wait. Cancel-safe.
    pub async fn readable<T>(
        &self,
        mut accept: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> std::io::Result<T> {
        loop {
            let mut ready = self.shared.socket.readable().await?;
            match accept(self.shared.socket.get_ref().as_fd()) {
                Err(Errno::AGAIN) => ready.clear_ready(),
                other => return other.map_err(Into::into),
            }
        }
    }

    /// Sends one packet or frame; waits while the peer's queue is full. Cancel-safe: a packet goes as a whole or not at all, and the rest of a frame
    /// that was begun goes before the next.
    ///
    /// A full queue of packets is looked at again every [`FULL_AGAIN`] instead of being told about: the kernel would tell of room after each
    /// packet that the peer takes, which is a wake-up of this thread for every call, and full queues are rare.
    pub async fn send(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), MessageError> {
        let socket = match self.transport() {
            Transport::Packets(socket) => socket,
            Transport::Frames(stream) => {
                let sent = self.send_frame(stream, bytes, descriptors).await;
                return sent.map_err(MessageError::Send);
            }
        };
        loop {
            match socket.send(bytes, descriptors, SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) => tokio::time::sleep(FULL_AGAIN).await,
                other => return other.map_err(MessageError::Send),
            }
        }
    }

    async fn send_frame(
        &self,
        stream: &Stream,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Errno> {
        if !descriptors.is_empty() {
            crate::error!("a descriptor cannot leave the node: nothing was sent");
            return Err(Errno::OPNOTSUPP);
        }
        let _turn = self.shared.sending.lock().await;
        self.flush(stream).await?; // what a caller has begun that was dropped half-way
        stream.begin(bytes)?;
        self.flush(stream).await
    }

    async fn flush(&self, stream: &Stream) -> Result<(), Errno> {
        loop {
            match stream.flush() {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
            let ready = self.shared.socket.writable().await;
            let mut ready =
                ready.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            // Room may have come between the two; then there is no further news of it.
            match stream.flush() {
                Err(Errno::AGAIN) => ready.clear_ready(),
                other => return other,
            }
        }
    }

    /// Ends the connection for every holder of it.
    pub fn hang_up(&self) {
        match self.transport() {
            Transport::Packets(socket) => {
                let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
            }
            Transport::Frames(stream) => stream.hang_up(),
        }
    }

    /// Wakes whoever waits in [`AsyncChannel::closed`].
    pub(crate) fn close(&self) {
        self.shared.closed.notify_one();
    }

    /// Waits for [`AsyncChannel::close`].
    pub(crate) async fn closed(&self) {
        self.shared.closed.notified().await;
    }
}
