//! The switchboard's side of other nodes: who may be connected to whom, and how a connection whose handshake is over gets to a service.

use crate::connections::Across;
use crate::mesh::{self, Arrival, Dialled, Identity, Keys, Mesh, Purpose, Records, Verdict};
use crate::switchboard::Switchboard;
use protocol::Channel;
use protocol::bus::{
    Accept, BusError, ConnectAnswer, Door, NAME_BYTES_MAX, Origin, REACH_WITHIN_MS,
};
use protocol::cluster::{Admission, NodeKey, Roster};
use protocol::membership::{Membership, MembershipAnswer, MembershipCall};
use protocol::mesh::OpenRemote;
use protocol::relay::{ABOUT_BYTES_MAX, RELAYED_MAX, Relay, Relayed};
use protocol::trace::Side;
use protocol::wire::{Conversation, Numbered};
use runtime::trace;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, shutdown, socketpair,
};
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// The service that does the records of TLS where the kernel does not.
pub(crate) const RELAY: &str = "relay";
/// Who asks to be admitted, and where.
const NEWCOMER: &str = "membership";
const ADMITTER: &str = "metadata";
/// The most connections that one other node has to one service of this one.
const OF_NODE_MAX: usize = 64;
/// Those of all other nodes together: as many as there are descriptors for, two each.
const COME_IN_MAX: usize = 1_024;
/// The most strangers that ask to be admitted at a time, and how long each may take.
const STRANGERS_MAX: usize = 8;
const STRANGER_WITHIN: Duration = Duration::from_secs(30);
/// The first pause after an attempt to be admitted; doubled up to the last.
const JOIN_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What the bus has where other nodes come in.
pub(crate) struct Others {
    pub(crate) mesh: Mesh,
    records: Records,
    /// Our end of the connection to the relay.
    relay: Option<Channel>,
    /// Membership was asked for the roster, and has not answered.
    asked: bool,
    join_after: Instant,
    join_pause: Duration,
}

impl Others {
    pub(crate) fn new(identity: Identity, records: Records) -> Self {
        Self {
            mesh: Mesh::new(identity),
            records,
            relay: None,
            asked: false,
            join_after: Instant::now(),
            join_pause: JOIN_AGAIN.0,
        }
    }

    /// Whether a connection whose handshake is over could be handed on.
    pub(crate) fn carries(&self) -> bool {
        matches!(self.records, Records::Kernel) || self.relay.is_some()
    }
}

impl Switchboard {
    /// A service asks for a service of another node.
    pub(crate) fn open_on(&mut self, client: &str, id: u32, node: &str, open: OpenRemote) {
        let (service, conversation) = (&open.service, &open.conversation);
        if self.policy.get(service).is_none() {
            return self.refuse(client, id, BusError::Unknown);
        }
        if !self.policy.allows_across(client, service, conversation) {
            runtime::warn!(
                "{client} asked for {conversation} of {service} on another node: denied by the manifests"
            );
            return self.refuse(client, id, BusError::Denied);
        }
        if self.has_enough(client) {
            return self.refuse(client, id, BusError::Quota);
        }
        let Some(others) = &mut self.others else {
            return self.refuse(client, id, BusError::NoSuchNode);
        };
        let entry = others.mesh.roster().and_then(|roster| roster.named(node));
        let Some(entry) = entry.cloned() else {
            return self.refuse(client, id, BusError::NoSuchNode);
        };
        if !others.carries() {
            return self.refuse(client, id, BusError::Unavailable);
        }
        let purpose = Purpose::Service {
            client: client.into(),
            id,
            until: None,
        };
        let (mesh, late) = (&mut others.mesh, reach_until());
        let over = mesh.dial(purpose, entry.name, &entry.mesh, entry.key, open, late);
        if let Some(Dialled {
            result: Err(error), ..
        }) = over
        {
            self.refuse(client, id, error);
        }
    }

