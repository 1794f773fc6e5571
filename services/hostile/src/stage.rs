//! What an attempt has to work with.

use crate::sys;
use io_uring::IoUring;
use protocol::channel::ReceiveBuffer;
use protocol::start::{HEARTBEAT_MS, Order};
use runtime::Supervisor;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The kernel's own bound (`SCM_MAX_FD`); the protocol's is lower.
pub(crate) const DESCRIPTORS_MAX: usize = 253;

/// The descriptors of this process, and a ring if it was given one.
pub(crate) struct Stage {
    pub(crate) targets: Vec<(String, OwnedFd)>,
    pub(crate) supervisor: Supervisor,
    pub(crate) amount: Option<usize>,
    pub(crate) ring: Option<IoUring>,
}

impl Stage {
    pub(crate) fn new(
        targets: Vec<(String, OwnedFd)>,
        supervisor: Supervisor,
        amount: Option<usize>,
        wants_ring: bool,
    ) -> Self {
        let ring = if wants_ring {
            IoUring::new(8).ok()
        } else {
            None
        };
        Self {
            targets,
            supervisor,
            amount,
            ring,
        }
    }

    /// A line to the log. What cannot be written is lost, as for any service.
    pub(crate) fn tell(&self, line: &str) {
        let _ = rustix::io::write(rustix::stdio::stderr(), format!("{line}\n").as_bytes());
    }

    /// The start channel, to be abused.
    pub(crate) fn start_channel(&self) -> BorrowedFd<'_> {
        self.supervisor.as_fd()
    }

    /// Everything that can be written to: the start channel and all grants.
    pub(crate) fn channels(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let grants = self.targets.iter().map(|(_, target)| target.as_fd());
        std::iter::once(self.start_channel()).chain(grants)
    }

    /// Submits an operation to the ring that the supervisor made.
    pub(crate) fn submit(&mut self, entry: &io_uring::squeue::Entry) -> Result<(), Errno> {
        let ring = self.ring.as_mut().ok_or(Errno::NODEV)?;
        sys::submit(ring, entry).map(drop)
    }

    /// Sends a packet, without waiting. Not through `Channel`, which keeps to the protocol's bounds.
    pub(crate) fn send(
        channel: BorrowedFd<'_>,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Errno::INVAL);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(channel, &[IoSlice::new(bytes)], &mut control, flags).map(drop)
    }

    /// Does nothing, as a service does it: until the supervisor says stop. Its profile has to allow poll(2).
    pub(crate) fn behave(&self) -> Result<(), runtime::Error> {
        let mut buffer = ReceiveBuffer::new();
        loop {
            self.supervisor.alive()?;
            let next = Instant::now() + Duration::from_millis(HEARTBEAT_MS);
            // What goes wrong here shows in the look at the orders.
            let _ = runtime::wait([self.supervisor.as_fd()], next);
            while let Some((order, _)) = self.supervisor.order(&mut buffer)? {
                if order == Order::Stop {
                    return Ok(());
                }
            }
        }
    }

    /// Waits, without a sign of life, until the supervisor says stop or goes.
    pub(crate) fn wait_for_the_end(&self) {
        let mut buffer = ReceiveBuffer::new();
        loop {
            // Looks first, and takes then: the only wait that every profile allows is recvmsg.
            let mut byte = [0];
            let mut parts = [IoSliceMut::new(&mut byte)];
            let mut control = RecvAncillaryBuffer::default();
            let _ = recvmsg(
                self.start_channel(),
                &mut parts,
                &mut control,
                RecvFlags::PEEK,
            );
            match self.supervisor.order(&mut buffer) {
                Ok(Some((Order::Stop, _))) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}
