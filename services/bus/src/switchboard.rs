//! The bus's loop: who asks for whom, who has gone, and which connections end with them.

use crate::Error;
use crate::across::{Others, RELAY};
use crate::connections::Connections;
use crate::doors::Doors;
use crate::placed::Placed;
use crate::sockets::{self, Sockets};
use manifests::{Kind, Policy};
use protocol::Channel;
use protocol::bus::{
    Accept, BusError, CONNECT_WAIT_MS, CONNECTIONS_MAX, Connect, ConnectAnswer, ConnectCall, Door,
    Origin, Supply, SupplyAnswer, SupplyCall,
};
use protocol::channel::ReceiveBuffer;
use protocol::membership::{Membership, MembershipAnswer, MembershipCall};
use protocol::mesh::OpenRemote;
use protocol::start::{HEARTBEAT_MS, Order};
use protocol::trace::Side;
use protocol::wire::{Conversation, Numbered};
use runtime::{Supervisor, trace};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// So many calls of one client are answered in a turn, so that one that floods cannot keep the others waiting.
const CALLS_PER_TURN_MAX: usize = 16;
/// The most calls of one client that wait for a server to come back.
const WAITING_MAX: usize = 64;

/// A call that waits until its server has a door again, or, if it is placed, until another node may be asked for it.
pub(crate) struct Waiting {
    pub(crate) client: String,
    pub(crate) id: u32,
    pub(crate) service: String,
    pub(crate) conversation: String,
    pub(crate) until: Instant,
    /// What the last attempt came to, if there was one.
    pub(crate) trouble: Option<BusError>,
}

/// All that the bus knows.
pub(crate) struct Switchboard {
    pub(crate) policy: Policy,
    pub(crate) sockets: Sockets,
    pub(crate) doors: Doors,
    pub(crate) connections: Connections,
    /// Our end of each service's restricted bus channel, by the service's name: who speaks is known by the channel.
    pub(crate) clients: BTreeMap<String, Channel>,
    supply: Option<Channel>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) placed: Placed,
    /// Our own connection to membership.
    pub(crate) membership: Option<Channel>,
    /// `None`: this node has nothing to do with others.
    pub(crate) others: Option<Others>,
}

impl Switchboard {
    pub(crate) fn new(
        policy: Policy,
        sockets: Sockets,
        daemons: [(&str, Channel); 3],
        supply: Channel,
        clients: Vec<(&str, Channel)>,
        others: Option<Others>,
    ) -> Self {
        let mut doors = Doors::default();
        for (name, door) in daemons {
            doors.open(name, door);
        }
        let mut board = Self {
            policy,
            sockets,
            doors,
            connections: Connections::default(),
            clients: clients
                .into_iter()
                .map(|(name, end)| (name.to_owned(), end))
                .collect(),
            supply: Some(supply),
            waiting: Vec::new(),
            placed: Placed::default(),
            membership: None,
            others,
        };
        board.equip_membership();
        board
    }

    /// Turns until the supervisor says stop.
    pub(crate) fn serve(mut self, supervisor: &Supervisor) -> Result<(), Error> {
        let mut buffer = ReceiveBuffer::new();
        let mut beat = Instant::now();
        loop {
            if beat <= Instant::now() {
                supervisor.alive()?;
                self.ask_for_roster();
                beat = Instant::now() + Duration::from_millis(HEARTBEAT_MS);
            }
            self.wait(supervisor, beat)?;
            while let Some((order, mut descriptors)) = supervisor.order(&mut buffer)? {
                match order {
                    Order::Stop => return Ok(()),
                    Order::Attach { name } => self.attach(&name, descriptors.pop()),
                    // The runtime obeys the one; the other was obeyed before we began.
                    Order::Trace { .. } | Order::Packed(_) => {}
                }
            }
            self.see_who_has_gone();
            self.answer_supply(&mut buffer);
            self.answer_clients(&mut buffer);
            self.drain_membership(&mut buffer);
            self.attend_others();
            // After what came of those that were under way to other nodes: there is room for further ones.
            self.serve_waiting();
        }
    }

