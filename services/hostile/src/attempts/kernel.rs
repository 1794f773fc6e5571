//! Changing the machine, and the parts of the kernel that have been its soft spots.
//!
//! Pointers that the kernel would need are null and magic numbers are wrong, so that none of these
//! does anything even in a sandbox that is broken.

use super::Attempt;
use crate::sys::Arg::{self, Bytes, Number, Space};
use libc::*;

const NULL: Arg = Number(0);
const ROOT: Arg = Bytes(b"/\0");

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::call(
        "keyctl",
        "keyctl",
        SYS_keyctl,
        &[Number(0), Number(-3), Number(0)],
    ),
    Attempt::call(
        "add-key",
        "add_key",
        SYS_add_key,
        &[
            Bytes(b"user\0"),
            Bytes(b"hostile\0"),
            Bytes(b"x"),
            Number(1),
            Number(-3),
        ],
    ),
    Attempt::call(
        "request-key",
        "request_key",
        SYS_request_key,
        &[Bytes(b"user\0"), Bytes(b"hostile\0"), NULL, Number(0)],
    ),
    Attempt::call("bpf", "bpf", SYS_bpf, &[Number(0), Space, Number(72)]),
    Attempt::call(
        "perf",
        "perf_event_open",
        SYS_perf_event_open,
        &[Space, Number(0), Number(-1), Number(-1), Number(0)],
    ),
    Attempt::call("userfaultfd", "userfaultfd", SYS_userfaultfd, &[Number(1)]),
    Attempt::call(
        "mount",
        "mount",
        SYS_mount,
        &[NULL, ROOT, Bytes(b"tmpfs\0"), Number(0), NULL],
    ),
    Attempt::call(
        "remount-writable",
        "mount",
        SYS_mount,
        &[
            NULL,
            ROOT,
            NULL,
            Number((MS_REMOUNT | MS_BIND) as i64),
            NULL,
        ],
    ),
    Attempt::call("umount", "umount2", SYS_umount2, &[ROOT, Number(2)]),
    Attempt::call(
        "pivot-root",
        "pivot_root",
        SYS_pivot_root,
        &[Bytes(b".\0"), Bytes(b".\0")],
    ),
    Attempt::call("chroot", "chroot", SYS_chroot, &[Bytes(b".\0")]),
    Attempt::call(
        "fsopen",
        "fsopen",
        SYS_fsopen,
        &[Bytes(b"proc\0"), Number(0)],
    ),
    Attempt::call(
        "fsmount",
        "fsmount",
        SYS_fsmount,
        &[Number(3), Number(0), Number(0)],
    ),
    Attempt::call(
        "open-tree",
        "open_tree",
        SYS_open_tree,
        &[Number(-100), ROOT, Number(1)],
    ),
    Attempt::call(
        "move-mount",
        "move_mount",
        SYS_move_mount,
        &[Number(3), Bytes(b"\0"), Number(-100), ROOT, Number(4)],
    ),
    Attempt::call(
        "mount-attributes",
        "mount_setattr",
        SYS_mount_setattr,
        &[Number(-100), ROOT, Number(0), Space, Number(32)],
    ),
    Attempt::call(
        "module",
        "init_module",
        SYS_init_module,
        &[NULL, Number(0), Bytes(b"\0")],
    ),
    Attempt::call(
        "module-from-file",
        "finit_module",
        SYS_finit_module,
        &[Number(3), Bytes(b"\0"), Number(0)],
    ),
    Attempt::call(
        "remove-module",
        "delete_module",
        SYS_delete_module,
        &[Bytes(b"hostile\0"), Number(0)],
    ),
    Attempt::call(
        "kexec",
        "kexec_load",
        SYS_kexec_load,
        &[NULL, Number(0), NULL, Number(0)],
    ),
    Attempt::call(
        "reboot",
        "reboot",
        SYS_reboot,
        &[Number(0), Number(0), Number(0), NULL],
    ),
    Attempt::call("io-ports", "iopl", SYS_iopl, &[Number(3)]),
    Attempt::call(
        "io-port",
        "ioperm",
        SYS_ioperm,
        &[Number(0x80), Number(1), Number(1)],
    ),
    Attempt::call(
        "segments",
        "modify_ldt",
        SYS_modify_ldt,
        &[Number(0), Space, Number(16)],
    ),
    Attempt::call(
        "kernel-log",
        "syslog",
        SYS_syslog,
        &[Number(3), Space, Number(16)],
    ),
    Attempt::call("accounting", "acct", SYS_acct, &[NULL]),
    Attempt::call("swap", "swapon", SYS_swapon, &[NULL, Number(0)]),
    Attempt::call(
        "quota",
        "quotactl",
        SYS_quotactl,
        &[Number(0), NULL, Number(0), NULL],
    ),
    Attempt::call(
        "set-time-of-day",
        "settimeofday",
        SYS_settimeofday,
        &[NULL, NULL],
    ),
    Attempt::call(
        "set-clock",
        "clock_settime",
        SYS_clock_settime,
        &[Number(0), NULL],
    ),
    Attempt::call("adjust-clock", "adjtimex", SYS_adjtimex, &[NULL]),
    Attempt::call(
        "host-name",
        "sethostname",
        SYS_sethostname,
        &[Bytes(b"hostile"), Number(7)],
    ),
    Attempt::call(
        "domain-name",
        "setdomainname",
        SYS_setdomainname,
        &[Bytes(b"hostile"), Number(7)],
    ),
    Attempt::call("hang-up-terminal", "vhangup", SYS_vhangup, &[]),
    Attempt::call("kernel-aio", "io_setup", SYS_io_setup, &[Number(1), Space]),
    Attempt::call(
        "cookie",
        "lookup_dcookie",
        SYS_lookup_dcookie,
        &[Number(0), Space, Number(16)],
    ),
    Attempt::call(
        "alarm",
        "timer_create",
        SYS_timer_create,
        &[Number(0), NULL, Space],
    ),
];
