//! A node for the tests: a bus with other nodes, a membership that answers what the test says, and the relay where the kernel does no TLS.

use crate::mesh::session::{Keys, Session};
use crate::mesh::{Identity, MeshError};
use crate::sockets;
use crate::tests::{Home, answer, come_in};
use protocol::Channel;
use protocol::bus::{Accept, BusError, Connect, ConnectCall, SupplyCall};
use protocol::channel::ReceiveBuffer;
use protocol::cluster::{ClusterId, GossipKey, NodeEntry, NodeKey, Roster, Standing};
use protocol::membership::{Membership, MembershipAnswer, MembershipCall};
use protocol::mesh::OpenRemote;
use protocol::start::{Order, Packed, Start};
use protocol::wire::Numbered;
use runtime::Given;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvFlags, SendFlags};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(super) struct Node {
    home: Home,
    pub(super) key: NodeKey,
    seed: [u8; 32],
    pub(super) name: String,
    /// Where its bus answers.
    pub(super) mesh: String,
    /// What its membership says when the bus asks for the roster.
    told: Arc<Mutex<MembershipAnswer>>,
    /// The streams that the bus has brought its membership.
    pub(super) joins: Receiver<OwnedFd>,
    relay: Option<Channel>,
    pub(super) metadata: BTreeMap<String, Channel>,
}

impl Node {
    pub(super) fn start(name: &str, seed: u8) -> Self {
        Self::start_with(name, seed, &[])
    }

    /// With services of its own: the files and texts of their manifests.
    pub(super) fn start_with(name: &str, seed: u8, guests: &[(&str, &str)]) -> Self {
        let seed = [seed; 32];
        let mut home = Home::start_meshed(seed, guests);
        let told = Arc::new(Mutex::new(MembershipAnswer::Roster(None)));
        let (addresses, address) = channel();
        let (brings, joins) = channel();
        let (_, connection) = come_in(&home.membership);
        let says = told.clone();
        std::thread::spawn(move || membership(&connection, &says, &addresses, &brings));
        let metadata = home.pack("metadata");
        let mut node = Self {
            key: Identity::from_seed(&seed).unwrap().key(),
            home,
            seed,
            name: name.into(),
            mesh: address.recv().unwrap(),
            told,
            joins,
            relay: None,
            metadata,
        };
        node.start_relay();
        node
    }

    /// The relay in a thread. One that ran before sees its supervisor go, and ends.
    pub(super) fn start_relay(&mut self) {
        let door = self.home.pack("relay").remove("door").unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let packed = Packed {
            service: "relay".into(),
            grants: vec!["door".into()],
            settings: vec![],
        };
        ours.send_message::<Start>(&Order::Packed(packed), &[door.as_fd()], SendFlags::empty())
            .unwrap();
        drop(door);
        std::thread::spawn(move || relay::run(Given::over(theirs).unwrap()));
        self.relay = Some(ours);
    }

    /// Ends the relay as a crash would.
    pub(super) fn kill_relay(&mut self) {
        self.relay = None;
    }

    pub(super) fn restart_metadata(&mut self) {
        self.metadata = self.home.pack("metadata");
    }

    /// What a service is given that starts now.
    pub(super) fn pack(&mut self, service: &str) -> BTreeMap<String, Channel> {
        self.home.pack(service)
    }

    /// What the orchestrator has to say.
    pub(super) fn supply(&mut self, call: SupplyCall) {
        self.home.supply(call).0.unwrap();
    }

    /// A service's own channel to the bus.
    pub(super) fn bus_of(&mut self, service: &str) -> Channel {
        self.home.pack(service).remove("bus").unwrap()
    }

    pub(super) fn entry(&self) -> NodeEntry {
        NodeEntry {
            key: self.key,
            gossip_key: GossipKey([0; 32]),
            name: self.name.clone(),
            zone: "z".into(),
            capacity_bytes: 0,
            mesh: self.mesh.clone(),
            gossip: String::new(),
            standing: Standing::Member,
        }
    }

    /// Its membership knows this from now on; the bus asks within a second or so.
    pub(super) fn tell(&self, answer: MembershipAnswer) {
        *self.told.lock().unwrap() = answer;
    }

    pub(super) fn ask_on(&self, node: &str, service: &str, conversation: &str) {
        ask_on(&self.metadata["bus"], node, service, conversation);
    }

