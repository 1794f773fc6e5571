//! The client's socket as hyper sees it: reads and writes, with file ranges sent by the kernel, and
//! a note of what moves.

use super::file_range::Placeholders;
use crate::activity::Activity;
use bytes::Bytes;
use hyper::rt::ReadBufCursor;
use hyper_util::rt::TokioIo;
use rustix::net::SendFlags;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// The most slices that go into one system call; hyper rarely has more than two.
const SLICES_MAX: usize = 16;

/// One accepted connection.
pub struct Socket {
    stream: TokioIo<TcpStream>,
    /// What was read from it earlier and comes first.
    before: Bytes,
    placeholders: Rc<Placeholders>,
    activity: Rc<Activity>,
}

impl Socket {
    /// A connected, non-blocking socket, of whose bytes `before` have been read already. File ranges in what is written must come from
    /// `placeholders`.
    pub fn new(
        stream: TcpStream,
        before: Bytes,
        placeholders: Rc<Placeholders>,
        activity: Rc<Activity>,
    ) -> Self {
        Self {
            stream: TokioIo::new(stream),
            before,
            placeholders,
            activity,
        }
    }

    /// The socket itself, and what nobody has read of the bytes that came before.
    pub fn into_parts(self) -> (TcpStream, Bytes) {
        (self.stream.into_inner(), self.before)
    }

    /// One attempt to write, without waiting: the ordinary slices in front by sendmsg(2), then one
    /// file range by sendfile(2).
    fn try_write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let stream = self.stream.inner();
        let ordinary = slices
            .iter()
            .position(|slice| self.placeholders.is_placeholder(slice))
            .unwrap_or(slices.len());
        let (front, rest) = slices.split_at(ordinary);
        let front_bytes: usize = front.iter().map(|slice| slice.len()).sum();
        if front_bytes > 0 {
            // The head of an answer travels in one segment with the beginning of the file behind
            // it.
            let more = if rest.is_empty() {
                SendFlags::empty()
            } else {
                SendFlags::MORE
            };
            let flags = SendFlags::NOSIGNAL | more;
            let sent = rustix::net::sendmsg(
                stream,
                front,
                &mut rustix::net::SendAncillaryBuffer::default(),
                flags,
            )?;
            if sent < front_bytes {
                return Ok(sent);
            }
        }
        let Some(range) = rest.first() else {
            return Ok(front_bytes);
        };
        match self.placeholders.send(range, stream) {
            Some(Ok(sent)) => Ok(front_bytes + sent),
            // What went before must be reported first; the error comes back with the next attempt.
            Some(Err(_)) if front_bytes > 0 => Ok(front_bytes),
            Some(Err(error)) => Err(error),
            None => Ok(front_bytes),
        }
    }
}

impl hyper::rt::Read for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.before.is_empty() {
            let length = this.before.len().min(buffer.remaining());
            buffer.put_slice(&this.before.split_to(length));
            this.activity.received();
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_ready() {
            this.activity.received();
        }
        read
    }
}

impl hyper::rt::Write for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let slices = slices.get(..SLICES_MAX).unwrap_or(slices);
        let stream = self.stream.inner();
        loop {
            let Poll::Ready(writable) = stream.poll_write_ready(context) else {
                self.activity.write_blocked();
                return Poll::Pending;
            };
            writable?;
            match stream.try_io(Interest::WRITABLE, || self.try_write(slices)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => {
                    self.activity.written();
                    return Poll::Ready(other);
                }
            }
        }
    }

    // Tells hyper to queue buffers as they are. Without it hyper would copy them into one, and
    // fault at the first placeholder.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}
