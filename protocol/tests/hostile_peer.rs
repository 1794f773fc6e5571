//! A peer that sends anything: bytes that are no message, too much, too many descriptors. Nothing panics, nothing leaks.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use protocol::block::{BlockCall, BlockId, BlockRef, Blocks, HashKey, Place};
use protocol::bus::{Accept, Connect, ConnectCall, Door, Supply};
use protocol::channel::{Channel, DESCRIPTORS_MAX, ReceiveBuffer, ReceiveError};
use protocol::inspect::{Inspect, InspectAnswer, InspectCall, Operator, Outcome, Power, Verb};
use protocol::membership::Membership;
use protocol::metadata::{
    Attributes, Call, Change, Content, EventKind, Metadata, NewObject, Operation, Precondition,
};
use protocol::peers::{
    Chunk, MasterKeys, Peers, PeersAnswer, PeersCall, RaftMessage, SnapshotPart,
};
use protocol::start::{Order, Say, Start};
use protocol::stream::FRAME_BYTES_MAX;
use protocol::trace::{Row, Side, Trace};
use protocol::verbs::Role;
use protocol::wire::{Conversation, DecodeError, MESSAGE_BYTES_MAX, Numbered, decode, encode};
use rustix::net::{RecvFlags, SendFlags};
use std::fmt::Debug;
use std::os::fd::AsFd;

/// Decodes `bytes` as everything that conversation `C` may carry. What decodes must encode to a message that decodes to the same.
fn check<C: Conversation>(bytes: &[u8]) {
    let mut message = vec![C::NUMBER, C::VERSION];
    message.extend_from_slice(bytes);
    if let Ok(call) = decode::<C, Numbered<C::Call>>(&message) {
        same::<C, Numbered<C::Call>>(&call);
    }
    if let Ok(answer) = decode::<C, Numbered<C::Answer>>(&message) {
        same::<C, Numbered<C::Answer>>(&answer);
    }
}

