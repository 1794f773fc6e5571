//! Serving: connections come in by the door, calls are answered concurrently, the supervisor is kept informed.

use crate::channel::BUFFER;
use crate::{AsyncChannel, Error, Supervisor, trace};
use protocol::bus::{Accept, Door, Origin};
use protocol::channel::{MessageError, ReceiveError};
use protocol::start::{HEARTBEAT_MS, Order};
use protocol::trace::Side;
use protocol::wire::{Conversation, Numbered};
use protocol::{Channel, wire};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The most calls of one connection that are worked on at a time; further ones wait in the socket.
pub const CALLS_MAX: usize = 256;

/// The most calls of all connections together.
const CALLS_TOTAL_MAX: u32 = 1 << 16;

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

/// The conversations that are answered at one door, by their names.
#[derive(Default)]
pub struct Conversations {
    all: Vec<(&'static str, Answering)>,
}

/// Answers the calls of one new connection, in a task of its own.
type Answering = Box<dyn Fn(OwnedFd, Accept, Arc<Semaphore>)>;

impl Conversations {
    /// Conversation `C`, answered by `service`.
    pub fn of<C: Conversation, S: Serve<C>>(service: Rc<S>) -> Self {
        Self::default().and::<C, S>(service)
    }

    /// And conversation `C`, answered by `service`.
    pub fn and<C: Conversation, S: Serve<C>>(mut self, service: Rc<S>) -> Self {
        let answering = move |socket, accept, under_way| {
            tokio::task::spawn_local(attend::<C, S>(socket, accept, service.clone(), under_way));
        };
        self.all.push((C::NAME, Box::new(answering)));
        self
    }

    fn answering(&self, conversation: &str) -> Option<&Answering> {
        let mut all = self.all.iter();
        all.find(|(name, _)| *name == conversation)
            .map(|(_, answering)| answering)
    }
}

/// Accepts connections at `door` and answers their calls until the supervisor says stop (then calls under way are finished) or hangs up.
///
/// A connection that speaks anything else is hung up. Runs on one thread, in a context where tasks may be spawned locally.
pub async fn serve<C: Conversation, S: Serve<C>>(
    door: Channel,
    supervisor: Supervisor,
    service: Rc<S>,
) -> Result<(), Error> {
    serve_all(door, supervisor, Conversations::of::<C, S>(service)).await
}

/// As [`serve`], where more than one conversation is served at the door.
pub async fn serve_all(
    door: Channel,
    supervisor: Supervisor,
    conversations: Conversations,
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
        match conversations.answering(&accept.conversation) {
            Some(answering) => answering(socket, accept, under_way.clone()),
            None => crate::warn!(
                "{} asked for {}, which is not served here",
                accept.client,
                accept.conversation
            ),
        }
    }
    // Finish what is under way; the supervisor bounds the time.
    let _all = under_way.acquire_many(CALLS_TOTAL_MAX).await;
    Ok(())
}

/// One connection, from its first call to its end.
async fn attend<C: Conversation, S: Serve<C>>(
    socket: OwnedFd,
    accept: Accept,
    service: Rc<S>,
    under_way: Arc<Semaphore>,
) {
    let client = match &accept.origin {
        Origin::Here => accept.client.clone(),
        Origin::Member { name, .. } => format!("{} on {name}", accept.client),
        Origin::Stranger { key } => format!("{} on {key}, a stranger", accept.client),
    };
    let channel = match accept.origin {
        Origin::Here => AsyncChannel::new(socket.into()),
        Origin::Member { .. } | Origin::Stranger { .. } => AsyncChannel::on_stream(socket),
    };
    let Ok(channel) = channel else {
        return;
    };
    let ended = connection::<C, S>(&channel, accept, service, under_way).await;
    if let Err(error) = ended {
        crate::warn!("connection of {client}: {error}; hung up");
    }
    // Said aloud, since the bus holds a duplicate of our end.
    channel.hang_up();
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
