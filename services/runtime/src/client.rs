//! Calls to other services: one connection, many calls under way, answers in any order; and a new connection when the old one ends.

use crate::{AsyncChannel, trace};
use protocol::bus::{BusError, Connect, ConnectAnswer, ConnectCall};
use protocol::channel::MessageError;
use protocol::health::Sealing;
use protocol::trace::Side;
use protocol::wire::{Conversation, DecodeError, Numbered};
use protocol::{Channel, wire};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use tokio::sync::{Mutex, oneshot};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// Nothing was sent, so nothing happened: a new connection may be tried.
    NotSent,
    /// The connection ended between the call and its answer: it happened or it did not.
    Lost,
    /// The call does not fit a message: the caller broke a bound.
    TooLong,
    /// The bus gave no connection.
    Bus(BusError),
    /// The service is on another node, and a descriptor cannot leave its own: nothing was sent, and nothing will be with these descriptors.
    Descriptors,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent => write!(f, "the connection has ended"),
            Self::Lost => write!(f, "the connection ended before the answer"),
            Self::TooLong => write!(f, "the call is longer than a message may be"),
            Self::Bus(error) => error.fmt(f),
            Self::Descriptors => write!(
                f,
                "the service is on another node, and a descriptor cannot leave its own"
            ),
        }
    }
}

impl std::error::Error for CallError {}

type Waiting<A> = HashMap<u32, oneshot::Sender<(A, Vec<OwnedFd>)>>;

/// One connection in conversation `C`, on the thread that made it. Cheap to clone.
pub struct Client<C: Conversation> {
    shared: Rc<Shared<C>>,
}

struct Shared<C: Conversation> {
    channel: AsyncChannel,
    waiting: RefCell<Waiting<C::Answer>>,
    next: Cell<u32>,
    ended: Cell<bool>,
}

impl<C: Conversation> Clone for Client<C> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<C: Conversation> Client<C> {
    /// Speaks over `channel`. Needs a tokio context in which tasks may be spawned locally.
    pub fn new(channel: Channel) -> std::io::Result<Self> {
        AsyncChannel::new(channel).map(Self::over)
    }

    /// Speaks over what the bus has given ([`Bus::open`], [`Bus::open_on`]). Where it leads to another node, no descriptors go with the calls
    /// ([`CallError::Descriptors`]). Needs a tokio context, as [`Client::new`].
    pub fn over(channel: AsyncChannel) -> Self {
        let shared = Rc::new(Shared {
            channel,
            waiting: RefCell::new(HashMap::new()),
            next: Cell::new(0),
            ended: Cell::new(false),
        });
        // The reader holds only a weak link between packets: when the last clone goes, it ends and the connection closes.
        let reader = Rc::downgrade(&shared);
        let channel = shared.channel.clone();
        tokio::task::spawn_local(async move {
            let mut closed = std::pin::pin!(channel.closed());
            loop {
                let received = tokio::select! {
                    received = channel.receive_message::<C, Numbered<C::Answer>>() => received,
                    () = &mut closed => break,
                };
                let Some(shared) = reader.upgrade() else {
                    break;
                };
                match received {
                    // A caller that no longer waits drops the descriptors with the answer.
                    Ok(Some((Numbered { id, body }, descriptors))) => {
                        let waiter = shared.waiting.borrow_mut().remove(&id);
                        waiter.map(|waiter| waiter.send((body, descriptors)));
                    }
                    Err(MessageError::Decode(error)) => {
                        crate::error!("{}: {error}; hanging up", C::NAME);
                        break;
                    }
                    Ok(None) | Err(_) => break,
                }
            }
            if let Some(shared) = reader.upgrade() {
                shared.end();
            }
        });
        Self { shared }
    }

    /// Whether the connection has ended; every later call is [`CallError::NotSent`].
    pub fn ended(&self) -> bool {
        self.shared.ended.get()
    }

    /// Whether a new connection should take its place, for the sake of its keys; calls on it still work.
    fn is_worn(&self) -> bool {
        self.shared.channel.is_worn()
    }

    /// How many bytes have come from another node, also those of an answer that is not whole yet.
    fn heard(&self) -> u64 {
        self.shared.channel.heard()
    }