fn same<C: Conversation, T: serde::Serialize + serde::de::DeserializeOwned + Debug>(message: &T) {
    let again: T = decode::<C, T>(&encode::<C>(message).unwrap()).unwrap();
    assert_eq!(format!("{message:?}"), format!("{again:?}"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_a_decoder(bytes in vec(any::<u8>(), 0..600)) {
        check::<Start>(&bytes);
        check::<Supply>(&bytes);
        check::<Connect>(&bytes);
        check::<Door>(&bytes);
        check::<Membership>(&bytes);
        check::<Blocks>(&bytes);
        check::<Metadata>(&bytes);
        check::<Peers>(&bytes);
        check::<Operator>(&bytes);
        check::<Inspect>(&bytes);
        let _ = decode::<Start, Order>(&bytes);
        let _ = decode::<Start, Say>(&bytes);
        let _ = decode::<Door, Accept>(&bytes);
    }

    #[test]
    fn a_changed_byte_or_a_cut_never_panics_a_decoder(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
        for message in samples() {
            let mut changed = message.clone();
            changed[at.index(message.len())] = to;
            for bytes in [&changed[..], &message[..cut.index(message.len())]] {
                let body = bytes.get(2..).unwrap_or_default();
                check::<Blocks>(body);
                check::<Metadata>(body);
                check::<Peers>(body);
                check::<Connect>(body);
                check::<Operator>(body);
                check::<Inspect>(body);
                let _ = decode::<Start, Say>(bytes);
                let _ = decode::<Start, Order>(bytes);
            }
        }
    }

    #[test]
    fn calls_survive_the_journey(id in any::<u32>(), key in ".{0,80}", bytes in vec(any::<u8>(), 0..9_000), revision in any::<u64>()) {
        let object = NewObject {
            size: bytes.len() as u64, etag: "e".into(), headers: vec![("content-type".into(), key.clone())], checksum: None,
            attributes: Attributes::default(), encryption: None, content: Content::Inline(bytes.clone()),
        };
        let operation = Operation::Change(Change::PutObject {
            bucket: protocol::metadata::BucketId(revision), key, object, precondition: Precondition::Absent, copied: false, event: EventKind::Put,
        });
        same::<Metadata, _>(&Numbered { id, body: Call { revision, operation } });
        let service = key_of(revision);
        for call in [InspectCall::Trace { service: service.clone(), for_ms: revision }, InspectCall::Traced { service }, InspectCall::Power(Power::Reboot)] {
            same::<Inspect, _>(&Numbered { id, body: call });
        }
        same::<Inspect, _>(&Numbered { id, body: InspectAnswer::Traced(trace("blocks", revision)) });
        same::<Start, _>(&Say::Traced { rows: trace("s3", revision).rows, covered_ms: revision, over: true });
        same::<Start, _>(&Order::Trace { for_ms: revision });
        same::<Connect, _>(&Numbered { id, body: ConnectCall::Listen { name: key_of(revision) } });
        same::<Connect, _>(&Numbered { id, body: ConnectCall::Dial { kind: key_of(id.into()), name: key_of(revision) } });
        same::<Operator, _>(&Numbered { id, body: Verb { words: vec![key_of(revision)], json: true, input: Some(key_of(revision)), role: Role::Admin } });
        let shard = 7;
        for call in [
            PeersCall::Raft { shard, message: RaftMessage::Append(bytes.clone()) },
            PeersCall::Snapshot { shard, transfer: revision, part: SnapshotPart::Rows { number: id, chunks: vec![Chunk(bytes.clone()); 3] } },
            PeersCall::Snapshot { shard, transfer: revision, part: SnapshotPart::Install { parts: id, vote: bytes.clone(), meta: bytes.clone() } },
            PeersCall::Propose { shard, change: bytes.clone() },
            PeersCall::Renew { revision },
            PeersCall::Health { layout: true },
            PeersCall::TakeKeys(MasterKeys(bytes.clone())),
        ] {
            same::<Peers, _>(&Numbered { id, body: call });
        }
        for answer in [PeersAnswer::Raft(bytes.clone()), PeersAnswer::Referenced(vec![true; 9]), PeersAnswer::NotLeader { leader: Some(key_of(revision)) }] {
            same::<Peers, _>(&Numbered { id, body: answer });
        }
        same::<Blocks, _>(&Numbered { id, body: BlockCall::Store { id: BlockId([7; 32]), key: HashKey([1; 32]), bytes } });
    }
}

fn key_of(number: u64) -> String {
    format!("service-{number}")
}

/// One message of each conversation that carries bytes of somebody else.
fn samples() -> Vec<Vec<u8>> {
    let block = BlockRef {
        id: BlockId([3; 32]),
        length: 9,
        place: Place::Packed { pack: 1, page: 2 },
    };
    let call = Call {
        revision: 5,
        operation: Operation::Authorize {
            access_key: Some("TRKEY".into()),
            bucket: Some("b".into()),
        },
    };
    vec![
        encode::<Blocks>(&Numbered {
            id: 1,
            body: BlockCall::Delete {
                blocks: vec![block; 20],
            },
        })
        .unwrap(),
        encode::<Peers>(&Numbered {
            id: 1,
            body: PeersCall::Ask {
                client: "s3-frontend".into(),
                call: call.clone(),
            },
        })
        .unwrap(),
        encode::<Peers>(&Numbered {
            id: 2,
            body: PeersCall::Referenced {
                shard: 3,
                blocks: vec![block; 9],
                since: None,
            },
        })
        .unwrap(),
        encode::<Metadata>(&Numbered { id: 1, body: call }).unwrap(),
        encode::<Connect>(&Numbered {
            id: 1,
            body: ConnectCall::Open {
                service: "a".into(),
                conversation: "b".into(),
            },
        })
        .unwrap(),
        encode::<Operator>(&Numbered {
            id: 1,
            body: Verb {
                words: vec!["status".into()],
                json: true,
                input: None,
                role: Role::Inspect,
            },
        })
        .unwrap(),
        encode::<Connect>(&Numbered {
            id: 1,
            body: ConnectCall::Listen { name: "ssh".into() },
        })
        .unwrap(),
        encode::<Inspect>(&Numbered {
            id: 1,
            body: InspectAnswer::Traced(trace("blocks", 7)),
        })
        .unwrap(),
        encode::<Start>(&Say::Traced {
            rows: trace("s3", 8).rows,
            covered_ms: 9,
            over: false,
        })
        .unwrap(),
        encode::<Start>(&Order::Trace { for_ms: 5_000 }).unwrap(),
    ]
}

fn trace(conversation: &str, count: u64) -> Trace {
    let row = Row {
        side: Side::Asked,
        conversation: conversation.into(),
        call: "Open".into(),
        count,
        total_us: count,
        longest_us: 1,
        received: 2,
        given: 0,
    };
    Trace {
        over: true,
        covered_ms: 1_000,
        rows: vec![row; 3],
        denied: vec![("socket".into(), 1)],
        ended: vec!["filter violation socket".into()],
    }
}

#[test]
fn another_conversation_version_or_length_is_told_apart() {
    let message = encode::<Start>(&Say::Alive).unwrap();
    assert_eq!(decode::<Start, Say>(&message), Ok(Say::Alive));
    assert_eq!(
        decode::<Door, Say>(&message),
        Err(DecodeError::Conversation {
            found: 1,
            expected: 4
        })
    );
    assert_eq!(
        decode::<Start, Say>(&[1, 99, 1]),
        Err(DecodeError::Version {
            found: 99,
            expected: Start::VERSION
        })
    );
    assert_eq!(decode::<Start, Say>(&[1]), Err(DecodeError::Short));
    let mut longer = message.clone();
    longer.push(0);
    assert_eq!(decode::<Start, Say>(&longer), Err(DecodeError::Malformed));
    assert_eq!(
        decode::<Start, Say>(&vec![1; MESSAGE_BYTES_MAX + 1]),
        Err(DecodeError::Long)
    );
    assert_eq!(
        encode::<Operator>(&Outcome {
            status: 0,
            text: "x".repeat(MESSAGE_BYTES_MAX),
            more: false
        }),
        Err(DecodeError::Long)
    );
}

#[test]
fn conversations_have_numbers_and_names_of_their_own() {
    fn of<C: Conversation>() -> (u8, &'static str) {
        (C::NUMBER, C::NAME)
    }
    let all = [
        of::<Start>(),
        of::<Supply>(),
        of::<Connect>(),
        of::<Door>(),
        of::<Membership>(),
        of::<Blocks>(),
        of::<Metadata>(),
        of::<Operator>(),
        of::<Inspect>(),
    ];
    let numbers: std::collections::BTreeSet<u8> = all.iter().map(|one| one.0).collect();
    let names: std::collections::BTreeSet<&str> = all.iter().map(|one| one.1).collect();
    assert_eq!((numbers.len(), names.len()), (all.len(), all.len()));
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The one test that counts descriptors, so that no neighbour opens some meanwhile: three promises about what a packet brings.
#[test]
fn descriptors_arrive_closed_on_exec_and_refused_ones_leak_nothing() {
    let (ours, theirs) = Channel::pair().unwrap();
    let mut buffer = ReceiveBuffer::new();
    let null = std::fs::File::open("/dev/null").unwrap();

    theirs
        .send(b"two", &[null.as_fd(), null.as_fd()], SendFlags::empty())
        .unwrap();
    let packet = ours
        .receive(&mut buffer, RecvFlags::empty())
        .unwrap()
        .unwrap();
    assert_eq!(
        (packet.bytes.as_slice(), packet.descriptors.len()),
        (&b"two"[..], 2)
    );
    for descriptor in &packet.descriptors {
        assert!(
            rustix::io::fcntl_getfd(descriptor)
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
    }
    drop(packet);

    // A peer that is not bound by our own sender: more descriptors than a packet of ours may have.
    let before = open_descriptors();
    send_raw(&theirs, b"flood", DESCRIPTORS_MAX + 5, &null);
    let refused = ours.receive(&mut buffer, RecvFlags::empty());
    assert!(
        matches!(refused, Err(ReceiveError::Truncated)),
        "{refused:?}"
    );
    assert_eq!(open_descriptors(), before);

    // More bytes than a packet of ours may have, with a descriptor.
    let size = MESSAGE_BYTES_MAX + 1;
    rustix::net::sockopt::set_socket_send_buffer_size(&theirs, 4 * size).unwrap();
    send_raw(&theirs, &vec![0; size], 1, &null);
    let refused = ours.receive(&mut buffer, RecvFlags::empty());
    assert!(
        matches!(refused, Err(ReceiveError::Truncated)),
        "{refused:?}"
    );
    assert_eq!(open_descriptors(), before);

    drop(theirs);
    assert!(
        ours.receive(&mut buffer, RecvFlags::empty())
            .unwrap()
            .is_none()
    );
}

fn send_raw(channel: &Channel, bytes: &[u8], count: usize, what: &std::fs::File) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
    let lent = vec![what.as_fd(); count];
    let mut space = vec![std::mem::MaybeUninit::uninit(); 4_096];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&lent)));
    sendmsg(
        channel,
        &[std::io::IoSlice::new(bytes)],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
}

#[test]
fn the_sender_refuses_what_the_receiver_would() {
    let (ours, _theirs) = Channel::pair().unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let many = vec![null.as_fd(); DESCRIPTORS_MAX + 1];
    assert_eq!(
        ours.send(b"x", &many, SendFlags::empty()),
        Err(rustix::io::Errno::INVAL)
    );
    assert_eq!(
        ours.send(&vec![0; MESSAGE_BYTES_MAX + 1], &[], SendFlags::empty()),
        Err(rustix::io::Errno::MSGSIZE)
    );
}

#[test]
fn a_hash_key_is_not_printed() {
    let key = format!("{:?}", HashKey([0xAB; 32]));
    assert!(!key.to_lowercase().contains("ab, ") && !key.contains("171"));
}

#[test]
fn only_a_conversation_between_nodes_has_messages_longer_than_a_packet() {
    let long = |length| PeersCall::Propose {
        shard: 0,
        change: vec![1; length],
    };
    let message = encode::<Peers>(&long(FRAME_BYTES_MAX - 64)).unwrap();
    assert!(decode::<Peers, PeersCall>(&message).is_ok());
    assert_eq!(
        encode::<Peers>(&long(FRAME_BYTES_MAX)),
        Err(DecodeError::Long)
    );
    let bytes = vec![1_u8; MESSAGE_BYTES_MAX + 1];
    assert_eq!(
        decode::<Metadata, Call>(&bytes).err(),
        Some(DecodeError::Long)
    );
}

#[test]
fn master_keys_are_not_shown() {
    let call = PeersCall::TakeKeys(MasterKeys(b"1 abcdef".to_vec()));
    assert!(!format!("{call:?}").contains("97"));
}
