//! Reaching files that were not granted.

use super::Attempt;
use crate::sys::Arg::{self, Bytes, Number, Space};
use libc::*;

/// AT_FDCWD: relative to the working directory.
const HERE: Arg = Number(AT_FDCWD as i64);
const PASSWD: Arg = Bytes(b"/etc/passwd\0");
const SHELL: Arg = Bytes(b"/bin/sh\0");
/// `struct open_how`: no flags, no mode, no resolve flags.
const PLAIN_HOW: Arg = Bytes(&[0; 24]);

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::call("open", "open", SYS_open, &[PASSWD, Number(0)]),
    Attempt::call(
        "openat-absolute",
        "openat",
        SYS_openat,
        &[HERE, PASSWD, Number(0)],
    ),
    Attempt::call(
        "openat-parent",
        "openat",
        SYS_openat,
        &[HERE, Bytes(b"../../../../../etc/passwd\0"), Number(0)],
    ),
    Attempt::call(
        "openat-proc-root",
        "openat",
        SYS_openat,
        &[HERE, Bytes(b"/proc/self/root/etc/passwd\0"), Number(0)],
    ),
    Attempt::call(
        "openat-own-memory",
        "openat",
        SYS_openat,
        &[HERE, Bytes(b"/proc/self/mem\0"), Number(O_RDWR as i64)],
    ),
    Attempt::call(
        "openat-environment-of-init",
        "openat",
        SYS_openat,
        &[HERE, Bytes(b"/proc/1/environ\0"), Number(0)],
    ),
    Attempt::call(
        "openat-disk",
        "openat",
        SYS_openat,
        &[HERE, Bytes(b"/dev/vda\0"), Number(O_RDWR as i64)],
    ),
    Attempt::call(
        "openat-tracefs",
        "openat",
        SYS_openat,
        &[HERE, Bytes(b"/sys/kernel/tracing/trace\0"), Number(0)],
    ),
    Attempt::call(
        "openat2",
        "openat2",
        SYS_openat2,
        &[HERE, PASSWD, PLAIN_HOW, Number(24)],
    ),
    Attempt::call(
        "creat",
        "creat",
        SYS_creat,
        &[Bytes(b"/tmp/hostile\0"), Number(0o600)],
    ),
    Attempt::call(
        "name-to-handle",
        "name_to_handle_at",
        SYS_name_to_handle_at,
        &[HERE, Bytes(b"/\0"), Space, Space, Number(0)],
    ),
    Attempt::call(
        "open-by-handle",
        "open_by_handle_at",
        SYS_open_by_handle_at,
        &[HERE, Space, Number(0)],
    ),
    Attempt::call(
        "hard-link",
        "linkat",
        SYS_linkat,
        &[HERE, PASSWD, HERE, Bytes(b"/stolen\0"), Number(0)],
    ),
    Attempt::call(
        "rename",
        "renameat",
        SYS_renameat,
        &[HERE, PASSWD, HERE, Bytes(b"/stolen\0")],
    ),
    Attempt::call(
        "symlink",
        "symlink",
        SYS_symlink,
        &[PASSWD, Bytes(b"/hostile-link\0")],
    ),
    Attempt::call(
        "symlinkat",
        "symlinkat",
        SYS_symlinkat,
        &[PASSWD, HERE, Bytes(b"/hostile-link\0")],
    ),
    Attempt::call(
        "device-file",
        "mknodat",
        SYS_mknodat,
        &[
            HERE,
            Bytes(b"/hostile-disk\0"),
            Number((S_IFBLK | 0o600) as i64),
            Number(0x0800),
        ],
    ),
    Attempt::call("chmod", "chmod", SYS_chmod, &[Bytes(b"/\0"), Number(0o777)]),
    Attempt::call(
        "set-user-id",
        "fchmodat",
        SYS_fchmodat,
        &[HERE, Bytes(b"/\0"), Number(0o4777)],
    ),
    Attempt::call(
        "chown",
        "fchownat",
        SYS_fchownat,
        &[HERE, Bytes(b"/\0"), Number(0), Number(0), Number(0)],
    ),
    Attempt::call(
        "extended-attribute",
        "setxattr",
        SYS_setxattr,
        &[
            Bytes(b"/\0"),
            Bytes(b"security.capability\0"),
            Space,
            Number(20),
            Number(0),
        ],
    ),
    Attempt::call(
        "truncate-path",
        "truncate",
        SYS_truncate,
        &[PASSWD, Number(0)],
    ),
    Attempt::call("inotify", "inotify_init1", SYS_inotify_init1, &[Number(0)]),
    Attempt::call(
        "fanotify",
        "fanotify_init",
        SYS_fanotify_init,
        &[Number(0), Number(0)],
    ),
    Attempt::call(
        "signal-owner",
        "fcntl",
        SYS_fcntl,
        &[Number(3), Number(F_SETOWN as i64), Number(1)],
    ),
    Attempt::call(
        "larger-pipe",
        "fcntl",
        SYS_fcntl,
        &[Number(2), Number(F_SETPIPE_SZ as i64), Number(1 << 20)],
    ),
    Attempt::call(
        "terminal-input",
        "ioctl",
        SYS_ioctl,
        &[Number(0), Number(TIOCSTI as i64), Bytes(b"x")],
    ),
    Attempt::call(
        "terminal-console",
        "ioctl",
        SYS_ioctl,
        &[Number(0), Number(0x541c), Space],
    ),
    Attempt::call(
        "freeze-file-system",
        "ioctl",
        SYS_ioctl,
        &[Number(2), Number(0xc004_5877), Space],
    ),
    Attempt::call(
        "execve",
        "execve",
        SYS_execve,
        &[SHELL, Number(0), Number(0)],
    ),
    Attempt::call(
        "execveat-path",
        "execveat",
        SYS_execveat,
        &[HERE, SHELL, Number(0), Number(0), Number(0)],
    ),
    // The start channel stands for any descriptor: the call must not be reached.
    Attempt::call(
        "execveat-descriptor",
        "execveat",
        SYS_execveat,
        &[
            Number(3),
            Bytes(b"\0"),
            Number(0),
            Number(0),
            Number(AT_EMPTY_PATH as i64),
        ],
    ),
];
