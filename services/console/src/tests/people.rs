//! People at the control socket.

use super::*;
use crate::sessions::Control;
use protocol::Channel;
use protocol::channel::ReceiveBuffer;
use protocol::inspect::{Operator, Outcome};
use protocol::wire::{Conversation, Numbered};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect,
    listen, socket_with,
};
use std::path::Path;
use std::time::Duration;

fn socket(flags: SocketFlags) -> std::os::fd::OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

/// A console that listens at `path`.
fn open(world: &Rc<World>, path: &Path) {
    let listener = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
    bind(&listener, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&listener, 64).unwrap();
    let verbs = console(world);
    tokio::task::spawn_local(async move {
        Control::new(listener).unwrap().serve(verbs).await.unwrap();
    });
}

fn person(path: &Path) -> Channel {
    let person = socket(SocketFlags::CLOEXEC);
    connect(&person, &SocketAddrUnix::new(path).unwrap()).unwrap();
    person.into()
}

fn send(person: &Channel, words: &[&str], json: bool) {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    let role = Role::Admin;
    let body = Verb {
        words,
        json,
        input: None,
        role,
    };
    person
        .send_message::<Operator>(&Numbered { id: 3, body }, &[], SendFlags::empty())
        .unwrap();
}

/// The pieces of one answer; `None` if the console has hung up instead.
async fn receive(person: &Channel) -> Option<Vec<Outcome>> {
    let mut pieces = Vec::new();
    let mut buffer = ReceiveBuffer::new();
    loop {
        let piece =
            person.receive_message::<Operator, Numbered<Outcome>>(&mut buffer, RecvFlags::DONTWAIT);
        match piece {
            Ok(None) => return None,
            Ok(Some((Numbered { id, body }, _))) => {
                assert_eq!(id, 3);
                assert!(body.text.len() <= TEXT_BYTES_MAX);
                let more = body.more;
                pieces.push(body);
                if !more {
                    return Some(pieces);
                }
            }
            Err(error) if error.would_block() => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_long_answer_comes_in_pieces_and_no_character_is_cut() {
    run(async {
        let world = World::new();
        let line = "ä€😀".repeat(7); // as many as fit the answer to the console
        world.log.borrow_mut().extend(vec![line.clone(); LIST_MAX]);
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("control");
        open(&world, &path);
        let person = person(&path);
        send(&person, &["logs", "--lines", "1000"], true);
        let pieces = receive(&person).await.unwrap();
        assert!(pieces.len() > 1);
        let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        let lines: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(lines, vec![line; LIST_MAX]);
        // The same person may ask on.
        send(&person, &["status"], false);
        let pieces = receive(&person).await.unwrap();
        assert_eq!((pieces.len(), pieces[0].status), (1, 0));
    });
}

#[test]
fn who_talks_nonsense_is_hung_up_and_the_others_are_served() {
    run(async {
        let world = World::new();
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("control");
        open(&world, &path);
        let other = person(&path);
        let header = [Operator::NUMBER, Operator::VERSION];
        let nonsense: [&[u8]; 4] = [
            b"x",
            &header,
            &[header[0], 99, 0, 0],
            &[header[0], header[1], 0, 255],
        ];
        for bytes in nonsense {
            let liar = person(&path);
            liar.send(bytes, &[], SendFlags::empty()).unwrap();
            assert!(receive(&liar).await.is_none(), "{bytes:?}");
        }
        send(&other, &["members"], false);
        assert_eq!(receive(&other).await.unwrap()[0].status, 0);
    });
}

#[test]
fn a_crowd_that_says_nothing_makes_the_next_wait_and_no_longer() {
    run(async {
        let world = World::new();
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("control");
        open(&world, &path);
        let crowd: Vec<Channel> = (0..40).map(|_| person(&path)).collect();
        let late = person(&path);
        send(&late, &["members"], false);
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(crowd);
        assert_eq!(receive(&late).await.unwrap()[0].status, 0);
    });
}
