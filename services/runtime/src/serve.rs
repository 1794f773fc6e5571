//! Serving: connections come in by the door, calls are answered concurrently, the supervisor is kept informed.

use crate::sys::Watchable;
use crate::{Error, Supervisor, trace};
use protocol::bus::{Accept, Door};
use protocol::channel::{MessageError, ReceiveBuffer, ReceiveError};
use protocol::start::{HEARTBEAT_MS, Order};
use protocol::trace::Side;
use protocol::wire::{Conversation, Numbered};
use protocol::{Channel, Packet, wire};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, Semaphore};

/// The most calls of one connection that are worked on at a time; further ones wait in the socket.
pub const CALLS_MAX: usize = 256;

/// See [`AsyncChannel::send`].
const FULL_AGAIN: Duration = Duration::from_millis(1);

/// The most calls of all connections together.
const CALLS_TOTAL_MAX: u32 = 1 << 16;

thread_local! {
    /// One buffer for all connections of a thread: a packet is copied out before anything else runs.
    static BUFFER: RefCell<ReceiveBuffer> = RefCell::new(ReceiveBuffer::new());
}

/// A [`Channel`] in a tokio context. Clones share the socket.
#[derive(Clone)]
pub struct AsyncChannel {
    shared: Rc<Watched>,
}

struct Watched {
    socket: AsyncFd<Watchable>,
    closed: Notify,
}

impl AsyncChannel {
    /// Registers `channel` with the current runtime.
    pub fn new(channel: Channel) -> std::io::Result<Self> {
        let socket = crate::sys::watch(channel)?;
        Ok(Self {
            shared: Rc::new(Watched {
                socket,
                closed: Notify::new(),
            }),
        })
    }

