//! Services that run on some nodes only: where they are, and the way of a client of this node to one that runs on another.
//!
//! Who runs where, the orchestrator says ([`SupplyCall::Elsewhere`](protocol::bus::SupplyCall::Elsewhere)); it may be old news, and a service may just be
//! moving. So a client's call tries one of the nodes named, then the next, and begins anew when other ones are named, until it is
//! connected or its time is over. What is tried is bounded for each service, so that many clients of one that does not answer take no places from others.

use crate::mesh::{Dialled, Purpose};
use crate::switchboard::{Switchboard, Waiting};
use protocol::bus::{BusError, REACH_WITHIN_MS};
use protocol::mesh::OpenRemote;
use protocol::schedule::PLACED_MAX;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After a node has given no connection, none is asked for the same service for so long.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// So long one node is waited for where there are others; the only one, [`REACH_WITHIN_MS`].
const ONE_OF_SEVERAL_WITHIN: Duration = Duration::from_secs(3);
/// The most connections to one service that are under way at a time.
const UNDER_WAY_MAX: usize = 4;

/// The placed services that do not run here.
#[derive(Default)]
pub(crate) struct Placed {
    elsewhere: BTreeMap<String, Place>,
}

/// Where one of them runs.
struct Place {
    /// By their names in the roster.
    nodes: Vec<String>,
    /// Which of them is next: connections are spread over all.
    turn: usize,
    /// When the next may be tried.
    after: Instant,
}

impl Placed {
    /// Whether the clients of a service are to be connected to other nodes. What its door here leads to, if there is one, is about to end.
    pub(crate) fn is_elsewhere(&self, service: &str) -> bool {
        self.elsewhere.contains_key(service)
    }

    fn runs_on(&self, service: &str, node: &str) -> bool {
        let place = self.elsewhere.get(service);
        place.is_some_and(|place| place.nodes.iter().any(|one| one == node))
    }
}

impl Place {
    /// The node to try now, and until when.
    fn next(&mut self, now: Instant) -> Option<(String, Instant)> {
        if now < self.after {
            return None;
        }
        let at = self.turn.checked_rem(self.nodes.len())?;
        self.turn = at + 1;
        let within = match self.nodes.len() {
            1 => Duration::from_millis(REACH_WITHIN_MS),
            _ => ONE_OF_SEVERAL_WITHIN,
        };
        Some((self.nodes.get(at)?.clone(), now + within))
    }
}

impl Switchboard {
    /// The orchestrator says where the placed services run that do not run here. Whoever is on the way to a node where its service does not run any
    /// more turns round.
    pub(crate) fn learn_places(&mut self, services: Vec<(String, Vec<String>)>) {
        let now = Instant::now();
        let policy = &self.policy;
        let is_placed = |service: &str| {
            let manifest = policy.get(service);
            manifest.is_some_and(|manifest| manifest.placement.is_some())
        };
        let each = services.into_iter().take(PLACED_MAX);
        let each = each.filter(|(service, _)| is_placed(service));
        let place = |nodes| Place {
            nodes,
            turn: 0,
            after: now,
        };
        self.placed.elsewhere = each
            .map(|(service, nodes)| (service, place(nodes)))
            .collect();
        let Some(others) = &mut self.others else {
            return;
        };
        let placed = &self.placed;
        let back = others
            .mesh
            .take_back(|service, node| placed.runs_on(service, node));
        for (purpose, open) in back {
            if let Purpose::Service {
                id,
                until: Some(until),
                ..
            } = purpose
            {
                self.waiting.push(Waiting::for_placed(id, open, until));
            }
        }
    }

    /// Begins a connection to one of the nodes where the service runs, as soon as one may be tried.
    pub(crate) fn try_elsewhere(&mut self, one: Waiting) {
        let Waiting {
            client,
            service,
            conversation,
            ..
        } = &one;
        // The manifests let nobody call a placed service but across; to leave the node takes that word all the same.
        if !self.policy.allows_across(client, service, conversation) {
            return self.refuse(&one.client, one.id, BusError::Denied);
        }
        let place = self.placed.elsewhere.get_mut(service);
        let (Some(others), Some(place)) = (&mut self.others, place) else {
            return self.waiting.push(one);
        };
        if !others.carries() || others.mesh.under_way_to(service) >= UNDER_WAY_MAX {
            return self.waiting.push(one);
        }
        let Some((node, late)) = place.next(Instant::now()) else {
            return self.waiting.push(one);
        };
        let open = OpenRemote {
            client: one.client,
            service: one.service,
            conversation: one.conversation,
        };
        let roster = others.mesh.roster();
        let Some(entry) = roster.and_then(|roster| roster.named(&node)).cloned() else {
            return self.look_further(one.id, open, one.until, BusError::NoSuchNode);
        };
        let purpose = Purpose::Service {
            client: open.client.clone(),
            id: one.id,
            until: Some(one.until),
        };
        let (mesh, key) = (&mut others.mesh, entry.key);
        let over = mesh.dial(purpose, entry.name, &entry.mesh, key, open, late);
        if let Some(Dialled {
            open,
            result: Err(error),
            ..
        }) = over
        {
            self.look_further(one.id, open, one.until, error);
        }
    }

    /// A node has given no connection. Unless that was a word about the client, another one may, or the same one later.
    pub(crate) fn look_further(
        &mut self,
        id: u32,
        open: OpenRemote,
        until: Instant,
        error: BusError,
    ) {
        let trouble = match error {
            BusError::Unavailable | BusError::Unreachable(_) | BusError::NotKnownThere => error,
            // The schedule is older than the roster, or that node was just started without the service.
            BusError::NoSuchNode | BusError::Unknown => BusError::Unavailable,
            BusError::Denied | BusError::Quota | BusError::System(_) => {
                return self.refuse(&open.client, id, error);
            }
        };
        if let Some(place) = self.placed.elsewhere.get_mut(&open.service) {
            place.after = Instant::now() + TRY_AGAIN;
        }
        let one = Waiting::for_placed(id, open, until);
        self.waiting.push(Waiting {
            trouble: Some(trouble),
            ..one
        });
    }

    /// When the next node may be tried for somebody who waits for nothing else.
    pub(crate) fn try_again_at(&self) -> Option<Instant> {
        let others = self.others.as_ref().filter(|others| others.carries())?;
        let has_room = |service: &str| others.mesh.under_way_to(service) < UNDER_WAY_MAX;
        let waiting = self.waiting.iter().filter(|one| has_room(&one.service));
        let places = waiting.filter_map(|one| self.placed.elsewhere.get(&one.service));
        let may_be_tried = places.filter(|place| !place.nodes.is_empty());
        may_be_tried.map(|place| place.after).min()
    }
}

impl Waiting {
    fn for_placed(id: u32, open: OpenRemote, until: Instant) -> Self {
        Self {
            client: open.client,
            id,
            service: open.service,
            conversation: open.conversation,
            until,
            trouble: None,
        }
    }
}
