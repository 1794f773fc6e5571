//! People at the control socket, and those whom debug-ssh brings by the door: each connection says a verb and gets its answer in pieces.

use crate::verbs::Verbs;
use protocol::Channel;
use protocol::bus::{Accept, Door};
use protocol::channel::{MessageError, ReceiveError};
use protocol::inspect::{Operator, Outcome, TEXT_BYTES_MAX, Verb};
use protocol::trace::Side;
use protocol::wire::{self, Conversation, Numbered};
use runtime::{AsyncChannel, trace};
use rustix::net::{SocketFlags, accept_with};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// People (and scripts) at a time; the next waits in the socket's queue.
const SESSIONS_MAX: usize = 32;

/// The listening control socket.
pub(crate) struct Control {
    listener: AsyncChannel,
}

impl Control {
    pub(crate) fn new(listener: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            listener: AsyncChannel::new(listener.into())?,
        })
    }

    /// Accepts for ever; an error is one of the listener itself.
    pub(crate) async fn serve(&self, verbs: Rc<Verbs>) -> io::Result<()> {
        let sessions = Arc::new(Semaphore::new(SESSIONS_MAX));
        loop {
            let place = sessions.clone().acquire_owned().await;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = self
                .listener
                .readable(|listener| accept_with(listener, flags))
                .await?;
            let verbs = verbs.clone();
            tokio::task::spawn_local(async move {
                let _place = place;
                if let Ok(channel) = AsyncChannel::new(socket.into()) {
                    converse(&channel, &verbs).await;
                }
            });
        }
    }
}

/// The door, by which debug-ssh comes in: a connection for each person who has logged in there.
pub(crate) struct Entrance {
    door: AsyncChannel,
}

impl Entrance {
    pub(crate) fn new(door: Channel) -> io::Result<Self> {
        Ok(Self {
            door: AsyncChannel::new(door)?,
        })
    }

    /// Lets in for ever; an error is one of the door itself. The places are others than those at the control socket, so that nobody who
    /// comes by the network keeps the owner out.
    pub(crate) async fn serve(&self, verbs: Rc<Verbs>) -> Result<(), MessageError> {
        let sessions = Arc::new(Semaphore::new(SESSIONS_MAX));
        loop {
            let place = sessions.clone().acquire_owned().await;
            let packet = self.door.receive().await.map_err(MessageError::Receive)?;
            let gone = MessageError::Receive(ReceiveError::System(rustix::io::Errno::PIPE));
            let mut packet = packet.ok_or(gone)?;
            let accept: Accept =
                wire::decode::<Door, _>(&packet.bytes).map_err(MessageError::Decode)?;
            let Some(socket) = packet.descriptors.pop() else {
                continue;
            };
            if accept.conversation != Operator::NAME {
                runtime::warn!("{} asked for {}", accept.client, accept.conversation);
                continue;
            }
            trace::begin(Side::Served, Door::NAME, &accept.client).over(1, 0);
            let verbs = verbs.clone();
            tokio::task::spawn_local(async move {
                let _place = place;
                if let Ok(channel) = AsyncChannel::new(socket.into()) {
                    converse(&channel, &verbs).await;
                    // Said aloud, since the bus holds a duplicate of our end.
                    channel.hang_up();
                }
            });
        }
    }
}

/// Until the person hangs up, or says what is not a verb of this version.
async fn converse(channel: &AsyncChannel, verbs: &Verbs) {
    while let Ok(Some(packet)) = channel.receive().await {
        let Ok(Numbered { id, body }) = wire::decode::<Operator, Numbered<Verb>>(&packet.bytes)
        else {
            return;
        };
        let said = body.words.first().map_or("", String::as_str);
        let begun = trace::begin(Side::Served, Operator::NAME, &said);
        let (status, text) = verbs.obey(&body).await;
        begun.over(0, 0);
        let mut rest = text.as_str();
        loop {
            let piece;
            (piece, rest) = rest.split_at(piece_end(rest));
            let body = Outcome {
                status,
                text: piece.into(),
                more: !rest.is_empty(),
            };
            let Ok(bytes) = wire::encode::<Operator>(&Numbered { id, body }) else {
                return;
            };
            if channel.send(&bytes, &[]).await.is_err() {
                return;
            }
            if rest.is_empty() {
                break;
            }
        }
    }
}

/// Where to cut: not inside a character.
fn piece_end(text: &str) -> usize {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}
