//! One end of a connection to another node: whole messages as frames of a byte stream, as [`Channel`](protocol::Channel) carries them in packets.
//!
//! The descriptor is a TCP socket whose records the kernel seals and opens (TLS in the kernel, `tls` of the kernel's networking documents), or one
//! end of a stream socket pair whose other end a relay holds; both are read and written alike. What the kernel has beside data, it gives only to who asks for the
//! record's type: `EIO` from a plain receive means that such a record is next. No descriptor ever comes out of a stream: there is no room for one.

use crate::sys;
use protocol::channel::{MessageError, ReceiveError};
use protocol::stream::{FRAME_BYTES_MAX, Frames};
use protocol::wire::{self, Conversation};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, Shutdown, recvmsg,
    sendmsg, shutdown,
};
use serde::{Serialize, de::DeserializeOwned};
use std::cell::{Cell, RefCell};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Read at a time, in bytes: four records of TLS.
const CHUNK_BYTES: usize = 64 * 1024;
/// A connection is replaced when it has carried so many bytes, or is so old: its keys are never changed, and AES-GCM's last for several times as
/// much (RFC 8446, 5.5).
const CARRIED_BYTES_MAX: u64 = 64 << 30;
const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

thread_local! {
    static CHUNK: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_BYTES].into_boxed_slice());
}

/// What a record is that is no data: the last one of an orderly end, or what nobody may send here.
pub(crate) enum Control {
    /// The alert close_notify.
    Farewell,
    /// Anything else.
    Other,
}

/// One end of a stream of frames. Nothing on it ever waits.
pub struct Stream {
    socket: OwnedFd,
    incoming: RefCell<Frames>,
    /// Of a frame that was begun: what the kernel had no room for.
    outgoing: RefCell<Vec<u8>>,
    /// The kernel does the records of this socket. Known from the first bytes that came: it flags that there was no room for their record's type.
    records: Cell<bool>,
    ended: Cell<bool>,
    carried: Cell<u64>,
    /// Of that, what came in.
    heard: Cell<u64>,
    made: Instant,
}

