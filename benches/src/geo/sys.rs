//! The one call that no library makes for us: taking hold of a TUN device.

#![allow(unsafe_code, reason = "an ioctl(2) that no library wraps")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `_IOW('T', 202, int)`, but the kernel reads a whole `struct ifreq`.
const TUNSETIFF: u64 = 0x4004_54ca;
/// Packets without a head of their own.
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;

nix::ioctl_write_ptr_bad!(tun_set_interface, TUNSETIFF, InterfaceRequest);

/// `struct ifreq` as far as TUNSETIFF reads it (netdevice(7)).
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Lets `tun`, an open `/dev/net/tun`, read and write the packets of the device `name` of this thread's network namespace.
///
/// # Errors
/// `EINVAL` for a name that is no name of a device; what `TUNSETIFF` says (`Documentation/networking/tuntap.rst`).
pub(crate) fn attach(tun: &File, name: &str) -> io::Result<()> {
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: IFF_TUN | IFF_NO_PI,
        rest: [0; 22],
    };
    // The last byte stays 0: it ends the name.
    let room = request
        .name
        .get_mut(..name.len())
        .filter(|room| room.len() < 16);
    let room = room.ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(name.as_bytes());
    // SAFETY: the descriptor is open for the time of the borrow, and the kernel reads and writes no more than a `struct ifreq`, which is 40 bytes on
    // 64-bit Linux, as `InterfaceRequest` is.
    unsafe { tun_set_interface(tun.as_raw_fd(), &raw const request) }?;
    Ok(())
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);
