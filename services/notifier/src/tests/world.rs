//! Everybody that the notifier meets: a bus, metadata with events that wait, and webhooks that answer as a test wants it.

use crate::telling::{Pace, Telling};
use crate::webhook;
use protocol::Channel;
use protocol::bus::{BusError, Connect, ConnectAnswer, ConnectCall};
use protocol::metadata::{
    Answer, Call, EVENTS_PAGE_MAX, Event, EventId, EventKind, Metadata, Operation, Reply,
};
use protocol::wire::{self, Conversation, Numbered};
use runtime::{AsyncChannel, Bus, Link};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Nothing in a test may depend on how fast this is; only what a test is about is bounded tightly.
pub(super) fn pace() -> Pace {
    Pace {
        idle: Duration::from_millis(5),
        back_off: Duration::from_millis(2),
        back_off_max: Duration::from_millis(20),
        answer_within: Duration::from_secs(120),
        drain_within: Duration::from_secs(120),
        forget_every: Duration::from_secs(1),
    }
}

/// What metadata and the bus know.
#[derive(Default)]
pub(super) struct World {
    /// Events that wait, by webhook.
    waiting: RefCell<BTreeMap<String, BTreeMap<EventId, Event>>>,
    /// How often metadata was told to forget something.
    pub(super) forgotten: Cell<u32>,
    /// Metadata hangs up on its next calls, after it has done what it was asked.
    pub(super) hangs_up: Cell<u32>,
    addresses: RefCell<BTreeMap<String, SocketAddr>>,
    /// Connections out of the node that were asked for.
    pub(super) dialled: Cell<u32>,
}

impl World {
    /// Adds a webhook, and events for it: `count` in each of `shards`, named by shard and number.
    pub(super) fn expect(&self, name: &str, address: SocketAddr, shards: u32, count: u64) {
        self.addresses.borrow_mut().insert(name.into(), address);
        for (shard, number) in (0..shards).flat_map(|shard| (0..count).map(move |n| (shard, n))) {
            self.happens(name, EventId { shard, number });
        }
    }

    pub(super) fn happens(&self, name: &str, id: EventId) {
        let event = Event {
            kind: EventKind::Put,
            rule: "rule".into(),
            bucket: "bucket".into(),
            key: format!("{}/{}", id.shard, id.number),
            version: None,
            created: Some((id.number, "etag".into())),
            at_ms: 0,
        };
        let mut waiting = self.waiting.borrow_mut();
        waiting.entry(name.into()).or_default().insert(id, event);
    }

    pub(super) fn waits(&self, name: &str) -> usize {
        self.waiting.borrow().get(name).map_or(0, BTreeMap::len)
    }

    /// A notifier of one webhook, whose requests have these credentials (`-`: none).
    pub(super) fn start(
        self: &Rc<Self>,
        name: &str,
        credentials: &str,
        pace: Pace,
    ) -> JoinHandle<()> {
        let line = format!("{name} hook.example:81 /events?a=b {credentials}");
        let webhook = webhook::parse(&line).unwrap().pop().unwrap();
        let bus = self.bus();
        let metadata = Rc::new(Link::new(bus.clone(), "metadata"));
        let telling = Telling::new(webhook, "us-east-1", bus, metadata, pace);
        tokio::task::spawn_local(telling.go_on())
    }

    fn bus(self: &Rc<Self>) -> Bus {
        let world = self.clone();
        let channel = serve::<Connect>(move |call| {
            let opened = |socket: OwnedFd| (Some(Ok(ConnectAnswer::Opened)), Some(socket));
            match call {
                ConnectCall::Open { service, .. } if service == "metadata" => {
                    opened(world.metadata().into_socket())
                }
                ConnectCall::Dial { kind, name } if kind == "webhook" => {
                    world.dialled.set(world.dialled.get() + 1);
                    let address = world.addresses.borrow()[&name];
                    opened(dial(address))
                }
                _ => (Some(Err(BusError::Denied)), None),
            }
        });
        Bus::new(channel).unwrap()
    }

    fn metadata(self: &Rc<Self>) -> Channel {
        let world = self.clone();
        serve::<Metadata>(move |call: Call| {
            let reply = world.answer(call.operation);
            let left = world.hangs_up.get();
            world.hangs_up.set(left.saturating_sub(1));
            let answer = Answer {
                revision: 1,
                result: Ok(reply),
            };
            ((left == 0).then_some(answer), None)
        })
    }