    /// Sends `call` with `descriptors` (lent) and waits for its answer.
    pub async fn call(
        &self,
        call: &C::Call,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(C::Answer, Vec<OwnedFd>), CallError> {
        if self.ended() {
            return Err(CallError::NotSent);
        }
        if !descriptors.is_empty() && self.shared.channel.leaves_the_node() {
            return Err(CallError::Descriptors);
        }
        let begun = trace::begin(Side::Asked, C::NAME, C::kind(call));
        let id = self.shared.next.get();
        self.shared.next.set(id.wrapping_add(1));
        let call = Numbered { id, body: call };
        let bytes = wire::encode::<C>(&call);
        let bytes = bytes.map_err(|error| match error {
            DecodeError::Long => CallError::TooLong,
            _ => CallError::NotSent,
        })?;
        let (sender, answer) = oneshot::channel();
        self.shared.waiting.borrow_mut().insert(id, sender);
        // A caller that is dropped half-way (its own client hung up) leaves no entry behind.
        let _forget = Forget {
            shared: &self.shared,
            id,
        };
        if let Err(error) = self.shared.channel.send(&bytes, descriptors).await {
            return Err(match error {
                MessageError::Send(rustix::io::Errno::MSGSIZE) => CallError::TooLong,
                _ => {
                    self.shared.end();
                    CallError::NotSent
                }
            });
        }
        let answer = answer.await.map_err(|_| CallError::Lost);
        begun.over(
            answer
                .as_ref()
                .map_or(0, |(_, descriptors)| descriptors.len()),
            descriptors.len(),
        );
        answer
    }
}

impl<C: Conversation> Shared<C> {
    fn end(&self) {
        self.ended.set(true);
        self.waiting.borrow_mut().clear(); // every waiter sees its sender go
    }
}

impl<C: Conversation> Drop for Shared<C> {
    fn drop(&mut self) {
        self.channel.close();
    }
}

struct Forget<'a, C: Conversation> {
    shared: &'a Shared<C>,
    id: u32,
}

impl<C: Conversation> Drop for Forget<'_, C> {
    fn drop(&mut self) {
        self.shared.waiting.borrow_mut().remove(&self.id);
    }
}

/// The restricted bus channel of this process: connections by name.
#[derive(Clone)]
pub struct Bus {
    client: Client<Connect>,
    /// How the last connection to another node is encrypted.
    sealing: Rc<Cell<Option<Sealing>>>,
}

impl Bus {
    /// Speaks to the bus over the granted channel.
    pub fn new(channel: Channel) -> std::io::Result<Self> {
        Ok(Self {
            client: Client::new(channel)?,
            sealing: Rc::default(),
        })
    }

    /// How the bytes of the last connection to another node are encrypted; `None`: there was none.
    pub fn sealing(&self) -> Option<Sealing> {
        self.sealing.get()
    }

    /// A connection to `service` for conversation `C`: of packets if it runs on this node, of a byte stream if it is placed and runs on another one. Waits
    /// while the service restarts or moves (bounded by the bus).
    pub async fn open<C: Conversation>(&self, service: &str) -> Result<AsyncChannel, CallError> {
        let call = ConnectCall::Open {
            service: service.into(),
            conversation: C::NAME.into(),
        };
        self.channel(&call).await
    }

    /// A connection to `service` on another node for conversation `C`. The node is called as in the roster. Bounded in time by the bus.
    pub async fn open_on<C: Conversation>(
        &self,
        service: &str,
        node: &str,
    ) -> Result<AsyncChannel, CallError> {
        let call = ConnectCall::OpenOn {
            node: node.into(),
            service: service.into(),
            conversation: C::NAME.into(),
        };
        self.channel(&call).await
    }

    /// Over the transport that the bus says the connection has.
    async fn channel(&self, call: &ConnectCall) -> Result<AsyncChannel, CallError> {
        let (answer, descriptor) = self.opened(call).await?;
        let channel = match answer {
            ConnectAnswer::Opened => AsyncChannel::new(descriptor.into()),
            ConnectAnswer::OpenedAcross(sealing) => {
                self.sealing.set(Some(sealing));
                AsyncChannel::on_stream(descriptor)
            }
        };
        channel.map_err(|_| CallError::NotSent)
    }

