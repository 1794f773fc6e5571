//! Clients and servers over both transports, in one thread: the test is the bus and the supervisor.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use crate::{
    AsyncChannel, CallError, Client, Conversations, Doorway, Given, Serve, Stream, Supervisor,
};
use proptest::prelude::*;
use protocol::bus::{Accept, Door, Origin};
use protocol::channel::{MessageError, ReceiveBuffer, ReceiveError};
use protocol::cluster::NodeKey;
use protocol::start::{Order, Packed, Start};
use protocol::stream::FRAME_BYTES_MAX;
use protocol::wire::{Conversation, MESSAGE_BYTES_MAX, Numbered};
use protocol::{Channel, stream, wire};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, sendmsg, socketpair,
};
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use tokio::task::LocalSet;

/// Gives back what it is sent.
enum Echo {}

impl Conversation for Echo {
    type Call = Vec<u8>;
    type Answer = Vec<u8>;
    const NAME: &'static str = "echo";
    const NUMBER: u8 = 200;
    const VERSION: u8 = 1;
    const BYTES_MAX: usize = FRAME_BYTES_MAX;
}

/// Says where the client is.
enum Whence {}

impl Conversation for Whence {
    type Call = ();
    type Answer = String;
    const NAME: &'static str = "whence";
    const NUMBER: u8 = 201;
    const VERSION: u8 = 1;
}

struct Both;

impl Serve<Echo> for Both {
    type Session = ();

    fn connected(&self, _: Accept) {}

    async fn answer(&self, (): &(), call: Vec<u8>, _: Vec<OwnedFd>) -> (Vec<u8>, Vec<OwnedFd>) {
        (call, Vec::new())
    }
}

impl Serve<Whence> for Both {
    type Session = Origin;

    fn connected(&self, accept: Accept) -> Origin {
        accept.origin
    }