    fn wait(&self, supervisor: &Supervisor, until: Instant) -> Result<(), Error> {
        let asked = std::iter::once(supervisor.as_fd())
            .chain(self.supply.iter().map(AsFd::as_fd))
            .chain(self.clients.values().map(AsFd::as_fd))
            .chain(self.membership.iter().map(AsFd::as_fd))
            .map(|one| PollFd::from_borrowed_fd(one, PollFlags::IN));
        // Hang-ups are reported without being asked for; the bytes on these are none of our business.
        let watched = self
            .doors
            .descriptors()
            .chain(self.connections.descriptors());
        let watched = watched.map(|one| PollFd::from_borrowed_fd(one, PollFlags::empty()));
        let others = self.others.iter().zip(self.sockets.mesh());
        let under_way = others
            .clone()
            .flat_map(|(others, listener)| others.mesh.poll_set(listener));
        let until = self
            .waiting
            .iter()
            .map(|one| one.until)
            .chain(self.try_again_at())
            .chain(others.filter_map(|(others, _)| others.mesh.deadline()))
            .chain(self.connections.deadline())
            .fold(until, Instant::min);
        runtime::wait_for(asked.chain(watched).chain(under_way), until).map_err(Error::Poll)
    }

    /// A daemon beside us was restarted: init brings our end of its new channel.
    fn attach(&mut self, name: &str, end: Option<OwnedFd>) {
        let Some(end) = end.map(Channel::from) else {
            return;
        };
        match name.strip_prefix("door:") {
            Some(daemon) => {
                self.connections.cut(daemon);
                self.doors.open(daemon, end);
                if daemon == "membership" {
                    self.equip_membership();
                }
            }
            None if name.starts_with("client:") => {
                let daemon = name.trim_start_matches("client:");
                self.connections.cut(daemon);
                self.forget_calls_of(daemon);
                self.clients.insert(daemon.into(), end);
            }
            // A new orchestrator starts every service afresh: the services of the one before have died with it, and where others run it will say anew.
            None if name == "supply" => {
                self.supply = Some(end);
                self.learn_places(Vec::new());
            }
            None => runtime::warn!("attached {name}, which the bus does not know"),
        }
    }

    /// Opens a connection to membership, as its client `bus`, and brings it the UDP descriptor.
    fn equip_membership(&mut self) {
        let accept = Accept {
            client: "bus".into(),
            conversation: Membership::NAME.into(),
            origin: Origin::Here,
        };
        let Ok((ours, theirs)) = Channel::pair() else {
            return;
        };
        let call = Numbered {
            id: 0,
            body: MembershipCall::Use {
                address: self.sockets.gossip_address(),
                mesh: self.sockets.mesh_address(),
            },
        };
        let sent =
            ours.send_message::<Membership>(&call, &[self.sockets.gossip()], SendFlags::DONTWAIT);
        let brought = self.doors.bring("membership", &accept, &theirs);
        match sent.and(brought) {
            Ok(()) => {
                self.membership = Some(ours);
                self.membership_is_new();
                self.ask_for_roster();
            }
            Err(error) => runtime::warn!("membership got no UDP descriptor: {error}"),
        }
    }

    fn drain_membership(&mut self, buffer: &mut ReceiveBuffer) {
        while let Some(channel) = &self.membership {
            let answer = channel.receive_message::<Membership, Numbered<MembershipAnswer>>(
                buffer,
                RecvFlags::DONTWAIT,
            );
            match answer {
                Ok(Some((Numbered { body, .. }, _))) => self.hear_membership(body),
                Err(error) if error.would_block() => return,
                Ok(None) | Err(_) => self.membership = None,
            }
        }
    }

    /// A process that ends takes its connections with it: its peers see a hang-up at once, and ask again.
    fn see_who_has_gone(&mut self) {
        for server in self.doors.take_ended() {
            self.connections.cut(&server);
            if server == RELAY {
                self.relay_has_gone();
            }
        }
        self.connections.forget_ended();
    }

    fn answer_supply(&mut self, buffer: &mut ReceiveBuffer) {
        while let Some(supply) = &self.supply {
            let call =
                supply.receive_message::<Supply, Numbered<SupplyCall>>(buffer, RecvFlags::DONTWAIT);
            let Numbered { id, body } = match call {
                Ok(Some((call, _))) => call,
                Err(error) if error.would_block() => return,
                Ok(None) | Err(_) => {
                    self.supply = None;
                    return;
                }
            };
            let begun = trace::begin(Side::Served, Supply::NAME, Supply::kind(&body));
            let (body, descriptors) = match body {
                SupplyCall::Pack { service } => match self.pack(&service) {
                    Ok((names, descriptors)) => (Ok(SupplyAnswer::Packed(names)), descriptors),
                    Err(error) => (Err(error), Vec::new()),
                },
                SupplyCall::Revoke { service } => (
                    Ok(SupplyAnswer::Revoked(self.connections.cut(&service))),
                    Vec::new(),
                ),
                SupplyCall::Elsewhere { services } => {
                    self.learn_places(services);
                    (Ok(SupplyAnswer::Noted), Vec::new())
                }
            };
            begun.over(0, descriptors.len());
            let lent: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            let Some(supply) = &self.supply else { return };
            if supply
                .send_message::<Supply>(&Numbered { id, body }, &lent, SendFlags::DONTWAIT)
                .is_err()
            {
                self.supply = None;
            }
        }
    }

