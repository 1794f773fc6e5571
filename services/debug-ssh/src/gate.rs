//! A connection as the SSH library sees it: until its person has logged in it lives for a bounded time and may send a bounded number of bytes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// From the connection to the login.
pub(crate) const LOGIN_WITHIN: Duration = Duration::from_secs(20);
/// Key exchange, and a few keys tried: 6 KiB are usual.
pub(crate) const STRANGER_BYTES_MAX: usize = 64 * 1024;

/// A stream with the gate in front of it.
pub(crate) struct Gate<S> {
    stream: S,
    logged_in: Arc<AtomicBool>,
    deadline: Pin<Box<Sleep>>,
    received: usize,
}

impl<S> Gate<S> {
    /// The gate opens when `logged_in` becomes true.
    pub(crate) fn new(stream: S, logged_in: Arc<AtomicBool>, within: Duration) -> Self {
        Self {
            stream,
            logged_in,
            deadline: Box::pin(tokio::time::sleep(within)),
            received: 0,
        }
    }

    /// Whether the time is over: then both directions end. Also called while a peer takes nothing of what is sent.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.logged_in.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.received > STRANGER_BYTES_MAX {
            return Err(io::Error::other("too many bytes before a login"));
        }
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "no login in time")),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Err(error) = self.check(context) {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.received = self
            .received
            .saturating_add(buffer.filled().len().saturating_sub(before));
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Err(error) = self.check(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let mut runtime = runtime;
        runtime.enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn a_stranger_is_cut_off_in_time_and_who_has_logged_in_is_not() {
        run(async {
            for (has, expected) in [(false, Some(io::ErrorKind::TimedOut)), (true, None)] {
                let (mut peer, stream) = tokio::io::duplex(64);
                let logged_in = Arc::new(AtomicBool::new(has));
                let mut gate = Gate::new(stream, logged_in, Duration::from_millis(20));
                let speak = async {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    let _ = peer.write_all(b"x").await;
                };
                let (read, ()) = tokio::join!(gate.read_u8(), speak);
                assert_eq!(read.err().map(|error| error.kind()), expected);
            }
        });
    }

    #[test]
    fn a_stranger_sends_no_more_than_a_bounded_number_of_bytes() {
        run(async {
            let (mut peer, stream) = tokio::io::duplex(4_096);
            let logged_in = Arc::new(AtomicBool::new(false));
            let mut gate = Gate::new(stream, logged_in.clone(), LOGIN_WITHIN);
            let flood = async {
                let _ = peer.write_all(&vec![b'x'; 3 * STRANGER_BYTES_MAX]).await;
            };
            let take = async {
                let mut bytes = Vec::new();
                let ended = gate.read_to_end(&mut bytes).await;
                drop(gate);
                (ended.is_err(), bytes.len())
            };
            let ((cut, count), ()) = tokio::join!(take, flood);
            assert!(cut && count <= STRANGER_BYTES_MAX + 64 * 1024, "{count}");
        });
    }
}