    /// Moves on all that is under way with other nodes.
    pub(crate) fn attend_others(&mut self) {
        let Some(mut others) = self.others.take() else {
            return;
        };
        if let Some(listener) = self.sockets.mesh() {
            for dialled in others.mesh.turn(listener) {
                self.dialled(&mut others, dialled);
            }
        }
        let carries = others.carries();
        let denied = RefCell::new(Vec::new());
        let arrivals = others.mesh.arrivals(|key, roster, open| {
            let verdict = self.verdict(carries, key, roster, open);
            // That a service has moved is no misdeed of who looks for it.
            if let Verdict::No(error) = &verdict
                && *error != BusError::Unavailable
            {
                denied
                    .borrow_mut()
                    .push((*key, open.clone(), error.clone()));
            }
            verdict
        });
        for (key, open, error) in denied.into_inner() {
            complain(&mut others.mesh, &key, &open, &error);
        }
        for arrival in arrivals {
            self.arrived(&mut others, arrival);
        }
        let now = Instant::now();
        self.connections
            .cut_across(|across| across.until.is_some_and(|until| until <= now));
        self.others = Some(others);
    }

    /// What the bus of another node is told that wants one of our services.
    fn verdict(
        &self,
        carries: bool,
        key: &NodeKey,
        roster: Option<&Roster>,
        open: &OpenRemote,
    ) -> Verdict {
        let OpenRemote {
            client,
            service,
            conversation,
        } = open;
        let names = [client, service, conversation];
        let manifest = self.policy.get(service);
        let Some(manifest) = manifest.filter(|_| names.iter().all(|one| is_short(one))) else {
            return Verdict::No(BusError::Unknown);
        };
        let member = roster.and_then(|roster| roster.member(key));
        let for_members = manifest.serves_across(client, conversation);
        let origin = match member {
            Some(node) => Origin::Member {
                name: node.name.clone(),
                key: *key,
            },
            None => Origin::Stranger { key: *key },
        };
        let allowed = (member.is_some() && for_members) || manifest.serves_strangers(conversation);
        if !allowed {
            let heard_of = roster.is_some_and(|roster| roster.entry(key).is_some());
            return Verdict::No(match for_members && !heard_of {
                true => BusError::NotKnownThere,
                false => BusError::Denied,
            });
        }
        let connections = &self.connections;
        let enough = match member {
            Some(_) => {
                let of_node = |server: &str, one: &Across| server == service && one.key == *key;
                connections.came_in(of_node) >= OF_NODE_MAX
            }
            None => connections.came_in(|_, one| !one.member) >= STRANGERS_MAX,
        };
        let full =
            connections.came_in(|_, _| true) >= COME_IN_MAX || connections.relayed() >= RELAYED_MAX;
        if enough || full {
            return Verdict::No(BusError::Quota);
        }
        // A placed one may be anywhere by the time that it is back: who looks for it will look again.
        let is_here = self.is_here(service);
        if !is_here && manifest.placement.is_some() {
            return Verdict::No(BusError::Unavailable);
        }
        if !is_here || !carries {
            return Verdict::NotYet;
        }
        Verdict::Yes(origin)
    }

    /// Somebody of another node is brought to the service that it was allowed.
    fn arrived(&mut self, others: &mut Others, arrival: Arrival) {
        let Arrival {
            key,
            origin,
            open,
            socket,
            keys,
        } = arrival;
        let member = matches!(origin, Origin::Member { .. });
        let across = Across {
            key,
            member,
            relayed: matches!(others.records, Records::Relay(_)),
            until: (!member).then(|| Instant::now() + STRANGER_WITHIN),
        };
        let about = match &origin {
            Origin::Member { name, .. } => format!("{} on {name} to {}", open.client, open.service),
            _ => format!("a stranger, {key}, to {}", open.service),
        };
        let ends = (None, Some(open.service.as_str()));
        let Ok(end) = self.carry(others, ends, across, &about, socket, keys) else {
            return;
        };
        let accept = Accept {
            client: open.client,
            conversation: open.conversation,
            origin,
        };
        let end = Channel::from(end);
        match self.doors.bring(&open.service, &accept, &end) {
            Ok(()) => trace::begin(Side::Asked, Door::NAME, &accept.client).over(0, 1),
            Err(_) => drop(shutdown(&end, Shutdown::Both)),
        }
    }

