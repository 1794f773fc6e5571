//! Who belongs, as the service sees it: the cluster is made at a founder's first start, this node's entry is kept true, invitations are made, and
//! membership is told of each change, because the node must know whom to trust before metadata can speak to anybody.
//!
//! The truth is the roster in shard 0 ([`state::ClusterChange`]). What is told is what this node has applied of it, whoever proposed it.

use crate::Error;
use crate::proposer::Proposer;
use crate::state::{self, AnyChange, ClusterChange, Outcome};
use protocol::cluster::{ClusterId, NodeEntry, NodeKey, Roster, Standing, address_of};
use protocol::membership::{Membership, MembershipAnswer, MembershipCall};
use protocol::metadata::{MetadataError, Operation, Reply};
use protocol::token::Token;
use runtime::{CallError, Client, Link};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// How often the applied roster is looked at; a change that was made here is told at once.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether this node makes a cluster or joins one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It was told to join none at its first start.
    Founder,
    /// It waits for others to bring it the rows.
    Joiner,
}

/// The node among others.
pub(crate) struct Cluster {
    proposer: Rc<Proposer>,
    membership: Link<Membership>,
    key: NodeKey,
    part: Part,
    changed: Notify,
}

impl Cluster {
    pub(crate) fn new(
        proposer: Rc<Proposer>,
        membership: Link<Membership>,
        key: NodeKey,
        part: Part,
    ) -> Self {
        Self {
            proposer,
            membership,
            key,
            part,
            changed: Notify::new(),
        }
    }

    /// The roster as this node has applied it.
    fn applied(&self) -> Result<Option<Roster>, Error> {
        state::roster(self.proposer.registry().rows())
    }

    /// Whether this node knows an invitation with this secret.
    pub(crate) fn has_invited(&self, secret_hash: &[u8; 32]) -> Result<bool, MetadataError> {
        state::is_invited(self.proposer.registry().rows(), secret_hash).map_err(failed)
    }

    /// A change of who belongs.
    pub(crate) async fn change(&self, change: ClusterChange) -> Outcome {
        let registry = self.proposer.registry();
        let outcome = self.proposer.propose(registry, AnyChange::Cluster(change));
        let outcome = outcome.await;
        self.changed.notify_one();
        outcome
    }