    fn answer(&self, operation: Operation) -> Reply {
        let mut all = self.waiting.borrow_mut();
        match operation {
            Operation::NextEvents { webhook } => {
                let waiting = all.entry(webhook).or_default();
                let events = waiting.iter().take(EVENTS_PAGE_MAX);
                let events = events.map(|(id, event)| (*id, event.clone()));
                Reply::Events {
                    events: events.collect(),
                    lost: 0,
                }
            }
            Operation::ForgetEvents { webhook, events } => {
                assert!(!events.is_empty() && events.len() <= EVENTS_PAGE_MAX);
                self.forgotten.set(self.forgotten.get() + 1);
                let told = |id: &EventId| {
                    let mut events = events.iter();
                    events.any(|last| last.shard == id.shard && id.number <= last.number)
                };
                all.entry(webhook).or_default().retain(|id, _| !told(id));
                Reply::Done
            }
            other => panic!("the notifier has no business with {other:?}"),
        }
    }
}

/// Answers a conversation; without an answer it hangs up.
fn serve<C: Conversation>(
    answer: impl Fn(C::Call) -> (Option<C::Answer>, Option<OwnedFd>) + 'static,
) -> Channel {
    let (ours, theirs) = Channel::pair().unwrap();
    let channel = AsyncChannel::new(ours).unwrap();
    tokio::task::spawn_local(async move {
        while let Ok(Some(packet)) = channel.receive().await {
            let Numbered { id, body } =
                wire::decode::<C, Numbered<C::Call>>(&packet.bytes).unwrap();
            let (Some(body), descriptor) = answer(body) else {
                return;
            };
            let bytes = wire::encode::<C>(&Numbered { id, body }).unwrap();
            let lent: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
            channel.send(&bytes, &lent).await.unwrap();
        }
    });
    theirs
}

/// As the bus does it.
fn dial(address: SocketAddr) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => socket,
        Err(errno) => panic!("{errno}"),
    }
}

/// How a webhook answers a request.
#[derive(Clone, Copy)]
pub(super) enum Way {
    /// With this status; what is 2xx counts as taken.
    Status(u16),
    /// 200, after a while.
    Late(Duration),
    /// 200, and hangs up without having said so.
    HangUp,
    /// Hangs up instead.
    NoAnswer,
    /// 200, and a body without end.
    Endless,
    /// Not at all, as long as the connection lives.
    Never,
}

/// A request, as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) head: String,
    pub(super) body: Value,
}

impl Asked {
    pub(super) fn key(&self) -> String {
        self.body["Records"][0]["s3"]["object"]["key"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// An HTTP server, of which a test says how it answers the request of each number.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    pub(super) taken: Rc<RefCell<Vec<Asked>>>,
    /// Requests, taken or not.
    pub(super) asked: Rc<Cell<usize>>,
    pub(super) connections: Rc<Cell<usize>>,
}

impl Receiver {
    pub(super) async fn start(way: impl Fn(usize) -> Way + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            taken: Rc::default(),
            asked: Rc::default(),
            connections: Rc::default(),
        };
        let (taken, asked) = (receiver.taken.clone(), receiver.asked.clone());
        let connections = receiver.connections.clone();
        let way = Rc::new(way);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.set(connections.get() + 1);
                let (way, taken, asked) = (way.clone(), taken.clone(), asked.clone());
                tokio::task::spawn_local(async move {
                    let _ = converse(stream, &*way, &taken, &asked).await;
                });
            }
        });
        receiver
    }

    /// Waits until so many were taken.
    pub(super) async fn has_taken(&self, count: usize) {
        while self.taken.borrow().len() < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.taken.borrow().iter().map(Asked::key).collect()
    }
}

async fn converse(
    mut stream: TcpStream,
    way: &dyn Fn(usize) -> Way,
    taken: &RefCell<Vec<Asked>>,
    count: &Cell<usize>,
) -> std::io::Result<()> {
    loop {
        let Some(asked) = request(&mut stream).await? else {
            return Ok(());
        };
        let way = way(count.get());
        count.set(count.get() + 1);
        if matches!(
            way,
            Way::Status(200..=299) | Way::Late(_) | Way::HangUp | Way::Endless
        ) {
            taken.borrow_mut().push(asked);
        }
        match way {
            Way::Status(status) => {
                let rest = if status == 204 {
                    "\r\n"
                } else {
                    "content-length: 5\r\n\r\nhello"
                };
                let answer = format!("HTTP/1.1 {status} x\r\n{rest}");
                stream.write_all(answer.as_bytes()).await?;
            }
            Way::Late(after) => {
                tokio::time::sleep(after).await;
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await?;
            }
            Way::HangUp => {
                return stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
            Way::NoAnswer => return Ok(()),
            Way::Endless => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                    .await?;
                loop {
                    stream.write_all(b"5\r\nhello\r\n").await?;
                }
            }
            Way::Never => {
                // Its end is seen all the same.
                let _ = stream.read(&mut [0]).await?;
                return Ok(());
            }
        }
    }
}

async fn request(stream: &mut TcpStream) -> std::io::Result<Option<Asked>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.unwrap().parse().unwrap();
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    assert_eq!(bytes.len(), end + length, "one request at a time");
    let body = serde_json::from_slice(&bytes[end..]).unwrap();
    Ok(Some(Asked { head, body }))
}
