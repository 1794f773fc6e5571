//! People at the control socket: each connection says a verb and gets its answer in pieces.

use crate::verbs::Verbs;
use protocol::inspect::{Operator, Outcome, TEXT_BYTES_MAX, Verb};
use protocol::wire::{self, Numbered};
use runtime::AsyncChannel;
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

/// Until the person hangs up, or says what is not a verb of this version.
async fn converse(channel: &AsyncChannel, verbs: &Verbs) {
    while let Ok(Some(packet)) = channel.receive().await {
        let Ok(Numbered { id, body }) = wire::decode::<Operator, Numbered<Verb>>(&packet.bytes)
        else {
            return;
        };
        let (status, text) = verbs.obey(&body).await;
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
