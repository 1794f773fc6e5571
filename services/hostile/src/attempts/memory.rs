//! Bringing in code, and memory that is shared, locked or hidden.

use super::Attempt;
use crate::sys::Arg::{self, Bytes, Number, Space};
use libc::*;

const ANONYMOUS: Arg = Number((MAP_PRIVATE | MAP_ANONYMOUS) as i64);
const CODE: Arg = Number((PROT_READ | PROT_WRITE | PROT_EXEC) as i64);
const PAGE: Arg = Number(4096);
const NONE: Arg = Number(-1);

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::call(
        "mmap-code",
        "mmap",
        SYS_mmap,
        &[Number(0), PAGE, CODE, ANONYMOUS, NONE, Number(0)],
    ),
    Attempt::call(
        "mmap-code-from-descriptor",
        "mmap",
        SYS_mmap,
        &[
            Number(0),
            PAGE,
            Number((PROT_READ | PROT_EXEC) as i64),
            Number(MAP_PRIVATE as i64),
            Number(2),
            Number(0),
        ],
    ),
    Attempt::call(
        "mprotect-code",
        "mprotect",
        SYS_mprotect,
        &[Space, PAGE, CODE],
    ),
    Attempt::call(
        "mprotect-key-code",
        "pkey_mprotect",
        SYS_pkey_mprotect,
        &[Space, PAGE, CODE, NONE],
    ),
    Attempt::call(
        "protection-key",
        "pkey_alloc",
        SYS_pkey_alloc,
        &[Number(0), Number(0)],
    ),
    Attempt::call(
        "remap-file-pages",
        "remap_file_pages",
        SYS_remap_file_pages,
        &[Space, PAGE, Number(0), Number(0), Number(0)],
    ),
    Attempt::call(
        "memory-file",
        "memfd_create",
        SYS_memfd_create,
        &[Bytes(b"hostile\0"), Number(0)],
    ),
    Attempt::call(
        "secret-memory",
        "memfd_secret",
        SYS_memfd_secret,
        &[Number(0)],
    ),
    Attempt::call(
        "shared-memory",
        "shmget",
        SYS_shmget,
        &[Number(0x0a77), PAGE, Number(0o1600)],
    ),
    Attempt::call(
        "semaphore",
        "semget",
        SYS_semget,
        &[Number(0x0a77), Number(1), Number(0o1600)],
    ),
    Attempt::call(
        "message-queue",
        "msgget",
        SYS_msgget,
        &[Number(0x0a77), Number(0o1600)],
    ),
    Attempt::call(
        "posix-queue",
        "mq_open",
        SYS_mq_open,
        &[
            Bytes(b"hostile\0"),
            Number(O_CREAT as i64),
            Number(0o600),
            Number(0),
        ],
    ),
    Attempt::call("lock-memory", "mlockall", SYS_mlockall, &[Number(3)]),
    Attempt::call(
        "merge-pages",
        "madvise",
        SYS_madvise,
        &[Space, PAGE, Number(MADV_MERGEABLE as i64)],
    ),
    Attempt::call(
        "poison-page",
        "madvise",
        SYS_madvise,
        &[Space, PAGE, Number(MADV_HWPOISON as i64)],
    ),
    Attempt::call(
        "memory-policy",
        "set_mempolicy",
        SYS_set_mempolicy,
        &[Number(0), Number(0), Number(0)],
    ),
    Attempt::call(
        "move-pages",
        "move_pages",
        SYS_move_pages,
        &[
            Number(1),
            Number(0),
            Number(0),
            Number(0),
            Number(0),
            Number(0),
        ],
    ),
];