impl Stream {
    /// Speaks over `socket`, connected, of type `SOCK_STREAM`. It is shut down when this is dropped, since the bus holds a duplicate.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            incoming: RefCell::default(),
            outgoing: RefCell::default(),
            records: Cell::new(false),
            ended: Cell::new(false),
            carried: Cell::new(0),
            heard: Cell::new(0),
            made: Instant::now(),
        }
    }

    /// The next message in conversation `C`, or `None` when the peer has ended in order.
    ///
    /// # Errors
    /// `EAGAIN` ([`MessageError::would_block`]) where nothing whole is there yet. [`ReceiveError::Truncated`] where a frame beyond
    /// [`FRAME_BYTES_MAX`] is announced, [`ReceiveError::Cut`] where the stream ended otherwise; both, and what is no message, end the connection.
    pub fn receive_message<C: Conversation, T: DeserializeOwned>(
        &self,
    ) -> Result<Option<T>, MessageError> {
        let received = self
            .receive_with(wire::decode::<C, T>)
            .map_err(MessageError::Receive)?;
        received.transpose().map_err(MessageError::Decode)
    }

    /// The next frame, whatever is in it. As [`Stream::receive_message`].
    pub(crate) fn receive(&self) -> Result<Option<Vec<u8>>, ReceiveError> {
        self.receive_with(<[u8]>::to_vec)
    }

    fn receive_with<T>(&self, take: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, ReceiveError> {
        loop {
            match self.incoming.borrow_mut().next() {
                Err(_) => return Err(ReceiveError::Truncated),
                Ok(Some(frame)) => return Ok(Some(take(frame))),
                Ok(None) if self.ended.get() => return Ok(None),
                Ok(None) => {}
            }
            self.read()?;
        }
    }

    /// Takes what has come, or notes the end.
    fn read(&self) -> Result<(), ReceiveError> {
        let count = CHUNK.with_borrow_mut(|chunk| {
            let (count, records) = receive_some(self.socket.as_fd(), chunk)?;
            self.records.set(self.records.get() || records);
            self.incoming
                .borrow_mut()
                .push(chunk.get(..count).unwrap_or_default());
            Ok(count)
        });
        let farewell = match count {
            Err(Errno::IO) => match sys::control_record(self.socket.as_fd()) {
                Ok(Control::Farewell) => true,
                Ok(Control::Other) => return Err(ReceiveError::System(Errno::BADMSG)),
                Err(errno) => return Err(ReceiveError::System(errno)),
            },
            Err(Errno::CONNRESET) => return Err(ReceiveError::Cut),
            Err(errno) => return Err(ReceiveError::System(errno)),
            Ok(0) => !self.records.get(),
            Ok(count) => {
                self.carried.set(self.carried.get() + count as u64);
                self.heard.set(self.heard.get() + count as u64);
                return Ok(());
            }
        };
        if !farewell || !self.incoming.borrow().is_empty() {
            return Err(ReceiveError::Cut);
        }
        self.ended.set(true);
        Ok(())
    }

    /// Sends `message` in one frame; what the kernel has no room for now goes with [`Stream::flush`].
    ///
    /// # Errors
    /// `EAGAIN` where the frame before has not wholly gone: nothing of this one was begun.
    pub fn send_message<C: Conversation>(
        &self,
        message: &impl Serialize,
    ) -> Result<(), MessageError> {
        let bytes = wire::encode::<C>(message).map_err(MessageError::Decode)?;
        self.flush().map_err(MessageError::Send)?;
        self.begin(&bytes).map_err(MessageError::Send)
    }

    /// Sends of a new frame around `bytes` what goes now, and keeps the rest. To be called with nothing left of the one before.
    pub(crate) fn begin(&self, bytes: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(bytes.len()).map_err(|_| Errno::MSGSIZE)?;
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(Errno::MSGSIZE);
        }
        let head = length.to_le_bytes();
        let sent = match send_some(self.socket.as_fd(), &[&head, bytes]) {
            Err(Errno::AGAIN) => 0,
            other => other?,
        };
        self.carried.set(self.carried.get() + sent as u64);
        let mut outgoing = self.outgoing.borrow_mut();
        outgoing.extend_from_slice(head.get(sent..).unwrap_or_default());
        let of_body = sent.saturating_sub(head.len());
        outgoing.extend_from_slice(bytes.get(of_body..).unwrap_or_default());
        Ok(())
    }

    /// Sends what is left of a frame that was begun. `EAGAIN` where not all of it goes.
    pub fn flush(&self) -> Result<(), Errno> {
        let mut outgoing = self.outgoing.borrow_mut();
        let mut sent = 0;
        let result = loop {
            let rest = outgoing.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match send_some(self.socket.as_fd(), &[rest]) {
                Ok(count) => sent += count,
                Err(errno) => break Err(errno),
            }
        };
        self.carried.set(self.carried.get() + sent as u64);
        outgoing.drain(..sent);
        if outgoing.is_empty() {
            *outgoing = Vec::new(); // an idle connection keeps no megabytes
        }
        result
    }

    /// Whether a frame was begun that has not wholly gone: to be flushed when the socket is writable.
    pub fn is_sending(&self) -> bool {
        !self.outgoing.borrow().is_empty()
    }

    /// How many bytes have come in, also those of a frame that is not whole yet.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.get()
    }

    /// Whether it has carried so much, or is so old, that another one should take its place.
    pub fn is_worn(&self) -> bool {
        self.carried.get() >= CARRIED_BYTES_MAX || self.made.elapsed() >= AGE_MAX
    }

    /// Ends the connection for every holder of it, and says so to the peer if nothing was begun: an end in the middle of a frame is none in order.
    pub fn hang_up(&self) {
        if self.records.get() && !self.is_sending() {
            let _ = sys::send_farewell(self.socket.as_fd());
        }
        let _ = shutdown(&self.socket, Shutdown::Both);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.hang_up();
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receives some bytes without waiting, and tells whether the kernel does the records of this socket; 0 bytes: the end. By recvmsg(2), which every
/// profile has, and with no room for descriptors.
pub fn receive_some(socket: BorrowedFd<'_>, into: &mut [u8]) -> Result<(usize, bool), Errno> {
    loop {
        let mut nothing = RecvAncillaryBuffer::default();
        let mut parts = [IoSliceMut::new(into)];
        match recvmsg(socket, &mut parts, &mut nothing, RecvFlags::DONTWAIT) {
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
            Ok(received) => {
                return Ok((received.bytes, received.flags.contains(ReturnFlags::CTRUNC)));
            }
        }
    }
}

/// Sends some of the bytes without waiting; how many. By sendmsg(2), which every profile has.
pub fn send_some(socket: BorrowedFd<'_>, parts: &[&[u8]]) -> Result<usize, Errno> {
    let parts: [IoSlice<'_>; 2] =
        std::array::from_fn(|at| IoSlice::new(parts.get(at).copied().unwrap_or_default()));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), flags) {
            Err(Errno::INTR) => continue,
            other => return other,
        }
    }
}
