//! The one bus channel, shared by all serving threads.
//!
//! Answers on a channel come to whoever reads it, so a channel has one owner: the first thread.
//! Each serving thread holds one end of a socket pair on which it speaks to the bus as if directly;
//! this passes its calls on and the answers, with their descriptors, back. That happens once per
//! connection to a service, never per request.

use crate::Error;
use protocol::bus::{BusError, Connect, ConnectCall};
use protocol::wire::Numbered;
use protocol::{Channel, wire};
use runtime::{AsyncChannel, CallError, Client};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use tokio::sync::mpsc;

/// Passes on what the threads at the other ends of `threads` ask, until the bus has gone.
pub(crate) async fn relay(bus: Channel, threads: Vec<Channel>) -> Error {
    match begin(bus, threads) {
        Ok(mut gone) => match gone.recv().await {
            Some(()) => Error::BusGone,
            // All threads have ended, so nobody needs the bus any more.
            None => std::future::pending().await,
        },
        Err(error) => Error::System("bus channel", error),
    }
}

fn begin(bus: Channel, threads: Vec<Channel>) -> io::Result<mpsc::Receiver<()>> {
    let bus = Client::<Connect>::new(bus)?;
    let (bus_gone, gone) = mpsc::channel(1);
    for thread in threads {
        let thread = AsyncChannel::new(thread)?;
        tokio::task::spawn_local(one_thread(thread, bus.clone(), bus_gone.clone()));
    }
    Ok(gone)
}

async fn one_thread(thread: AsyncChannel, bus: Client<Connect>, bus_gone: mpsc::Sender<()>) {
    while let Ok(Some(packet)) = thread.receive().await {
        let Ok(Numbered { id, body }) =
            wire::decode::<Connect, Numbered<ConnectCall>>(&packet.bytes)
        else {
            return; // Our own fault; the thread sees its channel end.
        };
        let (thread, bus, bus_gone) = (thread.clone(), bus.clone(), bus_gone.clone());
        // In a task of its own: one service may be waited for while another is reached.
        tokio::task::spawn_local(async move {
            let (body, descriptors) = match bus.call(&body, &[]).await {
                Ok(answer) => answer,
                Err(error) => {
                    if matches!(error, CallError::NotSent | CallError::Lost) {
                        let _ = bus_gone.try_send(());
                    }
                    (Err(BusError::Unavailable), Vec::new())
                }
            };
            let lent: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            if let Ok(bytes) = wire::encode::<Connect>(&Numbered { id, body }) {
                let _ = thread.send(&bytes, &lent).await;
            }
        });
    }
}