    /// See [`protocol::metadata::Operation::Invite`].
    pub(crate) async fn invite(&self, for_ms: u64) -> Outcome {
        let roster = self.applied().map_err(failed)?.ok_or_else(|| {
            MetadataError::Unavailable("the cluster is not made yet: ask again".into())
        })?;
        let own = roster.member(&self.key).ok_or(MetadataError::NoSuchNode)?;
        let mesh = address_of(&own.mesh).ok_or_else(|| {
            let why = "other nodes cannot reach this one: start it with --mesh ADDRESS:PORT (`mesh` of [cluster] in node.toml)";
            MetadataError::Refused(why.into())
        })?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)
            .map_err(|error| MetadataError::Unavailable(error.to_string()))?;
        let expires_ms = self.proposer.now_ms().saturating_add(for_ms);
        self.change(ClusterChange::Invite {
            secret_hash: Token::secret_hash(&secret),
            expires_ms,
        })
        .await?;
        runtime::info!("an invitation was made that holds for {} s", for_ms / 1_000);
        let token = Token {
            cluster: roster.cluster,
            secret,
            key: self.key,
            mesh,
        };
        Ok(Reply::Invited {
            token: token.to_text(),
            expires_ms,
        })
    }

    /// See [`protocol::metadata::Operation::SetStanding`].
    pub(crate) async fn set_standing(&self, key: NodeKey, standing: Standing) -> Outcome {
        let outcome = self.change(ClusterChange::SetStanding { key, standing });
        let outcome = outcome.await;
        match &outcome {
            Ok(_) => runtime::info!("the node {key} is {standing:?} from now on"),
            Err(error) => runtime::warn!("the node {key} is not {standing:?}: {error}"),
        }
        outcome
    }

    /// Makes the cluster or keeps this node's entry true, and tells membership of each change. Ends with the service.
    ///
    /// `known` is told of the newest roster that this node has heard of, so that it finds the others before it has any row.
    pub(crate) async fn tend(&self, known: watch::Sender<Option<Roster>>) {
        let mut said = None;
        loop {
            let remembered = self.remembered().await;
            // Before it is admitted there is nobody to ask.
            if self.part == Part::Joiner && remembered.is_none() {
                self.rest().await;
                continue;
            }
            self.say(&known, remembered);
            match self.enter().await {
                Ok(true) => break,
                // Not yet: a joiner waits here for its rows.
                Ok(false) => {}
                Err(error) if said.as_ref() == Some(&error) => {}
                Err(error) => {
                    runtime::warn!("this node's entry in the roster: {error}");
                    said = Some(error);
                }
            }
            self.rest().await;
        }
        let mut told: Option<(Client<Membership>, u64)> = None;
        loop {
            match self.newest().await {
                Ok(Some(roster)) => {
                    self.say(&known, Some(roster.clone()));
                    // A membership that has started afresh is told again: its disk may have forgotten.
                    let knows = told.as_ref().is_some_and(|(client, version)| {
                        !client.ended() && *version == roster.version
                    });
                    if !knows {
                        told = self.tell(roster).await;
                    }
                }
                Ok(None) => {}
                Err(error) => runtime::error!("reading the roster: {error}"),
            }
            self.rest().await;
        }
    }

    /// The roster that this node has applied; one that has no rows (a gateway) asks whoever has.
    async fn newest(&self) -> Result<Option<Roster>, Error> {
        let applied = self.applied()?;
        if applied.is_some() || self.proposer.is_alone() {
            return Ok(applied);
        }
        let asked = self.proposer.ask_registry("console", Operation::Roster);
        Ok(match asked.await {
            Ok(Some(Ok(Reply::Roster(roster)))) => roster,
            _ => None,
        })
    }

    fn say(&self, known: &watch::Sender<Option<Roster>>, roster: Option<Roster>) {
        let Some(roster) = roster else { return };
        known.send_if_modified(|known| {
            let newer = known
                .as_ref()
                .is_none_or(|known| known.version < roster.version);
            if newer {
                *known = Some(roster);
            }
            newer
        });
    }

    /// Until something has changed, or might have.
    async fn rest(&self) {
        let _ = timeout(LOOK_EVERY, self.changed.notified()).await;
    }

    /// Whether this node stands in the roster as it is; where it belongs and does not, that is changed.
    async fn enter(&self) -> Result<bool, MetadataError> {
        let Some(own) = self.own().await else {
            return Ok(false);
        };
        let change = match self.newest().await.map_err(failed)? {
            None if self.part == Part::Joiner => return Ok(false),
            None => self.founding(own).await?,
            Some(roster) => match roster.member(&self.key) {
                Some(entry) if *entry == own => return Ok(true),
                Some(_) => ClusterChange::SetNode { node: own },
                // It was put out.
                None => return Ok(true),
            },
        };
        self.change(change).await?;
        Ok(true)
    }

    /// How a cluster begins with this node. What it remembers goes on, so that its key stays what it is; but a cluster of several that this
    /// node alone has lost the rows of is not made a second time.
    async fn founding(&self, node: NodeEntry) -> Result<ClusterChange, MetadataError> {
        let (cluster, version) = match self.remembered().await {
            Some(roster) if roster.members().any(|one| one.key != self.key) => {
                return Err(MetadataError::Unavailable(format!(
                    "this node belongs to the cluster {} of {} nodes, but its metadata knows of none: has the data directory lost it?",
                    roster.cluster,
                    roster.members().count()
                )));
            }
            Some(roster) => (roster.cluster, roster.version.saturating_add(1)),
            None => {
                let mut id = [0; 16];
                getrandom::fill(&mut id)
                    .map_err(|error| MetadataError::Unavailable(error.to_string()))?;
                (ClusterId(id), 1)
            }
        };
        runtime::info!("this node makes the cluster {cluster}");
        Ok(ClusterChange::Found {
            cluster,
            version,
            node,
        })
    }

    /// What membership says of this node; `None` if it does not know yet.
    async fn own(&self) -> Option<NodeEntry> {
        match self.ask(&MembershipCall::Own).await? {
            MembershipAnswer::Own(own) => Some(own),
            _ => None,
        }
    }

    /// The roster that membership has kept.
    async fn remembered(&self) -> Option<Roster> {
        match self.ask(&MembershipCall::Roster { newer_than: 0 }).await? {
            MembershipAnswer::Roster(roster) => roster,
            _ => None,
        }
    }

    async fn ask(&self, call: &MembershipCall) -> Option<MembershipAnswer> {
        match self.membership.repeat(call).await {
            Ok((answer, _)) => Some(answer),
            Err(error) => {
                runtime::warn!("membership: {error}");
                None
            }
        }
    }

    /// Tells membership; the connection and the version, if it knows now.
    async fn tell(&self, roster: Roster) -> Option<(Client<Membership>, u64)> {
        let version = roster.version;
        let told = async {
            let client = self.membership.client().await?;
            let call = MembershipCall::Learn { roster };
            let (answer, _) = client.call(&call, &[]).await?;
            Ok::<_, CallError>((client, answer))
        };
        match told.await {
            Ok((client, MembershipAnswer::Learned)) => Some((client, version)),
            Ok((client, _)) => {
                runtime::error!("membership refuses the roster in version {version}");
                Some((client, version))
            }
            Err(error) => {
                runtime::warn!("membership was not told of the roster: {error}");
                sleep(LOOK_EVERY).await;
                None
            }
        }
    }
}

fn failed(error: Error) -> MetadataError {
    runtime::error!("reading the roster: {error}");
    MetadataError::Unavailable(error.to_string())
}
