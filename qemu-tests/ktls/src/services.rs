//! Two services on two nodes, as the bus leaves them: a question and its answer over `runtime::Stream`, and every way in which that may end.

use crate::{Outcome, PROGRAM};
use protocol::channel::{MessageError, ReceiveError};
use protocol::relay::RecordKeys;
use protocol::stream::FRAME_BYTES_MAX;
use protocol::wire::Conversation;
use runtime::Stream;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{Shutdown, shutdown};
use serde::de::DeserializeOwned;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

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

/// How the client ends, and what the server then says.
const ENDINGS: [&str; 3] = ["hang-up", "crash", "half-message"];

/// Plays the buses of both nodes: each ending in turn.
pub(crate) fn talk() -> Outcome {
    match bus::kernel_tls::is_there() {
        Ok(()) => eprintln!("ktls: the bus finds that the kernel does TLS"),
        Err(why) => eprintln!("ktls: the bus finds that the kernel does no TLS: {why}"),
    }
    for ending in ENDINGS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let from = TcpStream::connect(listener.local_addr()?)?;
        let (to, _) = listener.accept()?;
        let keys = |byte| RecordKeys {
            key: [byte; 16],
            iv: [byte; 12],
            sequence: 3,
        };
        bus::kernel_tls::give(from.as_fd(), keys(1), keys(2))?;
        bus::kernel_tls::give(to.as_fd(), keys(2), keys(1))?;
        let start = |role: &str, end: TcpStream| {
            let end = Stdio::from(OwnedFd::from(end));
            Command::new(PROGRAM).arg(role).stdin(end).spawn()
        };
        let mut server = start("serve", to)?;
        let mut client = start(ending, from)?;
        client.wait()?;
        server.wait()?;
    }
    Ok(())
}

/// A service that was started with its end of the connection as standard input.
pub(crate) fn play(role: &str) -> Outcome {
    let stream = Stream::new(std::io::stdin().as_fd().try_clone_to_owned()?);
    if role == "serve" {
        return serve(&stream);
    }
    // More than the sockets hold, in both directions.
    let question = vec![7_u8; FRAME_BYTES_MAX - 100];
    send(&stream, &question)?;
    let answer: Option<Vec<u8>> = receive(&stream)?;
    let same = answer.is_some_and(|answer| answer == question);
    eprintln!("ktls: {role}: the answer is the question: {same}");
    match role {
        "hang-up" => drop(stream),
        // The kernel closes, and says no farewell.
        "crash" => std::process::exit(0),
        _ => {
            runtime::send_some(stream.as_fd(), &[&[9, 0, 0, 0, 1]])?;
            shutdown(&stream, Shutdown::Write)?;
            std::process::exit(0);
        }
    }
    Ok(())
}

fn serve(stream: &Stream) -> Outcome {
    loop {
        match receive::<Vec<u8>>(stream) {
            Ok(Some(call)) => send(stream, &call)?,
            Ok(None) => return say("it was hung up in order"),
            Err(MessageError::Receive(ReceiveError::Cut)) => return say("it was cut off"),
            Err(error) => return say(&error.to_string()),
        }
    }
}

fn say(what: &str) -> Outcome {
    eprintln!("ktls: the server found: {what}");
    Ok(())
}

fn receive<T: DeserializeOwned>(stream: &Stream) -> Result<Option<T>, MessageError> {
    loop {
        match stream.receive_message::<Echo, T>() {
            Err(error) if error.would_block() => wait(stream, PollFlags::IN),
            other => return other,
        }
    }
}

fn send(stream: &Stream, message: &Vec<u8>) -> Outcome {
    stream.send_message::<Echo>(message)?;
    while stream.is_sending() {
        wait(stream, PollFlags::OUT);
        match stream.flush() {
            Ok(()) | Err(rustix::io::Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn wait(stream: &Stream, flags: PollFlags) {
    let mut set = [PollFd::new(stream, flags)];
    let _ = poll(&mut set, None);
}