    /// What the manifest of `service` declares and the bus makes. Whatever its earlier incarnation held is taken back.
    fn pack(&mut self, service: &str) -> Result<(Vec<String>, Vec<OwnedFd>), BusError> {
        let manifest = self.policy.get(service).ok_or(BusError::Unknown)?.clone();
        self.connections.cut(service);
        self.forget_calls_of(service);
        let system = |errno: Errno| BusError::System(errno.raw_os_error());
        let (mut names, mut descriptors) = (Vec::new(), Vec::new());
        for grant in manifest.grants.iter().filter(|grant| grant.kind.from_bus()) {
            let descriptor = match grant.kind {
                Kind::Door => {
                    let (ours, theirs) = Channel::pair().map_err(system)?;
                    self.doors.open(service, ours);
                    theirs.into_socket()
                }
                Kind::Bus => {
                    let (ours, theirs) = Channel::pair().map_err(system)?;
                    self.clients.insert(service.into(), ours);
                    theirs.into_socket()
                }
                _ => {
                    let name = grant.listen.as_deref().unwrap_or_default();
                    let listener = self.sockets.listener(name).ok_or(BusError::Unknown)?;
                    rustix::io::fcntl_dupfd_cloexec(listener, 0).map_err(system)?
                }
            };
            names.push(grant.name.clone());
            descriptors.push(descriptor);
        }
        if service == RELAY {
            self.relay_has_gone();
            self.equip_relay();
        }
        Ok((names, descriptors))
    }

    /// Nobody waits for what `client` has asked for.
    fn forget_calls_of(&mut self, client: &str) {
        self.waiting.retain(|one| one.client != client);
        if let Some(others) = &mut self.others {
            others.mesh.forget(client);
        }
    }

    fn answer_clients(&mut self, buffer: &mut ReceiveBuffer) {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        for client in names {
            for _ in 0..CALLS_PER_TURN_MAX {
                let Some(channel) = self.clients.get(&client) else {
                    break;
                };
                let call = channel
                    .receive_message::<Connect, Numbered<ConnectCall>>(buffer, RecvFlags::DONTWAIT);
                match call {
                    Ok(Some((Numbered { id, body }, _))) => self.obey(&client, id, body),
                    Err(error) if error.would_block() => break,
                    // It has ended, or speaks what is not this conversation: either way it holds nothing from here on.
                    Ok(None) | Err(_) => {
                        self.clients.remove(&client);
                        self.forget_calls_of(&client);
                        self.connections.cut(&client);
                    }
                }
            }
        }
    }

    fn obey(&mut self, client: &str, id: u32, call: ConnectCall) {
        let begun = trace::begin(Side::Served, Connect::NAME, Connect::kind(&call));
        match call {
            ConnectCall::Open {
                service,
                conversation,
            } => self.open(client, id, service, conversation),
            ConnectCall::Listen { name } => self.listen(client, id, &name),
            ConnectCall::Dial { kind, name } => self.dial(client, id, &kind, &name),
            ConnectCall::OpenOn {
                node,
                service,
                conversation,
            } => {
                let open = OpenRemote {
                    client: client.into(),
                    service,
                    conversation,
                };
                self.open_on(client, id, &node, open);
            }
        }
        begun.over(0, 0);
    }

    /// A daemon asks for the listener that its manifest grants. The services get theirs packed.
    fn listen(&mut self, client: &str, id: u32, name: &str) {
        let grants = self.policy.get(client).map(|manifest| &manifest.grants);
        let granted = grants
            .into_iter()
            .flatten()
            .find(|grant| grant.kind == Kind::Listener && grant.name == name);
        let Some(grant) = granted else {
            runtime::warn!("{client} asked for the listener {name}: denied by the manifests");
            return self.refuse(client, id, BusError::Denied);
        };
        let listener = self
            .sockets
            .listener(grant.listen.as_deref().unwrap_or_default());
        let duplicate = listener
            .map(|listener| rustix::io::fcntl_dupfd_cloexec(listener, 0).map(Channel::from));
        match duplicate {
            None => self.refuse(client, id, BusError::Unknown),
            Some(Err(errno)) => self.refuse(client, id, BusError::System(errno.raw_os_error())),
            Some(Ok(end)) => self.answer(client, id, Ok(ConnectAnswer::Opened), Some(&end)),
        }
    }

