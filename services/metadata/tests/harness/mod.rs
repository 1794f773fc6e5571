//! The whole service in a thread, with a supervisor, a bus and a block-store made by the test.

pub mod membership;

use membership::FakeMembership;
use metadata::{Clock, Error};
use protocol::Channel;
use protocol::block::{
    BlockAnswer, BlockCall, BlockError, BlockId, BlockRef, Blocks, Place, Usage,
};
use protocol::bus::{Accept, BusError, Connect, ConnectAnswer, ConnectCall, Door, Origin};
use protocol::channel::ReceiveBuffer;
use protocol::metadata::{Answer, Call, Metadata, MetadataError, Operation, Reply};
use protocol::start::{Order, Packed, Say, Start};
use protocol::wire::{Conversation, Numbered};
use rustix::net::{RecvFlags, SendFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One running service.
pub struct Home {
    supervisor: Channel,
    door: Channel,
    service: Option<JoinHandle<Result<(), Error>>>,
    pub blocks: Arc<FakeBlocks>,
    /// Added to the service's clock.
    pub ahead_ms: Arc<AtomicU64>,
}

fn receive<C: Conversation, T: serde::de::DeserializeOwned>(channel: &Channel) -> Option<T> {
    let mut buffer = ReceiveBuffer::new();
    let message = channel
        .receive_message::<C, T>(&mut buffer, RecvFlags::empty())
        .ok()??;
    Some(message.0)
}

impl Home {
    pub fn start(directory: &Path) -> Self {
        Self::start_with(directory, Arc::new(FakeBlocks::default()))
    }

    pub fn start_with(directory: &Path, blocks: Arc<FakeBlocks>) -> Self {
        let members = FakeMembership::of(membership::node(1), None);
        Self::start_as(directory, blocks, members, true)
    }

    /// The first node of a cluster, or one that joins another's.
    pub fn start_as(
        directory: &Path,
        blocks: Arc<FakeBlocks>,
        members: Arc<FakeMembership>,
        founder: bool,
    ) -> Self {
        let (supervisor, start) = Channel::pair().unwrap();
        let (door, given_door) = Channel::pair().unwrap();
        let (bus, given_bus) = Channel::pair().unwrap();
        let packed = Packed {
            service: "metadata".into(),
            grants: vec!["door".into(), "bus".into()],
            settings: vec![
                ("node".into(), "n1".into()),
                ("node_key".into(), membership::key(1).to_string()),
                ("founder".into(), if founder { "yes" } else { "no" }.into()),
                ("shards".into(), "4".into()),
                ("copies".into(), String::new()),
            ],
        };
        let descriptors = [given_door.as_fd(), given_bus.as_fd()];
        supervisor
            .send_message::<Start>(&Order::Packed(packed), &descriptors, SendFlags::empty())
            .unwrap();
        drop((given_door, given_bus));
        let ahead_ms = Arc::new(AtomicU64::new(0));
        let service = {
            let (directory, ahead_ms) = (directory.to_owned(), ahead_ms.clone());
            std::thread::spawn(move || {
                let clock: Clock =
                    Rc::new(move || 1_800_000_000_000 + ahead_ms.load(Ordering::SeqCst));
                let ended =
                    metadata::run_in(runtime::Given::over(start).unwrap(), &directory, clock);
                if let Err(error) = &ended {
                    eprintln!("service ended: {error}; {error:?}");
                }
                ended
            })
        };
        let store = blocks.clone();
        std::thread::spawn(move || serve_bus(&bus, &store, &members));
        assert!(matches!(
            receive::<Start, Say>(&supervisor),
            Some(Say::Ready { .. })
        ));
        Self {
            supervisor,
            door,
            service: Some(service),
            blocks,
            ahead_ms,
        }
    }

    /// Stops it as its supervisor does.
    pub fn stop(mut self) {
        self.supervisor
            .send_message::<Start>(&Order::Stop, &[], SendFlags::empty())
            .unwrap();
        self.service.take().unwrap().join().unwrap().unwrap();
    }

    pub fn connect(&self) -> Client {
        self.connect_as("test")
    }

    /// The same as the service of that name.
    pub fn connect_as(&self, client: &str) -> Client {
        let (ours, theirs) = Channel::pair().unwrap();
        let accept = Accept {
            client: client.into(),
            conversation: "metadata".into(),
            origin: Origin::Here,
        };
        self.door
            .send_message::<Door>(&accept, &[theirs.as_fd()], SendFlags::empty())
            .unwrap();
        Client {
            channel: ours,
            next: 0,
            buffer: ReceiveBuffer::new(),
        }
    }

    pub fn pass_time(&self, ms: u64) {
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

/// A caller that waits for each answer, or not.
pub struct Client {
    channel: Channel,
    next: u32,
    buffer: ReceiveBuffer,
}

impl Client {
    /// Sends a call and answers its number.
    pub fn send(&mut self, revision: u64, operation: impl Into<Operation>) -> u32 {
        self.next += 1;
        let message = Numbered {
            id: self.next,
            body: Call {
                revision,
                operation: operation.into(),
            },
        };
        self.channel
            .send_message::<Metadata>(&message, &[], SendFlags::empty())
            .unwrap();
        self.next
    }

    /// The next answer, whosever it is.
    pub fn receive(&mut self) -> (u32, Answer) {
        let answer: Numbered<Answer> = self
            .channel
            .receive_message::<Metadata, _>(&mut self.buffer, RecvFlags::empty())
            .unwrap()
            .expect("the connection has ended")
            .0;
        (answer.id, answer.body)
    }

    pub fn answer(&mut self, revision: u64, operation: impl Into<Operation>) -> Answer {
        let id = self.send(revision, operation);
        let (answered, answer) = self.receive();
        assert_eq!(answered, id);
        answer
    }

    pub fn call(&mut self, operation: impl Into<Operation>) -> Result<Reply, MetadataError> {
        self.answer(0, operation).result
    }
}

fn serve_bus(bus: &Channel, store: &Arc<FakeBlocks>, members: &Arc<FakeMembership>) {
    while let Some(Numbered { id, body }) = receive::<Connect, Numbered<ConnectCall>>(bus) {
        let (service, conversation) = match body {
            ConnectCall::Open {
                service,
                conversation,
            } => (service, conversation),
            ConnectCall::OpenOn { .. } => {
                let alone: <Connect as Conversation>::Answer =
                    Err(BusError::Unreachable("no other node runs".into()));
                let answer = Numbered { id, body: alone };
                if bus
                    .send_message::<Connect>(&answer, &[], SendFlags::empty())
                    .is_err()
                {
                    return;
                }
                continue;
            }
            other => panic!("metadata has no business with {other:?}"),
        };
        if service == "orchestrator" {
            let body: <Connect as Conversation>::Answer = Err(BusError::Unavailable);
            let answer = Numbered { id, body };
            let sent = bus.send_message::<Connect>(&answer, &[], SendFlags::empty());
            if sent.is_err() {
                return;
            }
            continue;
        }
        let of_members = (service.as_str(), conversation.as_str()) == ("membership", "members");
        assert!(
            of_members || (service.as_str(), conversation.as_str()) == ("block-store", "blocks")
        );
        let (ours, theirs) = Channel::pair().unwrap();
        let away = store.state.lock().unwrap().away && !of_members;
        let (body, descriptors): (<Connect as Conversation>::Answer, _) = match away {
            true => (Err(BusError::Unavailable), Vec::new()),
            false => (Ok(ConnectAnswer::Opened), vec![theirs.as_fd()]),
        };
        if of_members {
            let members = members.clone();
            std::thread::spawn(move || members.serve(&ours));
        } else if !away {
            let store = store.clone();
            std::thread::spawn(move || store.serve(&ours));
        }
        let answer = Numbered { id, body };
        if bus
            .send_message::<Connect>(&answer, &descriptors, SendFlags::empty())
            .is_err()
        {
            return;
        }
    }
}

/// A block-store that keeps names only, and can be told to be slow, full or away.
#[derive(Default)]
pub struct FakeBlocks {
    pub state: Mutex<FakeState>,
    changed: Condvar,
}

#[derive(Default)]
pub struct FakeState {
    /// Every block, and whether it is condemned.
    pub blocks: BTreeMap<BlockRef, bool>,
    pub pinned: BTreeSet<BlockRef>,
    /// Deletes wait until this is false; they count themselves while they wait.
    pub hold_deletes: bool,
    pub deletes_held: usize,
    pub nearly_full: bool,
    /// Ends its connections, and the bus gives no new one.
    pub away: bool,
}

pub fn block(number: u32) -> BlockRef {
    let mut id = [0; 32];
    id[28..].copy_from_slice(&number.to_be_bytes());
    BlockRef {
        id: BlockId(id),
        length: 1 << 20,
        place: Place::File,
    }
}

impl FakeBlocks {
    /// The block is there, as after a commit: a mark is lifted.
    pub fn commit(&self, number: u32) -> BlockRef {
        self.state
            .lock()
            .unwrap()
            .blocks
            .insert(block(number), false);
        block(number)
    }

    pub fn change(&self, change: impl FnOnce(&mut FakeState)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    pub fn wait(&self, until: impl Fn(&FakeState) -> bool) {
        let limit = Instant::now() + Duration::from_secs(20);
        let mut state = self.state.lock().unwrap();
        while !until(&state) {
            assert!(Instant::now() < limit, "waited too long");
            state = self
                .changed
                .wait_timeout(state, Duration::from_millis(50))
                .unwrap()
                .0;
        }
    }

    pub fn numbers(&self) -> Vec<u8> {
        self.state
            .lock()
            .unwrap()
            .blocks
            .keys()
            .map(|block| block.id.0[31])
            .collect()
    }

    fn serve(&self, channel: &Channel) {
        while let Some(Numbered { id, body }) = receive::<Blocks, Numbered<BlockCall>>(channel) {
            if self.state.lock().unwrap().away {
                return;
            }
            let body = self.answer(body);
            let answer = Numbered { id, body };
            if channel
                .send_message::<Blocks>(&answer, &[], SendFlags::empty())
                .is_err()
            {
                return;
            }
        }
    }

    fn answer(&self, call: BlockCall) -> Result<BlockAnswer, BlockError> {
        let mut state = self.state.lock().unwrap();
        match call {
            BlockCall::Condemn { blocks } => Ok(BlockAnswer::Condemned {
                blocks: blocks
                    .into_iter()
                    .filter(|block| state.condemn(block))
                    .collect(),
                next: None,
                since: None,
            }),
            BlockCall::CondemnStrays => Ok(BlockAnswer::Condemned {
                blocks: Vec::new(),
                next: None,
                since: None,
            }),
            BlockCall::CondemnNext { after, limit } => {
                let behind = |block: &BlockRef| after.is_none_or(|after| *block > after);
                let page: Vec<BlockRef> = state
                    .blocks
                    .keys()
                    .copied()
                    .filter(behind)
                    .take(limit as usize)
                    .collect();
                let next = page
                    .last()
                    .copied()
                    .filter(|_| page.len() == limit as usize);
                let blocks = page
                    .into_iter()
                    .filter(|block| state.condemn(block))
                    .collect();
                let since = None;
                Ok(BlockAnswer::Condemned {
                    blocks,
                    next,
                    since,
                })
            }
            BlockCall::Delete { blocks } => {
                while state.hold_deletes {
                    state.deletes_held += 1;
                    self.changed.notify_all();
                    state = self.changed.wait(state).unwrap();
                    state.deletes_held = 0;
                }
                let deleted: Vec<BlockRef> = blocks
                    .into_iter()
                    .filter(|block| state.blocks.get(block) == Some(&true))
                    .collect();
                for block in &deleted {
                    state.blocks.remove(block);
                }
                self.changed.notify_all();
                Ok(BlockAnswer::Deleted(deleted))
            }
            BlockCall::Open { block, .. } => match state.blocks.contains_key(&block) {
                true => Ok(BlockAnswer::Bytes(vec![0])),
                false => Err(BlockError::NoSuchBlock),
            },
            BlockCall::Usage => Ok(BlockAnswer::Usage(Usage {
                capacity_bytes: 1_000,
                free_bytes: if state.nearly_full { 10 } else { 500 },
                files: state.blocks.len() as u64,
                packs: 0,
                damaged: 0,
                behind: 0,
                settled: 0,
            })),
            other => panic!("metadata does not ask for {other:?}"),
        }
    }
}

impl FakeState {
    fn condemn(&mut self, block: &BlockRef) -> bool {
        if self.pinned.contains(block) {
            return false;
        }
        match self.blocks.get_mut(block) {
            Some(condemned) => {
                *condemned = true;
                true
            }
            None => false,
        }
    }
}
