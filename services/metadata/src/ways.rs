//! The ways to other nodes' metadata: one connection to each, made when it is needed and shared by everybody here.
//!
//! A node that could not be reached is left alone for [`PAUSE`], so that eight groups do not knock at a dead one all the time. Nothing is queued:
//! whoever calls waits for the answer, up to the time that it gives.

use crate::raft::number_of;
use futures_util::future::LocalBoxFuture;
use protocol::cluster::Roster;
use protocol::peers::{Peers, PeersAnswer, PeersCall};
use runtime::{Bus, CallError, Client, Link};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a node that could not be reached is left alone.
const PAUSE: Duration = Duration::from_millis(250);

/// How metadata on another node is asked. One call is one attempt on one connection; connections are the implementation's to make, keep and share.
pub trait Reach {
    /// Asks the node of this name. [`CallError::Lost`] where it may have heard the question, every other error where it cannot have.
    fn ask<'a>(
        &'a self,
        node: &'a str,
        call: &'a PeersCall,
    ) -> LocalBoxFuture<'a, Result<PeersAnswer, CallError>>;
}

/// The present connection to metadata on the node of this name, or a new one.
pub type Connect = dyn Fn(String) -> LocalBoxFuture<'static, Result<Client<Peers>, CallError>>;

impl Reach for Box<Connect> {
    fn ask<'a>(
        &'a self,
        node: &'a str,
        call: &'a PeersCall,
    ) -> LocalBoxFuture<'a, Result<PeersAnswer, CallError>> {
        Box::pin(async move {
            let client = self(node.to_owned()).await?;
            let (answer, _descriptors) = client.call(call, &[]).await?;
            Ok(answer)
        })
    }
}

/// A link to each node, which the bus makes.
pub(crate) struct Links {
    bus: Bus,
    links: RefCell<HashMap<String, Rc<Link<Peers>>>>,
}

impl Links {
    pub(crate) fn new(bus: Bus) -> Self {
        Self {
            bus,
            links: RefCell::default(),
        }
    }

    fn link(&self, node: &str) -> Rc<Link<Peers>> {
        let mut links = self.links.borrow_mut();
        let link = links.entry(node.to_owned());
        let new = || Rc::new(Link::on(self.bus.clone(), "metadata", node));
        link.or_insert_with(new).clone()
    }
}

impl Reach for Links {
    fn ask<'a>(
        &'a self,
        node: &'a str,
        call: &'a PeersCall,
    ) -> LocalBoxFuture<'a, Result<PeersAnswer, CallError>> {
        Box::pin(async move {
            let client = self.link(node).client().await?;
            let (answer, _descriptors) = client.call(call, &[]).await?;
            Ok(answer)
        })
    }
}

/// Nobody is in reach.
struct Nobody;

impl Reach for Nobody {
    fn ask<'a>(
        &'a self,
        _node: &'a str,
        _call: &'a PeersCall,
    ) -> LocalBoxFuture<'a, Result<PeersAnswer, CallError>> {
        Box::pin(async { Err(CallError::NotSent) })
    }
}

/// The ways to all other nodes.
pub struct Ways {
    reach: Box<dyn Reach>,
    /// What one message may hold, in bytes.
    message_bytes_max: usize,
    /// Who belongs, by the names that nodes have now.
    roster: watch::Receiver<Option<Roster>>,
    /// Nodes that could not be reached, and until when they are left alone.
    paused: RefCell<HashMap<String, Instant>>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WayError {
    /// Nothing was sent, so nothing happened there.
    NotSent(String),
    /// It happened or it did not.
    Lost(String),
}

impl fmt::Display for WayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) | Self::Lost(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for WayError {}

impl Ways {
    /// Ways to the members of `roster` by `reach`; a message on them holds at most `message_bytes_max` bytes.
    pub fn new(
        message_bytes_max: usize,
        roster: watch::Receiver<Option<Roster>>,
        reach: impl Reach + 'static,
    ) -> Self {
        Self {
            reach: Box::new(reach),
            message_bytes_max,
            roster,
            paused: RefCell::default(),
        }
    }

    /// Ways to nobody: every node is out of reach.
    pub fn none() -> Self {
        let (_, roster) = watch::channel(None);
        Self::new(protocol::wire::MESSAGE_BYTES_MAX, roster, Nobody)
    }

    /// Who belongs to the cluster, as this node knows.
    pub(crate) fn roster(&self) -> &watch::Receiver<Option<Roster>> {
        &self.roster
    }

    /// The present name of the node with this number; `known` where the roster does not have it. Names may change, numbers do not.
    pub(crate) fn name(&self, number: u64, known: &str) -> String {
        let roster = self.roster.borrow();
        let mut members = roster.iter().flat_map(Roster::members);
        let node = members.find(|node| number_of(&node.key) == number);
        node.map_or_else(|| known.to_owned(), |node| node.name.clone())
    }

    /// What one message may hold besides what surrounds it, in bytes.
    pub(crate) fn room(&self) -> usize {
        // Far more than the numbers, names and lengths around the bytes take.
        const AROUND: usize = 1_024;
        self.message_bytes_max.saturating_sub(AROUND)
    }

    /// Asks the node of this name, and waits for the answer for at most `within`.
    pub(crate) async fn call(
        &self,
        node: &str,
        call: &PeersCall,
        within: Duration,
    ) -> Result<PeersAnswer, WayError> {
        let paused = self.paused.borrow().get(node).copied();
        if paused.is_some_and(|until| Instant::now() < until) {
            let why = format!("node {node} could not be reached just now");
            return Err(WayError::NotSent(why));
        }
        match tokio::time::timeout(within, self.reach.ask(node, call)).await {
            Ok(Ok(answer)) => {
                self.paused.borrow_mut().remove(node);
                Ok(answer)
            }
            // The question was heard, or may have been.
            Ok(Err(CallError::Lost)) => {
                Err(WayError::Lost(format!("node {node}: {}", CallError::Lost)))
            }
            Err(_) => Err(WayError::Lost(format!(
                "node {node}: no answer within {} ms",
                within.as_millis()
            ))),
            Ok(Err(error)) => {
                if error != CallError::TooLong {
                    let until = Instant::now() + PAUSE;
                    self.paused.borrow_mut().insert(node.to_owned(), until);
                }
                Err(WayError::NotSent(format!("node {node}: {error}")))
            }
        }
    }
}
