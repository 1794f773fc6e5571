//! A front end in this process with everything around it played by the test: supervisor, bus,
//! metadata, block-store.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a test that fails may panic; each test file uses a part of this"
)]

pub mod blocks;
pub mod client;
pub mod metadata;

use blocks::BlockState;
use metadata::MetadataState;
use protocol::bus::{BusError, Connect, ConnectAnswer, ConnectCall};
use protocol::channel::ReceiveBuffer;
use protocol::start::{Order, Packed, Say, Start};
use protocol::wire::{Conversation, Numbered};
use protocol::{Channel, wire};
use runtime::{AsyncChannel, Given};
use rustix::net::{RecvFlags, SendFlags};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub const REGION: &str = "us-east-1";
pub const ROOT_KEY: &str = "AKROOTROOTROOTROOT00";
pub const ROOT_SECRET: &str = "root-secret-root-secret-root-secret-0000";
/// As the operator has named them.
pub const WEBHOOKS: &str = "hook other.hook";

/// What the fakes do wrong on request.
#[derive(Default)]
pub struct Faults {
    /// Metadata does the next write and hangs up instead of answering.
    pub lose_metadata_write: AtomicBool,
    /// Metadata hangs up instead of doing the next read.
    pub lose_metadata_read: AtomicBool,
    /// The block-store hangs up with the next Commit.
    pub lose_commit: AtomicBool,
    /// The block-store hangs up with the next Create or Store.
    pub lose_beginning: AtomicBool,
    /// The block-store has no room.
    pub full: AtomicBool,
    /// Nor for blocks that it would have to get from another node.
    pub packed: AtomicBool,
    /// Metadata holds back answers to PutObject until this is false again.
    pub hold_puts: AtomicBool,
    /// How many it has held back.
    pub puts_held: AtomicUsize,
}

impl Faults {
    pub fn take(fault: &AtomicBool) -> bool {
        fault.swap(false, Ordering::SeqCst)
    }
}

pub struct House {
    pub address: SocketAddr,
    pub metadata: Arc<Mutex<MetadataState>>,
    pub blocks: Arc<Mutex<BlockState>>,
    pub faults: Arc<Faults>,
    supervisor: Channel,
    frontend: Option<JoinHandle<Result<(), s3_frontend::Error>>>,
}

impl House {
    /// A front end that is ready, with a root key.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (supervisor, theirs) = Channel::pair().unwrap();
        let (bus, granted_bus) = Channel::pair().unwrap();
        let packed = Packed {
            service: "s3-frontend".into(),
            grants: vec!["s3".into(), "bus".into()],
            settings: vec![
                ("region".into(), REGION.into()),
                ("host".into(), "localhost,s3.localhost".into()),
                ("webhooks".into(), WEBHOOKS.into()),
            ],
        };
        let descriptors = [listener.as_fd(), granted_bus.as_fd()];
        supervisor
            .send_message::<Start>(&Order::Packed(packed), &descriptors, SendFlags::empty())
            .unwrap();
        let faults = Arc::new(Faults::default());
        let metadata = Arc::new(Mutex::new(MetadataState::new()));
        let blocks = Arc::new(Mutex::new(BlockState::new()));
        let state = (metadata.clone(), blocks.clone(), faults.clone());
        std::thread::spawn(move || play_bus(bus, state));
        let frontend = std::thread::Builder::new()
            .name("frontend".into())
            .spawn(move || s3_frontend::run(Given::over(theirs).unwrap()))
            .unwrap();
        let house = Self {
            address,
            metadata,
            blocks,
            faults,
            supervisor,
            frontend: Some(frontend),
        };
        let ready = house
            .supervisor
            .receive_message::<Start, Say>(&mut ReceiveBuffer::new(), RecvFlags::empty());
        assert!(
            matches!(ready, Ok(Some((Say::Ready { .. }, _)))),
            "{ready:?}"
        );
        house
    }

    /// A client with the root key.
    pub fn client(&self) -> client::Client {
        client::Client::new(self.address, ROOT_KEY, ROOT_SECRET)
    }

    /// Waits for the next sign of life.
    pub fn alive(&self) -> bool {
        let said = self
            .supervisor
            .receive_message::<Start, Say>(&mut ReceiveBuffer::new(), RecvFlags::empty());
        matches!(said, Ok(Some((Say::Alive, _))))
    }

    /// Stops it as a supervisor does.
    pub fn stop(mut self) -> Result<(), s3_frontend::Error> {
        self.supervisor
            .send_message::<Start>(&Order::Stop, &[], SendFlags::empty())
            .unwrap();
        self.frontend.take().unwrap().join().unwrap()
    }

    /// Waits until as many PutObject have come to metadata and are held back there.
    pub fn until_held(&self, puts: usize) {
        self.eventually("the command has come to metadata", |house| {
            house.faults.puts_held.load(Ordering::SeqCst) == puts
        });
    }

    /// Waits until `holds`, for at most a minute.
    pub fn eventually(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..6000 {
            if holds(self) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("never: {what}");
    }
}

type State = (
    Arc<Mutex<MetadataState>>,
    Arc<Mutex<BlockState>>,
    Arc<Faults>,
);

/// Makes connections, as the bus does, and serves them itself.
fn play_bus(bus: Channel, (metadata, blocks, faults): State) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .unwrap();
    runtime.block_on(async move {
        let bus = AsyncChannel::new(bus).unwrap();
        while let Ok(Some(packet)) = bus.receive().await {
            let Numbered { id, body } =
                wire::decode::<Connect, Numbered<ConnectCall>>(&packet.bytes).unwrap();
            let ConnectCall::Open { service, .. } = body else {
                panic!("the frontend's listener is packed");
            };
            let (ours, theirs) = Channel::pair().unwrap();
            let known = match service.as_str() {
                "metadata" => {
                    let (state, faults) = (metadata.clone(), faults.clone());
                    tokio::task::spawn_local(metadata::serve(ours, state, faults));
                    true
                }
                "block-store" => {
                    let (state, faults) = (blocks.clone(), faults.clone());
                    tokio::task::spawn_local(blocks::serve(ours, state, faults));
                    true
                }
                _ => false,
            };
            let answer = if known {
                Ok(ConnectAnswer::Opened)
            } else {
                Err(BusError::Unknown)
            };
            let bytes = wire::encode::<Connect>(&Numbered { id, body: answer }).unwrap();
            bus.send(&bytes, &[theirs.as_fd()]).await.unwrap();
        }
    });
}

/// Answers the calls of one connection, concurrently, until it ends or `answer` says to hang up
/// (`None`).
pub async fn serve_channel<C: Conversation, F>(
    channel: Channel,
    answer: impl Fn(C::Call) -> F + 'static,
) where
    F: Future<Output = Option<(C::Answer, Vec<OwnedFd>)>> + 'static,
{
    let channel = Rc::new(AsyncChannel::new(channel).unwrap());
    let (hang_up, mut hung_up) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        let packet = tokio::select! {
            packet = channel.receive() => packet,
            _ = hung_up.recv() => return,
        };
        let Ok(Some(packet)) = packet else { return };
        let Numbered { id, body } = wire::decode::<C, Numbered<C::Call>>(&packet.bytes).unwrap();
        let (answered, channel, hang_up) = (answer(body), channel.clone(), hang_up.clone());
        tokio::task::spawn_local(async move {
            match answered.await {
                Some((body, descriptors)) => {
                    let lent: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
                    let bytes = wire::encode::<C>(&Numbered { id, body }).unwrap();
                    let _ = channel.send(&bytes, &lent).await;
                }
                None => drop(hang_up.send(()).await),
            }
        });
    }
}
