//! A membership that says what the test wants, and remembers what it was told.

use super::receive;
use protocol::Channel;
use protocol::cluster::{GossipKey, NodeEntry, NodeKey, Roster, Standing};
use protocol::membership::{Membership, MembershipAnswer, MembershipCall};
use protocol::wire::Numbered;
use rustix::net::SendFlags;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// The key of the node of that number.
pub fn key(number: u8) -> NodeKey {
    NodeKey([number; 32])
}

pub fn node(number: u8) -> NodeEntry {
    NodeEntry {
        key: key(number),
        gossip_key: GossipKey([number; 32]),
        name: format!("n{number}"),
        zone: "home".into(),
        capacity_bytes: 1 << 40,
        mesh: format!("127.0.0.{number}:4100"),
        gossip: format!("127.0.0.{number}:4101"),
        standing: Standing::Member,
    }
}

pub struct FakeMembership {
    state: Mutex<State>,
    told: Condvar,
}

struct State {
    own: NodeEntry,
    roster: Option<Roster>,
}

impl FakeMembership {
    /// Of this node, with the roster that it has kept.
    pub fn of(own: NodeEntry, roster: Option<Roster>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { own, roster }),
            told: Condvar::new(),
        })
    }

    /// The roster that it was told of, once it is so.
    pub fn until(&self, holds: impl Fn(&Roster) -> bool) -> Roster {
        let limit = Instant::now() + Duration::from_secs(60);
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(roster) = state.roster.as_ref().filter(|roster| holds(roster)) {
                return roster.clone();
            }
            assert!(
                Instant::now() < limit,
                "waited too long: {:?}",
                state.roster
            );
            let wait = Duration::from_millis(50);
            state = self.told.wait_timeout(state, wait).unwrap().0;
        }
    }

    pub fn roster(&self) -> Option<Roster> {
        self.state.lock().unwrap().roster.clone()
    }

    pub(super) fn serve(&self, channel: &Channel) {
        while let Some(Numbered { id, body }) = receive::<Membership, _>(channel) {
            let mut state = self.state.lock().unwrap();
            let body = match body {
                MembershipCall::Own => MembershipAnswer::Own(state.own.clone()),
                MembershipCall::Roster { newer_than: 0 } => {
                    MembershipAnswer::Roster(state.roster.clone())
                }
                MembershipCall::Learn { roster } => {
                    state.roster = Some(roster);
                    self.told.notify_all();
                    MembershipAnswer::Learned
                }
                other => panic!("not from metadata: {other:?}"),
            };
            drop(state);
            let answer = Numbered { id, body };
            let sent = channel.send_message::<Membership>(&answer, &[], SendFlags::empty());
            if sent.is_err() {
                return;
            }
        }
    }
}
