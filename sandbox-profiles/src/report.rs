//! What the child tells its spawner before exec: one packet of fixed size.
//!
//! A descriptor goes along as its number in the child, and the spawner fetches it by pidfd_getfd.
//! Not by SCM_RIGHTS: descriptors under way are counted per user, so that a service that floods
//! its channel with them could keep others of the same user from being started.

use crate::error::{MissingSet, Step};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{BorrowedFd, RawFd};

/// A packet: kind, step, two bytes of missing walls, errno or number.
const PACKET_BYTES: usize = 8;
const CONFINED: u8 = 1;
const FAILED: u8 = 2;
const NO_NUMBER: i32 = -1;

/// What the child has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Every wall but these stands; what follows is exec. With the number of the listener, if the
    /// profile has one.
    Confined(MissingSet, Option<RawFd>),
    /// This step failed and the child ends.
    Failed(Step, Errno),
}

impl Report {
    fn to_bytes(self) -> [u8; PACKET_BYTES] {
        let (kind, step, missing, number) = match self {
            Self::Confined(missing, number) => {
                (CONFINED, 0, missing.0, number.unwrap_or(NO_NUMBER))
            }
            Self::Failed(step, errno) => (FAILED, step as u8, 0, errno.raw_os_error()),
        };
        let [a, b, c, d] = number.to_le_bytes();
        let [low, high] = missing.to_le_bytes();
        [kind, step, low, high, a, b, c, d]
    }

    fn from_bytes(bytes: [u8; PACKET_BYTES]) -> Option<Self> {
        let [kind, step, low, high, a, b, c, d] = bytes;
        let missing = u16::from_le_bytes([low, high]);
        let number = i32::from_le_bytes([a, b, c, d]);
        match kind {
            CONFINED => {
                let number = (number != NO_NUMBER).then_some(number);
                Some(Self::Confined(MissingSet(missing), number))
            }
            FAILED => Some(Self::Failed(
                Step::from_number(step)?,
                Errno::from_raw_os_error(number),
            )),
            _ => None,
        }
    }
}

/// Sends a report. Allocates nothing, and makes one call, sendmsg, which every profile allows.
pub(crate) fn send(channel: BorrowedFd<'_>, report: Report) -> Result<(), Errno> {
    let bytes = report.to_bytes();
    let mut control = SendAncillaryBuffer::default();
    sendmsg(
        channel,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map(|_| ())
}

/// Waits for the next report. None: the other end is closed, by exec or by death.
pub(crate) fn receive(channel: BorrowedFd<'_>) -> Result<Option<Report>, Errno> {
    let mut bytes = [0; PACKET_BYTES];
    let received = loop {
        let mut control = RecvAncillaryBuffer::default();
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(channel, &mut parts, &mut control, RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    match received.bytes {
        0 => Ok(None),
        PACKET_BYTES => Report::from_bytes(bytes).map(Some).ok_or(Errno::BADMSG),
        _ => Err(Errno::BADMSG),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]
    use super::*;
    use crate::error::Missing;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    #[test]
    fn reports_arrive_and_then_the_end() {
        let flags = SocketFlags::CLOEXEC;
        let (here, there) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let mut missing = MissingSet::default();
        missing.insert(Missing::Landlock);
        let reports = [
            Report::Confined(missing, Some(6)),
            Report::Confined(MissingSet::default(), None),
            Report::Failed(Step::Exec, Errno::NOENT),
        ];
        for report in reports {
            send(there.as_fd(), report).unwrap();
            assert_eq!(receive(here.as_fd()), Ok(Some(report)));
        }
        drop(there);
        assert_eq!(receive(here.as_fd()), Ok(None));
    }

    #[test]
    fn an_unknown_report_is_refused() {
        assert_eq!(Report::from_bytes([9, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Report::from_bytes([FAILED, 200, 0, 0, 1, 0, 0, 0]), None);
    }
}