    /// A connection out of the node, to an address that the operator has named.
    fn dial(&mut self, client: &str, id: u32, kind: &str, name: &str) {
        let manifest = self.policy.get(client);
        let Some(outside) = manifest.and_then(|manifest| manifest.dials(kind)) else {
            runtime::warn!("{client} asked to dial the {kind:?} {name:?}: denied by the manifests");
            return self.refuse(client, id, BusError::Denied);
        };
        let Some(address) = self.sockets.outside(outside, name) else {
            return self.refuse(client, id, BusError::Unknown);
        };
        if self.has_enough(client) {
            return self.refuse(client, id, BusError::Quota);
        }
        let dialled = sockets::dial(address).and_then(|socket| {
            self.connections.keep(client, socket.as_fd())?;
            Ok(Channel::from(socket))
        });
        match dialled {
            Ok(end) => self.answer(client, id, Ok(ConnectAnswer::Opened), Some(&end)),
            Err(errno) => self.refuse(client, id, BusError::System(errno.raw_os_error())),
        }
    }

    /// Whether a client holds, and waits for, as many connections as it may.
    pub(crate) fn has_enough(&self, client: &str) -> bool {
        let waiting = self.waiting.iter().filter(|one| one.client == client);
        let others = self.others.as_ref();
        let dialled = others.map_or(0, |others| others.mesh.under_way_for(client));
        let waiting = waiting.count() + dialled;
        self.connections.held_by(client) + waiting >= CONNECTIONS_MAX || waiting >= WAITING_MAX
    }

    fn open(&mut self, client: &str, id: u32, service: String, conversation: String) {
        if self.policy.get(&service).is_none() {
            return self.refuse(client, id, BusError::Unknown);
        }
        if !self.policy.allows(client, &service, &conversation) {
            runtime::warn!(
                "{client} asked for {conversation} of {service}: denied by the manifests"
            );
            return self.refuse(client, id, BusError::Denied);
        }
        if self.has_enough(client) {
            return self.refuse(client, id, BusError::Quota);
        }
        let one = Waiting {
            client: client.into(),
            id,
            service,
            conversation,
            until: Instant::now() + Duration::from_millis(CONNECT_WAIT_MS),
            trouble: None,
        };
        self.connect_or_wait(one);
    }

    /// Connects a client whose server has a door, or runs on another node. A door that turns out to be closed is that of a server which has just ended, and
    /// is waited for as one that had ended before.
    fn connect_or_wait(&mut self, one: Waiting) {
        if self.placed.is_elsewhere(&one.service) {
            return self.try_elsewhere(one);
        }
        if !self.doors.has(&one.service) {
            return self.waiting.push(one);
        }
        let (client, id) = (one.client.as_str(), one.id);
        let (theirs, served) = match self.connections.make(client, &one.service) {
            Ok(ends) => ends,
            Err(errno) => return self.refuse(client, id, BusError::System(errno.raw_os_error())),
        };
        let accept = Accept {
            client: client.into(),
            conversation: one.conversation.clone(),
            origin: Origin::Here,
        };
        if self.doors.bring(&one.service, &accept, &served).is_err() {
            return self.waiting.push(one);
        }
        // One end to each of the two.
        trace::begin(Side::Asked, Door::NAME, &accept.client).over(0, 2);
        self.answer(client, id, Ok(ConnectAnswer::Opened), Some(&theirs));
    }

    /// Connects those whose server is back, and gives up on those who have waited long enough.
    fn serve_waiting(&mut self) {
        let now = Instant::now();
        for one in std::mem::take(&mut self.waiting) {
            if one.until <= now && !self.is_here(&one.service) {
                let why = one.trouble.unwrap_or(BusError::Unavailable);
                self.refuse(&one.client, one.id, why);
            } else {
                self.connect_or_wait(one);
            }
        }
    }

    /// Whether a service may be connected to on this node: one that is leaving it may not, though its door is open still.
    pub(crate) fn is_here(&self, service: &str) -> bool {
        self.doors.has(service) && !self.placed.is_elsewhere(service)
    }

    pub(crate) fn refuse(&mut self, client: &str, id: u32, error: BusError) {
        self.answer(client, id, Err(error), None);
    }

    /// A client that does not read its answers is hung up on.
    pub(crate) fn answer(
        &mut self,
        client: &str,
        id: u32,
        body: Result<ConnectAnswer, BusError>,
        end: Option<&Channel>,
    ) {
        let Some(channel) = self.clients.get(client) else {
            return;
        };
        let lent: Vec<BorrowedFd<'_>> = end.iter().map(|end| end.as_fd()).collect();
        let sent =
            channel.send_message::<Connect>(&Numbered { id, body }, &lent, SendFlags::DONTWAIT);
        if sent.is_err() {
            self.clients.remove(client);
            self.connections.cut(client);
        }
    }
}