    async fn answer(&self, whence: &Origin, (): (), _: Vec<OwnedFd>) -> (String, Vec<OwnedFd>) {
        (format!("{whence:?}"), Vec::new())
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
}

/// A client over a byte stream, as to another node.
fn across<C: Conversation>(socket: OwnedFd) -> Client<C> {
    Client::over(AsyncChannel::on_stream(socket).unwrap())
}

/// The supervisor's end, which has to live as long as the service.
fn supervisor() -> (Channel, Supervisor) {
    let (ours, theirs) = Channel::pair().unwrap();
    let packed = Order::Packed(Packed {
        service: "both".into(),
        grants: vec![],
        settings: vec![],
    });
    ours.send_message::<Start>(&packed, &[], SendFlags::empty())
        .unwrap();
    (ours, Given::over(theirs).unwrap().finish().unwrap())
}

fn member() -> Origin {
    Origin::Member {
        name: "n2".into(),
        key: NodeKey([7; 32]),
    }
}

/// Brings a server a client who is there, in this conversation.
fn come(door: &Channel, conversation: &str, origin: Origin, end: &OwnedFd) {
    let accept = Accept {
        client: "tester".into(),
        conversation: conversation.into(),
        origin,
    };
    door.send_message::<Door>(&accept, &[end.as_fd()], SendFlags::empty())
        .unwrap();
}

fn run(test: impl Future<Output = ()>) {
    LocalSet::new().block_on(&crate::event_loop().unwrap(), test);
}

/// A service with both conversations at its door, for the time of the test.
fn with_service(test: impl AsyncFnOnce(Channel)) {
    run(async {
        let (door, theirs) = Channel::pair().unwrap();
        let (_supervises, supervisor) = supervisor();
        let service = Rc::new(Both);
        let conversations = Conversations::of::<Echo, _>(service.clone()).and::<Whence, _>(service);
        tokio::select! {
            ended = crate::serve_all(theirs, supervisor, conversations) => panic!("{ended:?}"),
            () = test(door) => {}
        }
    });
}

#[test]
fn a_door_serves_each_conversation_over_either_transport() {
    with_service(async |door| {
        let (ours, theirs) = Channel::pair().unwrap();
        come(&door, "whence", Origin::Here, &theirs.into_socket());
        let here = Client::<Whence>::new(ours).unwrap();
        assert_eq!(here.call(&(), &[]).await.unwrap().0, "Here");
        let (ours, theirs) = pair();
        come(&door, "whence", member(), &theirs);
        drop(theirs);
        let there = across::<Whence>(ours);
        let said = there.call(&(), &[]).await.unwrap().0;
        assert!(said.starts_with("Member { name: \"n2\""), "{said}");
        let (ours, theirs) = pair();
        come(&door, "echo", member(), &theirs);
        drop(theirs);
        let echo = across::<Echo>(ours);
        assert_eq!(echo.call(&vec![1], &[]).await.unwrap().0, [1]);
        // What is not served here: the client sees a hang-up, and nobody else does.
        let (ours, theirs) = pair();
        come(&door, "blocks", member(), &theirs);
        drop(theirs);
        let blocks = across::<Echo>(ours);
        assert!(blocks.call(&vec![1], &[]).await.is_err());
        assert_eq!(echo.call(&vec![2], &[]).await.unwrap().0, [2]);
    });
}

#[test]
fn many_calls_at_once_longer_than_any_packet_come_back_as_they_went() {
    with_service(async |door| {
        let (ours, theirs) = pair();
        come(&door, "echo", member(), &theirs);
        drop(theirs);
        let echo = across::<Echo>(ours);
        let tasks: Vec<_> = (0..40_u8)
            .map(|number| {
                let echo = echo.clone();
                tokio::task::spawn_local(async move {
                    let call = vec![number; 3 * MESSAGE_BYTES_MAX + usize::from(number)];
                    assert_eq!(echo.call(&call, &[]).await.unwrap().0, call);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let long = vec![0; FRAME_BYTES_MAX];
        assert_eq!(echo.call(&long, &[]).await.unwrap_err(), CallError::TooLong);
        assert_eq!(echo.call(&vec![5], &[]).await.unwrap().0, [5]);
    });
}

#[test]
fn a_call_that_is_dropped_half_way_does_not_disturb_the_next() {
    with_service(async |door| {
        let (ours, theirs) = pair();
        let echo = across::<Echo>(ours);
        // Nobody reads yet, so this frame is begun and does not wholly go.
        let long = vec![3; FRAME_BYTES_MAX - 100];
        let begun = tokio::time::timeout(std::time::Duration::from_millis(50), async {
            echo.call(&long, &[]).await
        });
        assert!(begun.await.is_err());
        come(&door, "echo", member(), &theirs);
        drop(theirs);
        assert_eq!(echo.call(&vec![4], &[]).await.unwrap().0, [4]);
    });
}

/// What a reader finds who was sent these bytes, and then the end.
fn read_all(bytes: &[u8]) -> Result<Vec<Vec<u8>>, ReceiveError> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let reader = Stream::new(ours.into());
    let mut writer = theirs;
    let mut found = Vec::new();
    // In pieces, since a socket has room for so much only.
    for piece in bytes.chunks(1_000) {
        writer.write_all(piece).unwrap();
        loop {
            match reader.receive() {
                Ok(frame) => found.push(frame.unwrap()),
                Err(ReceiveError::System(Errno::AGAIN)) => break,
                Err(error) => return Err(error),
            }
        }
    }
    drop(writer);
    while let Some(frame) = reader.receive()? {
        found.push(frame);
    }
    assert!(matches!(reader.receive(), Ok(None)), "it stays at its end");
    Ok(found)
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_an_error_and_between_two_it_is_the_end() {
    let frame = stream::frame(b"message").unwrap();
    let twice = [frame.as_slice(), &frame].concat();
    assert_eq!(read_all(&twice).unwrap(), [b"message", b"message"]);
    assert_eq!(read_all(&[]).unwrap(), Vec::<Vec<u8>>::new());
    for cut in (1..twice.len()).filter(|cut| *cut != frame.len()) {
        let ended = read_all(&twice[..cut]).unwrap_err();
        assert!(matches!(ended, ReceiveError::Cut), "{cut} {ended}");
    }
    let too_long = (FRAME_BYTES_MAX as u32 + 1).to_le_bytes();
    let refused = read_all(&too_long).unwrap_err();
    assert!(matches!(refused, ReceiveError::Truncated), "{refused}");
}

#[test]
fn no_descriptor_comes_out_of_a_stream_nor_goes_into_one() {
    run(async {
        let (ours, theirs) = pair();
        let channel = AsyncChannel::on_stream(ours).unwrap();
        let (gift, witness) = pair();
        let frame = stream::frame(b"with a gift").unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let rights = [gift.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
        let parts = [IoSlice::new(&frame)];
        sendmsg(&theirs, &parts, &mut control, SendFlags::empty()).unwrap();
        drop(gift);
        let packet = channel.receive().await.unwrap().unwrap();
        assert_eq!(packet.bytes, b"with a gift");
        assert!(packet.descriptors.is_empty());
        let mut byte = [0];
        let end = UnixStream::from(witness).read(&mut byte).unwrap();
        assert_eq!(end, 0, "nobody holds what came along");
        let refused = channel.send(b"message", &[theirs.as_fd()]).await;
        let unsent = matches!(refused, Err(MessageError::Send(Errno::OPNOTSUPP)));
        assert!(unsent, "{refused:?}");
    });
}

/// Answers with a descriptor.
enum Gift {}

impl Conversation for Gift {
    type Call = ();
    type Answer = ();
    const NAME: &'static str = "gift";
    const NUMBER: u8 = 202;
    const VERSION: u8 = 1;
}

impl Serve<Gift> for Both {
    type Session = ();

    fn connected(&self, _: Accept) {}

    async fn answer(&self, (): &(), (): (), _: Vec<OwnedFd>) -> ((), Vec<OwnedFd>) {
        ((), vec![pair().0])
    }
}

#[test]
fn who_would_give_a_descriptor_to_another_node_is_told_at_once() {
    with_service(async |door| {
        let (ours, theirs) = pair();
        come(&door, "echo", member(), &theirs);
        let echo = across::<Echo>(ours);
        let refused = echo.call(&vec![1], &[theirs.as_fd()]).await;
        assert_eq!(refused.unwrap_err(), CallError::Descriptors);
        assert_eq!(echo.call(&vec![2], &[]).await.unwrap().0, [2], "it goes on");
    });
    run(async {
        let (door, theirs) = Channel::pair().unwrap();
        let (_supervises, supervisor) = supervisor();
        let (here, there) = (Channel::pair().unwrap(), pair());
        come(&door, "gift", Origin::Here, &here.1.into_socket());
        come(&door, "gift", member(), &there.1);
        drop(there.1);
        let test = async {
            let here = Client::<Gift>::new(here.0).unwrap();
            assert_eq!(here.call(&(), &[]).await.unwrap().1.len(), 1);
            let lost = across::<Gift>(there.0).call(&(), &[]).await;
            assert_eq!(lost.unwrap_err(), CallError::Lost, "no answer without it");
        };
        tokio::select! {
            ended = crate::serve::<Gift, _>(theirs, supervisor, Rc::new(Both)) => panic!("{ended:?}"),
            () = test => {}
        }
    });
}

#[test]
fn a_poll_loop_serves_its_own_node_and_hangs_up_on_others() {
    let (door, theirs) = Channel::pair().unwrap();
    let mut doorway = Doorway::<Echo>::new(theirs);
    let (near, end) = Channel::pair().unwrap();
    come(&door, "echo", Origin::Here, &end.into_socket());
    let (far, end) = pair();
    come(&door, "echo", member(), &end);
    drop(end);
    let call = Numbered {
        id: 1,
        body: vec![7_u8],
    };
    near.send_message::<Echo>(&call, &[], SendFlags::empty())
        .unwrap();
    let mut buffer = ReceiveBuffer::new();
    let turned = doorway.turn(&mut buffer, |client, call, _| {
        assert_eq!(client, "tester");
        call
    });
    turned.unwrap();
    let answer = near.receive_message::<Echo, Numbered<Vec<u8>>>(&mut buffer, RecvFlags::DONTWAIT);
    assert_eq!(answer.unwrap().unwrap().0.body, [7]);
    let ended = UnixStream::from(far).read(&mut [0]);
    assert_eq!(ended.unwrap(), 0, "it is told at once");
}

#[test]
fn a_loop_without_tokio_sends_a_long_message_piece_by_piece() {
    let (ours, theirs) = pair();
    let (writer, reader) = (Stream::new(ours), Stream::new(theirs));
    let long = vec![9_u8; FRAME_BYTES_MAX - 10];
    writer.send_message::<Echo>(&long).unwrap();
    assert!(writer.is_sending());
    let refused = writer.send_message::<Echo>(&vec![1_u8]).unwrap_err();
    assert!(refused.would_block());
    let found = loop {
        match reader.receive_message::<Echo, Vec<u8>>() {
            Err(error) if error.would_block() => {
                let _ = writer.flush();
            }
            other => break other.unwrap().unwrap(),
        }
    };
    assert!(found == long && !writer.is_sending());
    writer.send_message::<Echo>(&vec![1_u8]).unwrap();
    drop(writer);
    let last = reader.receive_message::<Echo, Vec<u8>>().unwrap();
    assert_eq!(last.unwrap(), [1]);
    let ended = reader.receive_message::<Echo, Vec<u8>>().unwrap();
    assert_eq!(ended, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whoever_talks_nonsense_over_a_stream_is_hung_up_and_nobody_else_is(
        bytes in proptest::collection::vec(any::<u8>(), 1..400),
        framed: bool,
    ) {
        with_service(async |door| {
            let (good, theirs) = pair();
            come(&door, "echo", member(), &theirs);
            let (liar, theirs) = pair();
            come(&door, "echo", member(), &theirs);
            drop(theirs);
            let echo = across::<Echo>(good);
            let mut liar = UnixStream::from(liar);
            let bytes = if framed { stream::frame(&bytes).unwrap() } else { bytes };
            liar.write_all(&bytes).unwrap();
            liar.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(echo.call(&vec![8], &[]).await.unwrap().0, [8]);
            // Hung up, or at its own end; unless it made a call by chance.
            let call = wire::decode::<Echo, Numbered<Vec<u8>>>(bytes.get(4..).unwrap_or_default());
            if call.is_err() {
                let liar = AsyncChannel::on_stream(liar.into()).unwrap();
                let ended = liar.receive().await;
                assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
            }
        });
    }
}
