//! A TCP connection that the bus has dialled.

use protocol::bus::BusError;
use runtime::{Bus, CallError};
use rustix::net::Shutdown;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The kind under which the manifest speaks of these addresses.
const KIND: &str = "webhook";

/// Shut down before it is closed: the bus holds a duplicate, which would keep it open.
pub(crate) struct Dialled(TcpStream);

impl Dialled {
    /// A connection to the webhook of that name.
    ///
    /// # Errors
    /// A sentence: the bus gave none, or nobody listens there.
    pub(crate) async fn connect(bus: &Bus, name: &str) -> Result<Self, String> {
        let failed = |error: io::Error| format!("no connection: {error}");
        let dialled = bus.dial(KIND, name).await;
        let socket = dialled.map_err(|error| match error {
            CallError::Bus(BusError::System(errno)) => failed(io::Error::from_raw_os_error(errno)),
            error => format!("no connection: {error}"),
        })?;
        let stream = TcpStream::from_std(socket.into()).map_err(failed)?;
        let dialled = Self(stream);
        // connect(2): it is over when the socket is writable, and SO_ERROR says how it went.
        dialled.0.writable().await.map_err(failed)?;
        match dialled.0.take_error().map_err(failed)? {
            None => Ok(dialled),
            Some(error) => Err(failed(error)),
        }
    }
}

impl Drop for Dialled {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to shut down.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

impl AsyncRead for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
