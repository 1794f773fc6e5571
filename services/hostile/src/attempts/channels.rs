//! Breaking the protocol on channels that were granted, with calls that every service has.
//!
//! Whether the peer hangs up, ends the process or ignores it is for the test to see: sending
//! succeeds, and that says nothing.

use super::Attempt;
use crate::stage::{DESCRIPTORS_MAX, Stage};
use crate::sys;
use protocol::Channel;
use protocol::bus::{BusError, Connect, ConnectCall};
use protocol::channel::ReceiveBuffer;
use protocol::start::{Order, Say, Start};
use protocol::wire::{self, Conversation, Numbered};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::os::fd::{AsFd, BorrowedFd};

/// More than a queue of packets holds, and than anybody should read in one turn.
const PACKETS: usize = 10_000;

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::code("garbage-to-supervisor", "", |stage| {
        Stage::send(stage.start_channel(), b"\xff\xfenot a message", &[])
    }),
    Attempt::code("garbage-to-everybody", "", |stage| {
        stage
            .channels()
            .try_for_each(|channel| Stage::send(channel, &[0xa5; 777], &[]))
    }),
    // The header of a conversation of a version to come.
    Attempt::code("version-of-the-future", "", |stage| {
        Stage::send(stage.start_channel(), &[1, 255, 0], &[])
    }),
    Attempt::code("packet-too-long", "", |stage| {
        let long = vec![0x41; wire::MESSAGE_BYTES_MAX + 1];
        stage
            .channels()
            .try_for_each(|channel| Stage::send(channel, &long, &[]))
    }),
    // Nobody expects descriptors with these; they must not pile up in the receiver.
    Attempt::code("descriptors-to-supervisor", "", |stage| {
        let alive = encode(&Say::Alive)?;
        Stage::send(stage.start_channel(), &alive, &[stage.start_channel(); 8])
    }),
    Attempt::code("descriptor-flood", "", |stage| {
        let alive = encode(&Say::Alive)?;
        for channel in stage.channels() {
            let copies: [BorrowedFd<'_>; DESCRIPTORS_MAX] = [channel; DESCRIPTORS_MAX];
            for _ in 0..stage.amount.unwrap_or(64) {
                Stage::send(channel, &alive, &copies)?;
            }
        }
        Ok(())
    }),
    Attempt::code("packet-flood", "", |stage| {
        let alive = encode(&Say::Alive)?;
        for _ in 0..stage.amount.unwrap_or(PACKETS) {
            match Stage::send(stage.start_channel(), &alive, &[]) {
                // The supervisor does not keep up, which is what a flood is for.
                Ok(()) | Err(Errno::AGAIN) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }),
    // A supervisor's word, from the wrong side.
    Attempt::code("give-an-order", "", |stage| {
        let order = wire::encode::<Start>(&Order::Stop).map_err(|_| Errno::BADMSG)?;
        Stage::send(stage.start_channel(), &order, &[])
    }),
    // Out of the node, by the bus, without a word of it in the manifest.
    Attempt::code("dial-a-webhook", "", |stage| {
        let bus = the_bus(stage)?;
        let dial = |name: &str| {
            let (kind, name) = ("webhook".into(), name.into());
            ask(&bus, ConnectCall::Dial { kind, name })
        };
        // The one that there is, and one that there is not: neither answer may tell which is which.
        match (dial("hook"), dial("nobody")) {
            (Err(one), Err(other)) if one == other => Err(one),
            _ => Ok(()),
        }
    }),
    // To another node, by the bus, without a word of it in the manifest: what is served across nodes, and what is not.
    Attempt::code("open-on-another-node", "", |stage| {
        let bus = the_bus(stage)?;
        let open = |conversation: &str| {
            let (node, service) = ("another".into(), "metadata".into());
            let conversation = conversation.into();
            ask(
                &bus,
                ConnectCall::OpenOn {
                    node,
                    service,
                    conversation,
                },
            )
        };
        // Whether there is such a node is not told either.
        match (open("peers"), open("metadata")) {
            (Err(one), Err(other)) if one == other => Err(one),
            _ => Ok(()),
        }
    }),
    Attempt::code("ready-twice", "", |stage| {
        for _ in 0..2 {
            stage.supervisor.ready("again").map_err(|_| Errno::PIPE)?;
        }
        Ok(())
    }),
    Attempt::code("ready-with-a-long-story", "", |stage| {
        stage
            .supervisor
            .ready("x".repeat(100_000))
            .map_err(|_| Errno::PIPE)
    }),
    Attempt::code("say-failed", "", |stage| {
        stage
            .supervisor
            .failed("it was asked to fail")
            .map_err(|_| Errno::PIPE)
    }),
    Attempt::code("never-ready", "", |stage| {
        stage.wait_for_the_end();
        std::process::exit(0)
    }),
    Attempt::code("exit", "", |_| std::process::exit(7)),
    Attempt::code("crash", "", |_| sys::crash()),
];

/// The restricted bus channel that it was given.
fn the_bus(stage: &mut Stage) -> Result<Channel, Errno> {
    let of_the_bus = |(name, _): &(String, _)| name == "bus";
    let at = stage.targets.iter().position(of_the_bus);
    let (_, bus) = stage.targets.swap_remove(at.ok_or(Errno::NODEV)?);
    Ok(Channel::from(bus))
}

/// Asks the bus, and waits for the answer.
fn ask(bus: &Channel, body: ConnectCall) -> Result<(), Errno> {
    let call = Numbered { id: 0, body };
    let call = wire::encode::<Connect>(&call).map_err(|_| Errno::BADMSG)?;
    Stage::send(bus.as_fd(), &call, &[])?;
    let answer = bus.receive_message::<Connect, Numbered<<Connect as Conversation>::Answer>>(
        &mut ReceiveBuffer::new(),
        RecvFlags::empty(),
    );
    match answer {
        Ok(Some((Numbered { body: Ok(_), .. }, _))) => Ok(()),
        Ok(Some((answer, _))) if answer.body == Err(BusError::Denied) => Err(Errno::ACCESS),
        Ok(Some(_)) => Err(Errno::INVAL),
        Ok(None) | Err(_) => Err(Errno::PIPE),
    }
}

fn encode(say: &Say) -> Result<Vec<u8>, Errno> {
    wire::encode::<Start>(say).map_err(|_| Errno::BADMSG)
}
