//! Strangers at the door: a newcomer with an invitation is admitted, everybody else is told why not.
//!
//! It is the only conversation that a node without a name in the roster may have, so it costs no write before the invitation is known to be one.

use crate::cluster::Cluster;
use crate::service::Service;
use crate::state::ClusterChange;
use protocol::bus::{Accept, Origin};
use protocol::cluster::{
    Admission, AdmissionCall, AdmissionError, ClusterId, NodeEntry, NodeKey, Roster,
};
use protocol::metadata::{MetadataError, Reply};
use protocol::token::Token;
use runtime::Serve;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long an invitation is waited for that this node does not know: it may have been made on another a moment ago.
const KNOWN_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The roster with the newcomer in it. Both outcomes are logged. `caller` is whose connection it is, as the bus has proven it.
async fn join(
    cluster: &Cluster,
    caller: Option<NodeKey>,
    call: AdmissionCall,
) -> Result<Roster, AdmissionError> {
    let AdmissionCall::Join {
        cluster: wanted,
        secret,
        node,
    } = call;
    if caller != Some(node.key) {
        let why = "the entry is not of the node that brings it";
        return Err(AdmissionError::Refused(why.into()));
    }
    if let Some(broken) = node.broken_rule() {
        runtime::warn!("{} is not admitted: {broken}", node.key);
        return Err(AdmissionError::Refused(broken));
    }
    let answer = admit(cluster, wanted, Token::secret_hash(&secret), &node).await;
    let (name, key) = (&node.name, &node.key);
    match &answer {
        Ok(roster) => runtime::info!(
            "{name} ({key}) is admitted: {} nodes belong",
            roster.members().count()
        ),
        Err(error) => runtime::warn!("{name} ({key}) is not admitted: {error}"),
    }
    answer
}

async fn admit(
    cluster: &Cluster,
    wanted: ClusterId,
    secret_hash: [u8; 32],
    node: &NodeEntry,
) -> Result<Roster, AdmissionError> {
    let known = async {
        while !cluster.has_invited(&secret_hash)? {
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    };
    match timeout(KNOWN_WITHIN, known).await {
        Ok(known) => known.map_err(refusal)?,
        Err(_) => return Err(AdmissionError::UnknownToken),
    }
    let admitted = cluster.change(ClusterChange::Admit {
        cluster: wanted,
        secret_hash,
        node: node.clone(),
    });
    match admitted.await {
        Ok(Reply::Roster(Some(roster))) => Ok(roster),
        Ok(_) => Err(AdmissionError::Unavailable("no roster".into())),
        Err(error) => Err(refusal(error)),
    }
}

fn refusal(error: MetadataError) -> AdmissionError {
    match error {
        MetadataError::NotAdmitted(error) => error,
        MetadataError::Unavailable(why) => AdmissionError::Unavailable(why),
        other => AdmissionError::Unavailable(other.to_string()),
    }
}

impl Serve<Admission> for Service {
    /// Whose connection it is, as the bus has proven it; `None`: nobody's who could join.
    type Session = Option<NodeKey>;

    fn connected(&self, accept: Accept) -> Option<NodeKey> {
        match accept.origin {
            Origin::Stranger { key } | Origin::Member { key, .. } => Some(key),
            Origin::Here => None,
        }
    }

    async fn answer(
        &self,
        caller: &Option<NodeKey>,
        call: AdmissionCall,
        _descriptors: Vec<OwnedFd>,
    ) -> (Result<Roster, AdmissionError>, Vec<OwnedFd>) {
        (join(&self.cluster, *caller, call).await, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use crate::cluster::Part;
    use crate::proposer::Proposer;
    use crate::raft::{Me, Store};
    use protocol::Channel;
    use protocol::cluster::{GossipKey, Standing};
    use runtime::{Bus, Link};
    use std::path::Path;
    use std::rc::Rc;

    fn node(number: u8) -> NodeEntry {
        NodeEntry {
            key: NodeKey([number; 32]),
            gossip_key: GossipKey([number; 32]),
            name: format!("node-{number}"),
            zone: "home".into(),
            capacity_bytes: 1,
            mesh: format!("127.0.0.{number}:4100"),
            gossip: format!("127.0.0.{number}:4101"),
            standing: Standing::Member,
        }
    }

    /// A cluster of the first node.
    async fn founded(directory: &Path) -> Cluster {
        let me = Me::alone("node-1");
        let ways = me.ways.clone();
        let store = Store::open(directory, 1, me).await.unwrap();
        let proposer = Proposer::new(Rc::new(store), Rc::new(|| 1_000), ways);
        let (bus, _) = Channel::pair().unwrap();
        let membership = Link::new(Bus::new(bus).unwrap(), "membership");
        let key = node(1).key;
        let cluster = Cluster::new(Rc::new(proposer), membership, key, Part::Founder);
        let found = ClusterChange::Found {
            cluster: ClusterId([7; 16]),
            version: 1,
            node: node(1),
        };
        cluster.change(found).await.unwrap();
        cluster
    }

    fn call(token: &Token, node: NodeEntry) -> AdmissionCall {
        AdmissionCall::Join {
            cluster: token.cluster,
            secret: token.secret,
            node,
        }
    }

    async fn invited(cluster: &Cluster) -> Token {
        match cluster.invite(60_000).await {
            Ok(Reply::Invited { token, .. }) => token.parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_newcomer_is_admitted_by_its_own_key_and_its_invitation_and_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let tokio = runtime::event_loop().unwrap();
        tokio::task::LocalSet::new().block_on(&tokio, async {
            let cluster = founded(directory.path()).await;
            let token = invited(&cluster).await;
            assert_eq!((token.key, token.mesh.port()), (node(1).key, 4_100));
            let ask = |caller: u8, token: &Token, entry: NodeEntry| {
                let (caller, call) = (Some(NodeKey([caller; 32])), call(token, entry));
                join(&cluster, caller, call)
            };
            // Under another's key, or under none.
            let forged = ask(3, &token, node(2)).await;
            assert!(matches!(forged, Err(AdmissionError::Refused(_))));
            let here = join(&cluster, None, call(&token, node(2))).await;
            assert!(matches!(here, Err(AdmissionError::Refused(_))));
            let mut shouting = node(2);
            shouting.name = "\u{1b}[2J".into();
            let refused = ask(2, &token, shouting).await;
            assert!(matches!(refused, Err(AdmissionError::Refused(_))));
            let mut guessed = token.clone();
            guessed.secret = [0; 32];
            let unknown = ask(2, &guessed, node(2)).await;
            assert_eq!(unknown, Err(AdmissionError::UnknownToken));
            let mut elsewhere = token.clone();
            elsewhere.cluster = ClusterId([8; 16]);
            let other = ask(2, &elsewhere, node(2)).await;
            assert_eq!(other, Err(AdmissionError::OtherCluster));

            let roster = ask(2, &token, node(2)).await.unwrap();
            assert_eq!(roster.nodes, [node(1), node(2)]);
            assert_eq!(ask(2, &token, node(2)).await, Ok(roster), "once more");
            let used = ask(3, &token, node(3)).await;
            assert_eq!(used, Err(AdmissionError::UsedToken));
            cluster
                .set_standing(node(2).key, Standing::Revoked)
                .await
                .unwrap();
            let token = invited(&cluster).await;
            let revoked = ask(2, &token, node(2)).await;
            assert_eq!(revoked, Err(AdmissionError::Revoked));
        });
    }
}
