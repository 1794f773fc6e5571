//! TLS in the kernel: giving it the keys of a session, and finding out whether it takes them (the kernel's networking document `tls`).
//!
//! A socket that has been given the protocol but not both keys is lost, so whether all of it works is tried once, at the start, on a connection of
//! our own.

use super::session::Keys;
use crate::sockets;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{TcpTlsRx, TcpTlsTx, TcpUlp, TlsCryptoInfo};
use protocol::health::Sealing;
use protocol::relay::RecordKeys;
use runtime::{receive_some, send_some};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

/// What the kernel does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missing {
    step: &'static str,
    errno: Errno,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.errno)
    }
}

fn missing(step: &'static str) -> impl Fn(Errno) -> Missing {
    move |errno| Missing { step, errno }
}

/// Who does the records of TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Records {
    Kernel,
    /// The kernel does not: why.
    Relay(Missing),
}

impl Records {
    /// Tries what the kernel can.
    pub(crate) fn of_this_host() -> Self {
        match try_it() {
            Ok(()) => Self::Kernel,
            Err(missing) => Self::Relay(missing),
        }
    }

    /// The same for the services.
    pub(crate) fn sealing(&self) -> Sealing {
        match self {
            Self::Kernel => Sealing::Kernel,
            Self::Relay(_) => Sealing::Relay,
        }
    }
}

/// From here on the kernel seals what is written into `socket` and opens what comes out.
pub(crate) fn take_over(socket: BorrowedFd<'_>, keys: &Keys) -> Result<(), Missing> {
    let errno = |errno: nix::errno::Errno| Errno::from_raw_os_error(errno as i32);
    setsockopt(&socket, TcpUlp::default(), b"tls")
        .map_err(|error| missing("TCP_ULP")(errno(error)))?;
    setsockopt(&socket, TcpTlsTx, &info(&keys.seal))
        .map_err(|error| missing("TLS_TX")(errno(error)))?;
    setsockopt(&socket, TcpTlsRx, &info(&keys.open))
        .map_err(|error| missing("TLS_RX")(errno(error)))
}

/// The keys as the kernel wants them: of the nonce's 12 bytes the first four are its salt.
fn info(keys: &RecordKeys) -> TlsCryptoInfo {
    let [a, b, c, d, iv @ ..] = keys.iv;
    TlsCryptoInfo::Aes128Gcm(libc::tls12_crypto_info_aes_gcm_128 {
        info: libc::tls_crypto_info {
            version: libc::TLS_1_3_VERSION,
            cipher_type: libc::TLS_CIPHER_AES_GCM_128,
        },
        iv,
        key: keys.key,
        salt: [a, b, c, d],
        rec_seq: keys.sequence.to_be_bytes(),
    })
}

/// Tries a connection over the loopback, in both directions.
fn try_it() -> Result<(), Missing> {
    let (one, other) = sockets::loopback_pair().map_err(missing("a connection to try it on"))?;
    let keys = |byte| RecordKeys {
        key: [byte; 16],
        iv: [byte; 12],
        sequence: 0,
    };
    let (there, back) = (keys(1), keys(2));
    let mirrored = Keys {
        seal: back.clone(),
        open: there.clone(),
    };
    let keys = Keys {
        seal: there,
        open: back,
    };
    take_over(one.as_fd(), &keys)?;
    take_over(other.as_fd(), &mirrored)?;
    passes(one.as_fd(), other.as_fd())?;
    passes(other.as_fd(), one.as_fd())
}

/// Whether bytes come out as they went in.
fn passes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Missing> {
    const TEXT: &[u8] = b"only descriptors";
    send_some(from, &[TEXT]).map_err(missing("sending"))?;
    let mut set = [PollFd::from_borrowed_fd(to, PollFlags::IN)];
    let within = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    poll(&mut set, Some(&within)).map_err(missing("receiving"))?;
    let mut bytes = [0; TEXT.len()];
    let (count, _) = receive_some(to, &mut bytes).map_err(missing("receiving"))?;
    if count == TEXT.len() && bytes == *TEXT {
        Ok(())
    } else {
        Err(missing("receiving")(Errno::BADMSG))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it is there, it has worked; where it is not, the first step says so. Either way a connection was really tried.
    #[test]
    fn a_kernel_without_it_is_found_out_at_the_first_step() {
        match try_it() {
            Ok(()) => {}
            Err(missing) => {
                assert_eq!(missing.step, "TCP_ULP", "{missing}");
                assert_eq!(missing.errno, Errno::NOENT, "{missing}");
            }
        }
    }
}