    /// The next packet, or `None` when the peer has hung up. Cancel-safe.
    pub async fn receive(&self) -> Result<Option<Packet>, ReceiveError> {
        loop {
            let mut ready = self.shared.socket.readable().await.map_err(|error| {
                ReceiveError::System(Errno::from_io_error(&error).unwrap_or(Errno::IO))
            })?;
            let socket = &self.shared.socket.get_ref().0;
            match BUFFER.with_borrow_mut(|buffer| socket.receive(buffer, RecvFlags::DONTWAIT)) {
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
            let socket = &self.shared.socket.get_ref().0;
            let received = BUFFER.with_borrow_mut(|buffer| {
                socket.receive_message::<C, T>(buffer, RecvFlags::DONTWAIT)
            });
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

    /// Sends one packet; waits while the peer's queue is full. Cancel-safe: a packet goes as a whole or not at all.
    ///
    /// A full queue is looked at again every [`FULL_AGAIN`] instead of being told about: the kernel would tell of room after each
    /// packet that the peer takes, which is a wake-up of this thread for every call, and full queues are rare.
    pub async fn send(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), MessageError> {
        let socket = &self.shared.socket.get_ref().0;
        loop {
            match socket.send(bytes, descriptors, SendFlags::DONTWAIT) {
                Err(Errno::AGAIN) => tokio::time::sleep(FULL_AGAIN).await,
                other => return other.map_err(MessageError::Send),
            }
        }
    }

    /// Ends the connection for every holder of it.
    pub fn hang_up(&self) {
        let _ = rustix::net::shutdown(&self.shared.socket.get_ref().0, rustix::net::Shutdown::Both);
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

/// A service that answers calls of one conversation.
pub trait Serve<C: Conversation>: 'static {
    /// What the service remembers of one connection; dropped when it has ended and its last call is answered.
    type Session: 'static;

    /// A new connection.
    fn connected(&self, accept: Accept) -> Self::Session;

    /// The answer to one call, and the descriptors that go with it. Calls of one connection run concurrently.
    fn answer(
        &self,
        session: &Self::Session,
        call: C::Call,
        descriptors: Vec<OwnedFd>,
    ) -> impl Future<Output = (C::Answer, Vec<OwnedFd>)>;
}

/// The event loop of one thread, in which all that is asynchronous here runs.
pub fn event_loop() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Accepts connections at `door` and answers their calls until the supervisor says stop (then calls under way are finished) or hangs up.
///
/// A connection that speaks anything else is hung up. Runs on one thread, in a context where tasks may be spawned locally.
pub async fn serve<C: Conversation, S: Serve<C>>(
    door: Channel,
    supervisor: Supervisor,
    service: Rc<S>,
) -> Result<(), Error> {
    let channel_error = |error| Error::Channel(MessageError::Receive(error));
    let io_error = |error: std::io::Error| {
        channel_error(ReceiveError::System(
            Errno::from_io_error(&error).unwrap_or(Errno::IO),
        ))
    };
    let door = AsyncChannel::new(door).map_err(io_error)?;
    let under_way = Arc::new(Semaphore::new(CALLS_TOTAL_MAX as usize));
    let mut stop = std::pin::pin!(supervise(&supervisor, || true));
    loop {
        let packet = tokio::select! {
            packet = door.receive() => packet.map_err(channel_error)?,
            stopped = &mut stop => { stopped?; break }
        };
        // The bus has gone: without it there are no new connections and no way to tell whose the old ones are.
        let Some(mut packet) = packet else {
            return Err(Error::HungUp);
        };
        let accept = wire::decode::<Door, Accept>(&packet.bytes)
            .map_err(|error| Error::Channel(MessageError::Decode(error)))?;
        let Some(socket) = packet.descriptors.pop() else {
            continue;
        };
        trace::begin(Side::Served, Door::NAME, &accept.client).over(1, 0);
        if accept.conversation != C::NAME {
            crate::warn!(
                "{} asked for {}, which is not served here",
                accept.client,
                accept.conversation
            );
            continue;
        }
        let (service, under_way) = (service.clone(), under_way.clone());
        tokio::task::spawn_local(async move {
            let client = accept.client.clone();
            let Ok(channel) = AsyncChannel::new(socket.into()) else {
                return;
            };
            let ended = connection::<C, S>(&channel, accept, service, under_way).await;
            if let Err(error) = ended {
                crate::warn!("connection of {client}: {error}; hung up");
            }
            // Said aloud, since the bus holds a duplicate of our end.
            channel.hang_up();
        });
    }
    // Finish what is under way; the supervisor bounds the time.
    let _all = under_way.acquire_many(CALLS_TOTAL_MAX).await;
    Ok(())
}

/// Says "alive" every second while `turning()` holds, until the supervisor says stop. For services without a door; [`serve`] does it itself.
pub async fn supervise(supervisor: &Supervisor, turning: impl Fn() -> bool) -> Result<(), Error> {
    let mut beat = tokio::time::interval(Duration::from_millis(HEARTBEAT_MS));
    loop {
        beat.tick().await;
        if turning() {
            supervisor.alive()?;
        }
        let order = BUFFER.with_borrow_mut(|buffer| supervisor.order(buffer))?;
        if let Some((Order::Stop, _)) = order {
            return Ok(());
        }
    }
}

async fn connection<C: Conversation, S: Serve<C>>(
    channel: &AsyncChannel,
    accept: Accept,
    service: Rc<S>,
    under_way: Arc<Semaphore>,
) -> Result<(), MessageError> {
    let session = Rc::new(service.connected(accept));
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    loop {
        let permit = calls.clone().acquire_owned().await;
        let received = channel.receive_message::<C, Numbered<C::Call>>().await?;
        let Some((Numbered { id, body }, descriptors)) = received else {
            return Ok(());
        };
        let (service, session, channel) = (service.clone(), session.clone(), channel.clone());
        let under_way = under_way.clone();
        tokio::task::spawn_local(async move {
            let _permit = permit;
            let _counted = under_way.acquire().await;
            let begun = trace::begin(Side::Served, C::NAME, C::kind(&body));
            let received = descriptors.len();
            let (body, descriptors) = service.answer(&session, body, descriptors).await;
            begun.over(received, descriptors.len());
            let lent: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            match wire::encode::<C>(&Numbered { id, body }) {
                // Whatever keeps the answer from going (the client has gone, or the kernel has no room for its
                // descriptors): the caller must not wait for ever, it sees the connection end.
                Ok(bytes) => {
                    if channel.send(&bytes, &lent).await.is_err() {
                        channel.hang_up();
                    }
                }
                // Our own fault: an answer longer than a message may be.
                Err(error) => {
                    crate::error!("{}: answer not sent: {error}", C::NAME);
                    channel.hang_up();
                }
            }
        });
    }
}
