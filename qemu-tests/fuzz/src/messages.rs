//! Packets of every conversation: what decodes must encode to a message that decodes to the same.

use protocol::block::{
    BlockAnswer, BlockCall, BlockError, BlockId, BlockRef, Blocks, HashKey, Place,
};
use protocol::bus::{
    Accept, BusError, Connect, ConnectAnswer, ConnectCall, Door, Origin, Supply, SupplyCall,
};
use protocol::cluster::{
    Admission, AdmissionCall, ClusterId, GossipKey, NodeEntry, NodeKey, Roster, Standing,
};
use protocol::health::Sealing;
use protocol::inspect::{Inspect, Operator, Outcome, Verb};
use protocol::membership::{Member, MemberState, Membership, MembershipAnswer, MembershipCall};
use protocol::mesh::{Mesh, OpenRemote};
use protocol::metadata::{
    Answer, Attributes, BucketId, Call, Change, Checksum, Content, DataKey, Encryption, EventKind,
    KeySource, Metadata, NewObject, Operation, Precondition, Reply, Salt,
};
use protocol::peers::{Chunk, Peers, PeersAnswer, PeersCall, RaftMessage, SnapshotPart};
use protocol::relay::{RecordKeys, Relay, Relayed};
use protocol::start::{Order, Packed, Say, Start};
use protocol::verbs::Role;
use protocol::wire::{Conversation, Numbered, decode, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// The bytes are a packet; its header says of which conversation.
pub(crate) fn run(packet: &[u8]) -> bool {
    // Not short-circuited: each decoder has to look at it.
    [
        both::<Start>(packet),
        both::<Supply>(packet),
        both::<Connect>(packet),
        both::<Door>(packet),
        both::<Membership>(packet),
        both::<Mesh>(packet),
        both::<Relay>(packet),
        both::<Admission>(packet),
        both::<Blocks>(packet),
        both::<Metadata>(packet),
        both::<Peers>(packet),
        both::<Operator>(packet),
        both::<Inspect>(packet),
    ]
    .contains(&true)
}

/// Both sides of a conversation, with and without a number in front.
fn both<C: Conversation>(packet: &[u8]) -> bool {
    [
        survives::<C, C::Call>(packet),
        survives::<C, C::Answer>(packet),
        survives::<C, Numbered<C::Call>>(packet),
        survives::<C, Numbered<C::Answer>>(packet),
    ]
    .contains(&true)
}

fn survives<C: Conversation, T: Serialize + DeserializeOwned + Debug>(packet: &[u8]) -> bool {
    let Ok(message) = decode::<C, T>(packet) else {
        return false;
    };
    let again = encode::<C>(&message).and_then(|bytes| decode::<C, T>(&bytes));
    assert_eq!(
        again.map(|again| format!("{again:?}")),
        Ok(format!("{message:?}")),
        "what was decoded encodes to the same"
    );
    true
}

fn keys(byte: u8) -> RecordKeys {
    RecordKeys {
        key: [byte; 16],
        iv: [byte; 12],
        sequence: 2,
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let block = BlockRef {
        id: BlockId([3; 32]),
        length: 9,
        place: Place::Packed { pack: 1, page: 2 },
    };
    let object = NewObject {
        size: 3,
        etag: "900150983cd24fb0d6963f7d28e17f72".into(),
        headers: vec![("content-type".into(), "text/plain".into())],
        checksum: Some(Checksum {
            algorithm: "CRC32".into(),
            composite: false,
            value: "NSRBwg==".into(),
        }),
        attributes: Attributes {
            tags: vec![("kind".into(), "cat".into())],
            retention: None,
            legal_hold: Some(false),
        },
        encryption: Some(Encryption {
            salt: Salt([1; 32]),
            source: KeySource::Managed(DataKey([2; 32])),
        }),
        content: Content::Blocks(vec![block, block]),
    };
    let operations = [
        Operation::Authorize {
            access_key: Some("TRKEY".into()),
            bucket: Some("home".into()),
        },
        Operation::Change(Change::PutObject {
            bucket: BucketId(7),
            key: "photos/cat.jpg".into(),
            object,
            precondition: Precondition::Etag("x".into()),
            copied: false,
            event: EventKind::Put,
        }),
        Operation::Change(Change::CompleteUpload {
            bucket: BucketId(7),
            key: "k".into(),
            upload: "u".into(),
            parts: vec![1, 2, 3],
            etag: "e-3".into(),
            checksum: None,
            precondition: Precondition::Absent,
        }),
        Operation::ListUploads {
            bucket: BucketId(7),
            prefix: "p".into(),
            after: Some(("k".into(), "u".into())),
            limit: 1_000,
        },
    ];
    let packed = Packed {
        service: "metadata".into(),
        grants: vec!["door".into(), "bus".into()],
        settings: vec![("node".into(), "home".into())],
    };
    let member = Member {
        key: NodeKey([5; 32]),
        name: "home".into(),
        zone: "cellar".into(),
        address: "127.0.0.1:3901".into(),
        mesh: "127.0.0.1:3902".into(),
        capacity_bytes: 1 << 40,
        state: MemberState::Suspect,
        incarnation: 3,
        version: "0.1.0".into(),
        services: "metadata".into(),
    };
    let node = NodeEntry {
        key: NodeKey([5; 32]),
        gossip_key: GossipKey([6; 32]),
        name: "home".into(),
        zone: "cellar".into(),
        capacity_bytes: 1 << 40,
        mesh: "127.0.0.1:3902".into(),
        gossip: "127.0.0.1:3901".into(),
        standing: Standing::Member,
    };
    let cluster = ClusterId([7; 16]);
    let roster = Roster {
        cluster,
        version: 3,
        nodes: vec![node.clone()],
    };
    let join = AdmissionCall::Join {
        cluster,
        secret: [8; 32],
        node,
    };
    let answer = |reply| Answer {
        revision: 9,
        result: Ok(reply),
    };
    let mut seeds = vec![
        encode::<Start>(&Order::Packed(packed)),
        encode::<Start>(&Order::Attach { name: "bus".into() }),
        encode::<Start>(&Say::Ready {
            about: "serves".into(),
        }),
        encode::<Door>(&Accept {
            client: "s3-frontend".into(),
            conversation: "metadata".into(),
            origin: Origin::Here,
        }),
        encode::<Connect>(&numbered(ConnectCall::Open {
            service: "metadata".into(),
            conversation: "metadata".into(),
        })),
        encode::<Connect>(&numbered(ConnectCall::OpenOn {
            node: "n2".into(),
            service: "metadata".into(),
            conversation: "peers".into(),
        })),
        encode::<Connect>(&numbered(Ok::<_, BusError>(ConnectAnswer::OpenedAcross(
            Sealing::Relay,
        )))),
        encode::<Supply>(&numbered(SupplyCall::Elsewhere {
            services: vec![("greeter".into(), vec!["n1".into(), "n2".into()])],
        })),
        encode::<Mesh>(&OpenRemote {
            client: "metadata".into(),
            service: "metadata".into(),
            conversation: "peers".into(),
        }),
        encode::<Relay>(&Relayed {
            seal: keys(1),
            open: keys(2),
            about: "metadata to metadata on n2".into(),
        }),
        encode::<Membership>(&numbered(MembershipAnswer::Members(vec![member]))),
        encode::<Membership>(&numbered(MembershipAnswer::Roster(Some(roster.clone())))),
        encode::<Membership>(&numbered(MembershipCall::Learn { roster })),
        encode::<Admission>(&numbered(join)),
        encode::<Blocks>(&numbered(BlockCall::Store {
            id: BlockId([7; 32]),
            key: HashKey([1; 32]),
            bytes: b"a small block".to_vec(),
        })),
        encode::<Blocks>(&numbered(BlockCall::Delete {
            blocks: vec![block; 3],
        })),
        encode::<Blocks>(&numbered(Err::<BlockAnswer, _>(BlockError::Full))),
        encode::<Metadata>(&numbered(answer(Reply::Done))),
        encode::<Peers>(&numbered(PeersCall::Raft {
            shard: 3,
            message: RaftMessage::Append(vec![1, 2, 3]),
        })),
        encode::<Peers>(&numbered(PeersCall::Snapshot {
            shard: 3,
            transfer: 4,
            part: SnapshotPart::Rows {
                number: 0,
                chunks: vec![Chunk(vec![0, 1]); 2],
            },
        })),
        encode::<Peers>(&numbered(PeersAnswer::NotLeader {
            leader: Some("attic".into()),
        })),
        encode::<Operator>(&Verb {
            words: vec!["key".into(), "create".into(), "laptop".into()],
            json: true,
            input: None,
            role: Role::Admin,
        }),
        encode::<Operator>(&Outcome {
            status: 0,
            text: "{}".into(),
            more: true,
        }),
    ];
    seeds.extend(operations.into_iter().map(|operation| {
        encode::<Metadata>(&numbered(Call {
            revision: 5,
            operation,
        }))
    }));
    // Every message here is far below the bound; one that is not would be missed by the test of the seeds.
    seeds.into_iter().map(Result::unwrap_or_default).collect()
}

fn numbered<T>(body: T) -> Numbered<T> {
    Numbered { id: 1, body }
}
