//! Serving in a poll loop, for the daemons that are too small for an async runtime: connections come in by the door, calls are
//! answered at once and in order.

use crate::Error;
use crate::trace;
use protocol::Channel;
use protocol::bus::{Accept, Door, Origin};
use protocol::channel::{MessageError, ReceiveBuffer};
use protocol::trace::Side;
use protocol::wire::{Conversation, Numbered};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// So many calls of one connection are answered in a turn, so that nobody is starved.
const CALLS_PER_TURN_MAX: usize = 16;

/// A door and the connections that came in by it, in conversation `C`.
pub struct Doorway<C: Conversation> {
    door: Channel,
    connections: Vec<Connection>,
    conversation: std::marker::PhantomData<C>,
}

/// One that was let in.
struct Connection {
    client: String,
    conversation: String,
    channel: Channel,
}

impl<C: Conversation> Doorway<C> {
    /// Nobody has come in yet.
    pub fn new(door: Channel) -> Self {
        Self {
            door,
            connections: Vec::new(),
            conversation: std::marker::PhantomData,
        }
    }

    /// All descriptors that tell of something new.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.door.as_fd())
            .chain(self.connections.iter().map(|one| one.channel.as_fd()))
    }

    /// Lets in who waits at the door and answers what was asked; never waits. `answer` is told the client's name, as the bus knows it.
    ///
    /// Errors with [`Error::HungUp`] when the other end of the door is gone: the bus has ended, and will hand out another door.
    pub fn turn(
        &mut self,
        buffer: &mut ReceiveBuffer,
        answer: impl FnMut(&str, C::Call, Vec<OwnedFd>) -> C::Answer,
    ) -> Result<(), Error> {
        loop {
            match self
                .door
                .receive_message::<Door, Accept>(buffer, RecvFlags::DONTWAIT)
            {
                Ok(None) => return Err(Error::HungUp),
                Ok(Some((accept, mut descriptors))) => {
                    let Some(socket) = descriptors.pop() else {
                        continue;
                    };
                    // A byte stream, which needs more than this loop: whose clients may be elsewhere serves with `serve`.
                    if accept.origin != Origin::Here {
                        let Accept { client, .. } = &accept;
                        crate::error!("{client} is on another node, and is not served from here");
                        let _ = rustix::net::shutdown(&socket, Shutdown::Both);
                        continue;
                    }
                    self.connections.push(Connection {
                        client: accept.client,
                        conversation: accept.conversation,
                        channel: socket.into(),
                    });
                }
                Err(error) if error.would_block() => break,
                Err(error) => return Err(Error::Channel(error)),
            }
        }
        self.answer::<C>(buffer, answer);
        Ok(())
    }

    /// Answers what those ask who came in for another conversation, `D`. They are let in by [`Doorway::turn`].
    pub fn answer<D: Conversation>(
        &mut self,
        buffer: &mut ReceiveBuffer,
        mut answer: impl FnMut(&str, D::Call, Vec<OwnedFd>) -> D::Answer,
    ) {
        self.connections.retain(|one| {
            let goes_on = one.conversation != D::NAME || one.answer_calls::<D>(buffer, &mut answer);
            if !goes_on {
                // Said aloud, since the bus holds a duplicate of our end.
                let _ = rustix::net::shutdown(&one.channel, Shutdown::Both);
            }
            goes_on
        });
    }
}

impl Connection {
    /// Whether the connection goes on.
    fn answer_calls<C: Conversation>(
        &self,
        buffer: &mut ReceiveBuffer,
        answer: &mut impl FnMut(&str, C::Call, Vec<OwnedFd>) -> C::Answer,
    ) -> bool {
        let Self {
            client, channel, ..
        } = self;
        for _ in 0..CALLS_PER_TURN_MAX {
            let received =
                channel.receive_message::<C, Numbered<C::Call>>(buffer, RecvFlags::DONTWAIT);
            let (Numbered { id, body }, descriptors) = match received {
                Ok(Some(call)) => call,
                Ok(None) => return false,
                Err(error) => return error.would_block(),
            };
            let begun = trace::begin(Side::Served, C::NAME, C::kind(&body));
            let received = descriptors.len();
            let body = answer(client, body, descriptors);
            begun.over(received, 0);
            let reply = Numbered { id, body };
            // A client that asks and does not read is hung up on instead of being waited for.
            match channel.send_message::<C>(&reply, &[], SendFlags::DONTWAIT) {
                Ok(()) => {}
                Err(MessageError::Decode(error)) => {
                    crate::error!("{}: answer to {client} not sent: {error}", C::NAME);
                    return false;
                }
                Err(_) => return false,
            }
        }
        true
    }
}
