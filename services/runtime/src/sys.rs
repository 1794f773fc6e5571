//! The places where a descriptor is a number: the start channel that the spawner left on 3, tokio's registration, and the records of TLS in the kernel that
//! are no data.
#![allow(
    unsafe_code,
    reason = "a number becomes an owned descriptor exactly once, here; and no library sends a record's type"
)]

use crate::channel::Transport;
use crate::stream::Control;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, TlsGetRecordType, recvmsg};
use rustix::io::Errno;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Descriptor 3, the first time; `None` ever after.
pub(crate) fn start_channel() -> Option<OwnedFd> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    // SAFETY: the spawner leaves an open descriptor on 3 (sandbox-profiles), nothing in this process opened or took it
    // before (this is the first statement of every role), and `TAKEN` makes this the only owner.
    Some(unsafe { OwnedFd::from_raw_fd(3) })
}

/// tokio registers what can tell its number; a [`Channel`](protocol::Channel) on purpose cannot.
pub(crate) struct Watchable(pub(crate) Transport);

impl AsFd for Watchable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Watchable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Registers a connection with the current runtime: for reading, and a stream for writing, too.
pub(crate) fn watch(transport: Transport) -> std::io::Result<AsyncFd<Watchable>> {
    let interest = match transport {
        Transport::Packets(_) => Interest::READABLE,
        Transport::Frames(_) => Interest::READABLE | Interest::WRITABLE,
    };
    // SAFETY: the number must stay valid and the same until the registration ends. `Watchable` owns its socket, never
    // replaces it, and is moved into the registration, which drops it only after deregistering.
    unsafe { AsyncFd::register_with_interest(Watchable(transport), interest) }.map_err(Into::into)
}

/// Takes the record that is next where a plain receive has given `EIO`: one that is no data. Only a TCP socket has such, and that carries no descriptors.
pub(crate) fn control_record(socket: BorrowedFd<'_>) -> Result<Control, Errno> {
    let mut record = [0; 256];
    let mut space = nix::cmsg_space!(u8);
    let mut parts = [IoSliceMut::new(&mut record)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)
        .map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    let bytes = received.bytes;
    let mut messages = received.cmsgs().map_err(|_| Errno::BADMSG)?;
    let is_alert = messages.any(|message| {
        let kind = TlsGetRecordType::Alert;
        matches!(message, ControlMessageOwned::TlsGetRecordType(one) if one == kind)
    });
    // An alert is its level and its description; close_notify is description 0 (RFC 8446, 6).
    match (is_alert, bytes, record) {
        (true, 2, [_, 0, ..]) => Ok(Control::Farewell),
        _ => Ok(Control::Other),
    }
}

/// Sends close_notify on a socket whose records the kernel does (the kernel's networking document `tls`).
pub(crate) fn send_farewell(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    const TLS_SET_RECORD_TYPE: libc::c_int = 1;
    const ALERT: u8 = 21;
    /// Room for the header of one control message and a byte, in the header's alignment.
    const SPACE: usize = 4;
    let mut alert = [1_u8, 0];
    let mut part = libc::iovec {
        iov_base: alert.as_mut_ptr().cast(),
        iov_len: alert.len(),
    };
    let mut space = [0_u64; SPACE];
    // SAFETY: all zero is a valid value of this structure of numbers and pointers.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = space.as_mut_ptr().cast();
    // SAFETY: arithmetic on its argument only.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(1) } as usize;
    debug_assert!(message.msg_controllen <= size_of_val(&space));
    // SAFETY: `message` names a buffer of at least one header, which lives and is aligned as one.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: not null, since the buffer has room for a header; it points into `space`.
    let header = unsafe { &mut *header };
    header.cmsg_level = libc::SOL_TLS;
    header.cmsg_type = TLS_SET_RECORD_TYPE;
    // SAFETY: arithmetic on its argument only.
    header.cmsg_len = unsafe { libc::CMSG_LEN(1) } as usize;
    // SAFETY: the header lies in `space`, which has room for a byte behind it.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: as before.
    unsafe { data.write(ALERT) };
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: all that `message` points to lives until the call returns.
    match unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) } {
        -1 => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        _ => Ok(()),
    }
}
