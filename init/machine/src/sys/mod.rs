//! The ioctls that no library has: partitions, ext4's growth, the watchdog.
#![allow(unsafe_code, reason = "ioctl(2)")]

use rustix::io::Errno;
use rustix::ioctl::{NoArg, Setter, Updater, ioctl, opcode};
use std::os::fd::AsFd;

/// `BLKRRPART` of <linux/fs.h>: the kernel reads the partition table again. EBUSY while a partition is in use.
pub(crate) fn reread_partitions(disk: impl AsFd) -> Result<(), Errno> {
    const BLKRRPART: rustix::ioctl::Opcode = opcode::none(0x12, 95);
    // SAFETY: this number takes no argument, and `NoArg` passes none.
    let request = unsafe { NoArg::<BLKRRPART>::new() };
    // SAFETY: any descriptor may be asked; one that is no disk answers ENOTTY.
    unsafe { ioctl(disk, request) }
}

/// `EXT4_IOC_RESIZE_FS` of the kernel's fs/ext4/ext4.h: grows the mounted file system of `root` to `blocks`; needs CAP_SYS_RESOURCE.
pub(crate) fn resize_ext4(root: impl AsFd, blocks: u64) -> Result<(), Errno> {
    const RESIZE: rustix::ioctl::Opcode = opcode::write::<u64>(b'f', 16);
    // SAFETY: this number reads one u64 behind the pointer, which `Setter` passes.
    let request = unsafe { Setter::<RESIZE, u64>::new(blocks) };
    // SAFETY: any descriptor may be asked; one of another file system answers ENOTTY.
    unsafe { ioctl(root, request) }
}

/// The head of `struct ifreq` (netdevice(7)) with the member `ifr_flags`, and the room of its union.
#[repr(C)]
struct InterfaceFlags {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

/// `SIOCSIFFLAGS` for the loopback interface: up. `socket` is any socket of the network namespace; needs CAP_NET_ADMIN.
pub(crate) fn raise_loopback(socket: impl AsFd) -> Result<(), Errno> {
    const SIOCSIFFLAGS: rustix::ioctl::Opcode = 0x8914;
    const UP: i16 = 1;
    let mut request = InterfaceFlags {
        name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        flags: UP,
        rest: [0; 22],
    };
    // SAFETY: this number reads a `struct ifreq` behind the pointer, which `request` is, in layout and size (40 bytes).
    let request = unsafe { Updater::<SIOCSIFFLAGS, InterfaceFlags>::new(&mut request) };
    // SAFETY: any descriptor may be asked; one that is no socket answers ENOTTY.
    unsafe { ioctl(socket, request) }
}

/// `WDIOC_SETTIMEOUT` of <linux/watchdog.h>: the seconds after which an untouched watchdog resets the machine. Returns what the device took.
pub(crate) fn set_watchdog_timeout(watchdog: impl AsFd, seconds: i32) -> Result<i32, Errno> {
    const SETTIMEOUT: rustix::ioctl::Opcode = opcode::read_write::<i32>(b'W', 6);
    let mut seconds = seconds;
    // SAFETY: this number reads and writes one int behind the pointer, which `Updater` passes.
    let request = unsafe { Updater::<SETTIMEOUT, i32>::new(&mut seconds) };
    // SAFETY: any descriptor may be asked; one that is no watchdog answers ENOTTY.
    unsafe { ioctl(watchdog, request) }?;
    Ok(seconds)
}