    /// The listener that this process's manifest grants under `name`: for daemons, which the bus does not pack.
    pub async fn listen(&self, name: &str) -> Result<OwnedFd, CallError> {
        let name = name.into();
        self.ask(&ConnectCall::Listen { name }).await
    }

    /// A TCP connection to what the operator calls `name` among the addresses of this kind outside of the node. It does not block and may
    /// still be under way: see [`ConnectCall::Dial`]. To be shut down before it is closed.
    pub async fn dial(&self, kind: &str, name: &str) -> Result<OwnedFd, CallError> {
        let (kind, name) = (kind.into(), name.into());
        self.ask(&ConnectCall::Dial { kind, name }).await
    }

    async fn ask(&self, call: &ConnectCall) -> Result<OwnedFd, CallError> {
        Ok(self.opened(call).await?.1)
    }

    async fn opened(&self, call: &ConnectCall) -> Result<(ConnectAnswer, OwnedFd), CallError> {
        let (answer, mut descriptors) = self.client.call(call, &[]).await?;
        match (answer.map_err(CallError::Bus)?, descriptors.pop()) {
            (answer, Some(descriptor)) => Ok((answer, descriptor)),
            (_, None) => Err(CallError::Bus(BusError::Unknown)),
        }
    }
}

/// A service that is called for as long as this process lives: the bus is asked again whenever the connection ends, and so finds one that has moved to
/// another node.
pub struct Link<C: Conversation> {
    bus: Bus,
    service: &'static str,
    /// `None`: this one, or wherever the service is placed.
    node: Option<String>,
    current: Mutex<Option<Client<C>>>,
}

/// How often a harmless call is tried again before its caller hears of it.
const REPEATS_MAX: u32 = 5;

impl<C: Conversation> Link<C> {
    /// A link to `service`; the first call connects.
    pub fn new(bus: Bus, service: &'static str) -> Self {
        Self {
            bus,
            service,
            node: None,
            current: Mutex::new(None),
        }
    }

    /// A link to `service` on another node, which is called as in the roster; the first call connects.
    pub fn on(bus: Bus, service: &'static str, node: impl Into<String>) -> Self {
        Self {
            node: Some(node.into()),
            ..Self::new(bus, service)
        }
    }

    /// The present connection, or a new one. Whoever keeps state per connection (writers, pins) holds on to the client it began with.
    pub async fn client(&self) -> Result<Client<C>, CallError> {
        let mut current = self.current.lock().await;
        let usable = |client: &&Client<C>| !client.ended() && !client.is_worn();
        if let Some(client) = current.as_ref().filter(usable) {
            return Ok(client.clone());
        }
        let client = Client::over(match &self.node {
            None => self.bus.open::<C>(self.service).await?,
            Some(node) => self.bus.open_on::<C>(self.service, node).await?,
        });
        *current = Some(client.clone());
        Ok(client)
    }

    /// How many bytes have come over the present connection to another node, also those of an answer that is not whole yet: whether a call that takes long
    /// gets on.
    pub fn heard(&self) -> u64 {
        let current = self.current.try_lock().ok();
        current.map_or(0, |current| current.as_ref().map_or(0, Client::heard))
    }

    /// One call, on a new connection if the old one had ended. Never sent twice.
    pub async fn call(&self, call: &C::Call) -> Result<(C::Answer, Vec<OwnedFd>), CallError> {
        for _ in 0..REPEATS_MAX {
            match self.client().await?.call(call, &[]).await {
                Err(CallError::NotSent) => continue,
                other => return other,
            }
        }
        Err(CallError::NotSent)
    }

    /// One call that may be repeated without harm (every read): also sent again when the answer was lost.
    pub async fn repeat(&self, call: &C::Call) -> Result<(C::Answer, Vec<OwnedFd>), CallError> {
        let mut result = self.call(call).await;
        for _ in 1..REPEATS_MAX {
            match result {
                Err(CallError::Lost) => result = self.call(call).await,
                other => return other,
            }
        }
        result
    }
}