    /// As metadata of this node: a stream to a service of another.
    pub(super) fn open_on(
        &self,
        node: &str,
        service: &str,
        conversation: &str,
    ) -> Result<UnixStream, BusError> {
        self.ask_on(node, service, conversation);
        answer(&self.metadata["bus"]).map(blocking)
    }

    /// The same, asked again until the node is known and answers.
    pub(super) fn open_when_there(&self, node: &str) -> UnixStream {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            match self.open_on(node, "metadata", "peers") {
                Ok(stream) => return stream,
                Err(error) if Instant::now() > limit => panic!("{node}: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Who has come to this node's metadata.
    pub(super) fn welcome(&self) -> (Accept, UnixStream) {
        let (accept, socket) = come_in(&self.metadata["door"]);
        (accept, blocking(socket))
    }

    /// Says what it likes to another bus, as this node.
    pub(super) fn say_to(&self, mesh: &str, key: NodeKey, open: [&str; 3]) -> Said {
        say_as(self.seed, mesh, key, open)
    }
}

pub(super) type Said = Result<Result<(OwnedFd, Keys), BusError>, MeshError>;

/// A bus of these keys that asks for whatever it is told to.
pub(super) fn say_as(seed: [u8; 32], mesh: &str, key: NodeKey, open: [&str; 3]) -> Said {
    let identity = Identity::from_seed(&seed).unwrap();
    let address: SocketAddr = mesh.parse().unwrap();
    let socket = sockets::dial(address).unwrap();
    while !sockets::is_connected(socket.as_fd()).unwrap() {}
    let mut session = Session::new(socket, identity.dial(key)?);
    let [client, service, conversation] = open.map(str::to_owned);
    session.say(&OpenRemote {
        client,
        service,
        conversation,
    })?;
    loop {
        if let Some(answer) = session.hear::<Result<(), BusError>>()? {
            return match answer {
                Ok(()) => session.into_keys().map(Ok),
                Err(refused) => Ok(Err(refused)),
            };
        }
        let wants = session.wants();
        let mut set = [PollFd::from_borrowed_fd(session.as_fd(), wants)];
        poll(&mut set, None).unwrap();
        assert!(!set[0].revents().contains(PollFlags::NVAL));
    }
}

pub(super) fn ask_on(bus: &Channel, node: &str, service: &str, conversation: &str) {
    let body = ConnectCall::OpenOn {
        node: node.into(),
        service: service.into(),
        conversation: conversation.into(),
    };
    bus.send_message::<Connect>(&Numbered { id: 7, body }, &[], SendFlags::empty())
        .unwrap();
}

pub(super) fn blocking(socket: Channel) -> UnixStream {
    let stream = UnixStream::from(socket.into_socket());
    stream.set_nonblocking(false).unwrap();
    stream
}

/// All of these belong.
pub(super) fn roster(version: u64, nodes: Vec<NodeEntry>) -> MembershipAnswer {
    MembershipAnswer::Roster(Some(Roster {
        cluster: ClusterId([1; 16]),
        version,
        nodes,
    }))
}

/// Two nodes that know each other.
pub(super) fn two() -> (Node, Node) {
    let (a, b) = (Node::start("a", 1), Node::start("b", 2));
    for node in [&a, &b] {
        node.tell(roster(1, vec![a.entry(), b.entry()]));
    }
    (a, b)
}

/// Answers the bus until it has gone.
fn membership(
    connection: &Channel,
    says: &Mutex<MembershipAnswer>,
    addresses: &Sender<String>,
    brings: &Sender<OwnedFd>,
) {
    let mut buffer = ReceiveBuffer::new();
    loop {
        let call = connection.receive_message::<Membership, Numbered<MembershipCall>>(
            &mut buffer,
            RecvFlags::empty(),
        );
        let Ok(Some((Numbered { id, body }, descriptors))) = call else {
            return;
        };
        let body = match body {
            MembershipCall::Use { mesh, .. } => {
                let _ = addresses.send(mesh);
                MembershipAnswer::Using
            }
            MembershipCall::Join => {
                descriptors
                    .into_iter()
                    .for_each(|one| drop(brings.send(one)));
                MembershipAnswer::Using
            }
            MembershipCall::Roster { newer_than } => match says.lock().unwrap().clone() {
                MembershipAnswer::Roster(roster) => {
                    MembershipAnswer::Roster(roster.filter(|roster| roster.version > newer_than))
                }
                other => other,
            },
            _ => MembershipAnswer::Refused,
        };
        let answer = Numbered { id, body };
        let _ = connection.send_message::<Membership>(&answer, &[], SendFlags::empty());
    }
}