    /// A connection that was begun for a service, or for this node, has come to something.
    fn dialled(&mut self, others: &mut Others, dialled: Dialled) {
        let Dialled {
            purpose,
            node,
            key,
            open,
            result,
        } = dialled;
        let OpenRemote {
            client,
            service,
            conversation,
        } = &open;
        let joins = purpose == Purpose::Join;
        let carried = match result {
            // Nobody waits for it any more.
            Ok(_) if !joins && !self.clients.contains_key(client) => return,
            Ok((socket, keys)) => {
                let across = Across {
                    key,
                    member: !joins,
                    relayed: matches!(others.records, Records::Relay(_)),
                    until: joins.then(|| Instant::now() + STRANGER_WITHIN),
                };
                let about = format!("{client} to {service} on {node}");
                let ends = (Some(client.as_str()), None);
                self.carry(others, ends, across, &about, socket, keys)
            }
            Err(error) => {
                // That it cannot be reached was said already, and where a placed service runs, this node is told.
                let moves = error == BusError::Unavailable && purpose.looks_further();
                if !moves && !matches!(error, BusError::Unreachable(_)) {
                    let why = format!("{node}: {conversation} of {service} for {client}: {error}");
                    others.mesh.complain(&format!("answer of {node}"), &why);
                }
                Err(error)
            }
        };
        match (purpose, carried) {
            (Purpose::Service { client, id, .. }, Ok(end)) => {
                let opened = ConnectAnswer::OpenedAcross(others.records.sealing());
                self.answer(&client, id, Ok(opened), Some(&Channel::from(end)));
            }
            (Purpose::Service { client, id, until }, Err(error)) => match until {
                None => self.refuse(&client, id, error),
                Some(until) => self.look_further(id, open, until, error),
            },
            (Purpose::Join, Ok(end)) => self.bring_to_membership(&end),
            (Purpose::Join, Err(_)) => {}
        }
    }

    /// Has the records of a connection done from here on, keeps what takes it back, and gives the end that a service reads and writes.
    fn carry(
        &mut self,
        others: &mut Others,
        (client, server): (Option<&str>, Option<&str>),
        across: Across,
        about: &str,
        socket: OwnedFd,
        keys: Keys,
    ) -> Result<OwnedFd, BusError> {
        let system = |errno: Errno| BusError::System(errno.raw_os_error());
        if let Records::Kernel = others.records {
            if let Err(missing) = mesh::take_over(socket.as_fd(), &keys) {
                // It has worked at the start: this connection is lost, and the next may work.
                runtime::error!("{about}: the kernel did not take over the connection: {missing}");
                return Err(BusError::System(Errno::IO.raw_os_error()));
            }
            let kept = self
                .connections
                .keep_across(client, server, across, &[socket.as_fd()]);
            return kept.map_err(system).map(|()| socket);
        }
        let relay = others.relay.as_ref().ok_or(BusError::Unavailable)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
        let (end, relays) = pair.map_err(system)?;
        let relayed = Relayed {
            seal: keys.seal,
            open: keys.open,
            about: about.chars().take(ABOUT_BYTES_MAX / 4).collect(),
        };
        let lent = [socket.as_fd(), relays.as_fd()];
        let kept = self.connections.keep_across(client, server, across, &lent);
        let sent = relay.send_message::<Relay>(&relayed, &lent, SendFlags::DONTWAIT);
        if kept.is_err() || sent.is_err() {
            // What cannot be taken back is not given.
            for end in lent {
                let _ = shutdown(end, Shutdown::Both);
            }
            return Err(BusError::Unavailable);
        }
        Ok(end)
    }

    /// Opens a connection to the relay, as its client `bus`.
    pub(crate) fn equip_relay(&mut self) {
        let Some(others) = &mut self.others else {
            return;
        };
        let accept = Accept {
            client: "bus".into(),
            conversation: Relay::NAME.into(),
            origin: Origin::Here,
        };
        others.relay = None;
        if let Ok((ours, theirs)) = Channel::pair()
            && self.doors.bring(RELAY, &accept, &theirs).is_ok()
        {
            others.relay = Some(ours);
        }
    }

    /// The relay has ended, and with it all that it carried.
    pub(crate) fn relay_has_gone(&mut self) {
        self.connections.cut_relayed();
        if let Some(others) = &mut self.others {
            others.relay = None;
        }
    }

    /// Membership is another one, or has not been asked yet.
    pub(crate) fn membership_is_new(&mut self) {
        if let Some(others) = &mut self.others {
            others.asked = false;
        }
    }

    /// Asks membership whose keys count.
    pub(crate) fn ask_for_roster(&mut self) {
        let (Some(others), Some(membership)) = (&mut self.others, &self.membership) else {
            return;
        };
        if others.asked {
            return;
        }
        let call = Numbered {
            id: 0,
            body: MembershipCall::Roster {
                newer_than: others.mesh.version(),
            },
        };
        let sent = membership.send_message::<Membership>(&call, &[], SendFlags::DONTWAIT);
        others.asked = sent.is_ok();
    }

