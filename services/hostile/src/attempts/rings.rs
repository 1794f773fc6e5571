//! Getting past seccomp through io_uring: another ring, or operations that the ring shall not take.

use super::Attempt;
use crate::sys::Arg::{Number, Space};
use io_uring::{opcode, types};
use libc::*;

const CHANNEL: types::Fd = types::Fd(3);
const HERE: types::Fd = types::Fd(AT_FDCWD);
static HOW: types::OpenHow = types::OpenHow::new();
static mut STATX: [u8; 512] = [0; 512];
static LOOPBACK: [u8; 16] = [2, 0, 0, 9, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::call(
        "another-ring",
        "io_uring_setup",
        SYS_io_uring_setup,
        &[Number(8), Space],
    ),
    Attempt::call(
        "ring-register",
        "io_uring_register",
        SYS_io_uring_register,
        &[Number(3), Number(12), Number(0), Number(0)],
    ),
    Attempt::ring("ring-openat", || {
        opcode::OpenAt::new(HERE, c"/etc/passwd".as_ptr()).build()
    }),
    Attempt::ring("ring-openat2", || {
        opcode::OpenAt2::new(HERE, c"/etc/passwd".as_ptr(), &raw const HOW).build()
    }),
    Attempt::ring("ring-socket", || {
        opcode::Socket::new(AF_INET, SOCK_STREAM, 0).build()
    }),
    Attempt::ring("ring-connect", || {
        opcode::Connect::new(CHANNEL, LOOPBACK.as_ptr().cast(), 16).build()
    }),
    Attempt::ring("ring-accept", || {
        opcode::Accept::new(CHANNEL, std::ptr::null_mut(), std::ptr::null_mut()).build()
    }),
    Attempt::ring("ring-statx", || {
        opcode::Statx::new(HERE, c"/".as_ptr(), (&raw mut STATX).cast())
            .mask(0x7ff)
            .build()
    }),
    Attempt::ring("ring-unlinkat", || {
        opcode::UnlinkAt::new(HERE, c"/hostile".as_ptr()).build()
    }),
    Attempt::ring("ring-mkdirat", || {
        opcode::MkDirAt::new(HERE, c"/hostile".as_ptr()).build()
    }),
    Attempt::ring("ring-renameat", || {
        opcode::RenameAt::new(HERE, c"/a".as_ptr(), HERE, c"/b".as_ptr()).build()
    }),
    Attempt::ring("ring-symlinkat", || {
        opcode::SymlinkAt::new(HERE, c"/etc".as_ptr(), c"/hostile".as_ptr()).build()
    }),
    Attempt::ring("ring-splice", || {
        opcode::Splice::new(CHANNEL, -1, types::Fd(2), -1, 1).build()
    }),
    Attempt::ring("ring-poll", || opcode::PollAdd::new(CHANNEL, 4).build()),
    Attempt::ring("ring-provide-buffers", || {
        opcode::ProvideBuffers::new(std::ptr::null_mut(), 1, 1, 0, 0).build()
    }),
];