    /// What membership has answered.
    pub(crate) fn hear_membership(&mut self, answer: MembershipAnswer) {
        match answer {
            MembershipAnswer::Roster(roster) => {
                self.membership_is_new();
                if let Some(roster) = roster {
                    self.learn(roster);
                }
            }
            MembershipAnswer::Wanting { mesh, key } => {
                self.membership_is_new();
                self.join(&mesh, key);
            }
            MembershipAnswer::Refused => self.membership_is_new(),
            // That it uses what it was brought; the rest is for others.
            MembershipAnswer::Using
            | MembershipAnswer::Members(_)
            | MembershipAnswer::Own(_)
            | MembershipAnswer::Learned => {}
        }
    }

    /// A newer roster: who does not belong any more loses every connection, here and now. What was dialled at an address that is another one now is over, too:
    /// where a line has moved, nobody is left there to say so, and TCP would wait for an answer.
    fn learn(&mut self, roster: Roster) {
        let Some(others) = &mut self.others else {
            return;
        };
        let known = others.mesh.version();
        if roster.version < known {
            return;
        }
        let cut = self
            .connections
            .cut_across(|across| across.member && roster.member(&across.key).is_none());
        let has_moved = |key: &NodeKey| {
            let before = others.mesh.roster().and_then(|before| before.member(key));
            let both = before.zip(roster.member(key));
            both.is_some_and(|(before, now)| before.mesh != now.mesh)
        };
        let moved = self
            .connections
            .cut_dialled(|across| has_moved(&across.key));
        if moved > 0 {
            runtime::info!("{moved} connections to former addresses of members cut");
        }
        // The same one comes again when an address has changed.
        if roster.version > known {
            runtime::info!(
                "cluster {}: roster {}, {} members; {cut} connections of former members cut",
                roster.cluster,
                roster.version,
                roster.members().count()
            );
        }
        others.mesh.learn(roster);
        others.join_pause = JOIN_AGAIN.0;
    }

    /// Connects membership to the node whose token it has, one attempt at a time.
    fn join(&mut self, address: &str, key: NodeKey) {
        let now = Instant::now();
        let busy = self.connections.is_joining(NEWCOMER);
        let Some(others) = &mut self.others else {
            return;
        };
        if busy || others.mesh.is_joining() || now < others.join_after || !others.carries() {
            return;
        }
        others.join_after = now + others.join_pause;
        others.join_pause = (others.join_pause * 2).min(JOIN_AGAIN.1);
        let open = OpenRemote {
            client: NEWCOMER.into(),
            service: ADMITTER.into(),
            conversation: Admission::NAME.into(),
        };
        let node = "the inviting node".to_owned();
        // A failure is in the log already.
        let late = reach_until();
        let _ = others
            .mesh
            .dial(Purpose::Join, node, address, key, open, late);
    }

    fn bring_to_membership(&self, end: &OwnedFd) {
        let call = Numbered {
            id: 0,
            body: MembershipCall::Join,
        };
        let sent = self.membership.as_ref().map(|membership| {
            membership.send_message::<Membership>(&call, &[end.as_fd()], SendFlags::DONTWAIT)
        });
        if !matches!(sent, Some(Ok(()))) {
            let _ = shutdown(end, Shutdown::Both);
        }
    }
}

/// Until when a connection is tried that begins now.
fn reach_until() -> Instant {
    Instant::now() + Duration::from_millis(REACH_WITHIN_MS)
}

/// Says what a node was not given.
fn complain(mesh: &mut Mesh, key: &NodeKey, open: &OpenRemote, error: &BusError) {
    let OpenRemote {
        client,
        service,
        conversation,
    } = open;
    // Of a name from elsewhere no more than a name may have.
    let said = format!("its {client:?} asked for {conversation:?} of {service:?}");
    let said: String = said.chars().take(4 * NAME_BYTES_MAX).collect();
    let whom = format!("denied {key}");
    let name = mesh.roster().and_then(|roster| roster.member(key));
    match name.map(|node| node.name.clone()) {
        Some(name) => mesh.complain(&whom, &format!("node {name}: {said}: {error}")),
        None => mesh.complain_of_stranger(&whom, &format!("stranger {key}: {said}: {error}")),
    }
}

fn is_short(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
}
