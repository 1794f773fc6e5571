//! Making processes, reaching other processes, becoming somebody else.

use super::Attempt;
use crate::sys::Arg::{self, Bytes, Number, Space};
use libc::*;

// Signal 0 asks whether a signal could be sent: what is tested is that not even that is answered,
// and should a sandbox be broken, nobody is hurt.
const NO_SIGNAL: Arg = Number(0);
const EVERYBODY: Arg = Number(-1);
const INIT: Arg = Number(1);

const CLONE_PROCESS: i64 = SIGCHLD as i64;
const CLONE_USER: i64 = (CLONE_NEWUSER | SIGCHLD) as i64;

const fn prctl(name: &'static str, args: &'static [Arg]) -> Attempt {
    Attempt::call(name, "prctl", SYS_prctl, args)
}

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt::call("fork", "fork", SYS_fork, &[]),
    Attempt::call("vfork", "vfork", SYS_vfork, &[]),
    Attempt::call(
        "clone-process",
        "clone",
        SYS_clone,
        &[Number(CLONE_PROCESS), Number(0)],
    ),
    Attempt::call(
        "clone-user-namespace",
        "clone",
        SYS_clone,
        &[Number(CLONE_USER), Number(0)],
    ),
    // A clone_args of 64 bytes; its flags ask for a user namespace (0x10000000).
    Attempt::call(
        "clone3-user-namespace",
        "clone3",
        SYS_clone3,
        &[
            Bytes(&[
                0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ]),
            Number(64),
        ],
    ),
    Attempt::call(
        "unshare-user",
        "unshare",
        SYS_unshare,
        &[Number(CLONE_NEWUSER as i64)],
    ),
    Attempt::call(
        "unshare-mount",
        "unshare",
        SYS_unshare,
        &[Number(CLONE_NEWNS as i64)],
    ),
    Attempt::call(
        "unshare-network",
        "unshare",
        SYS_unshare,
        &[Number(CLONE_NEWNET as i64)],
    ),
    Attempt::call("setns", "setns", SYS_setns, &[Number(3), Number(0)]),
    Attempt::call(
        "ptrace-attach",
        "ptrace",
        SYS_ptrace,
        &[Number(PTRACE_SEIZE as i64), INIT, Number(0), Number(0)],
    ),
    Attempt::call(
        "ptrace-me",
        "ptrace",
        SYS_ptrace,
        &[
            Number(PTRACE_TRACEME as i64),
            Number(0),
            Number(0),
            Number(0),
        ],
    ),
    Attempt::call("kill-everybody", "kill", SYS_kill, &[EVERYBODY, NO_SIGNAL]),
    Attempt::call("kill-init", "kill", SYS_kill, &[INIT, NO_SIGNAL]),
    Attempt::call("kill-group", "kill", SYS_kill, &[Number(0), NO_SIGNAL]),
    Attempt::call("tkill", "tkill", SYS_tkill, &[INIT, NO_SIGNAL]),
    Attempt::call(
        "tgkill-others",
        "tgkill",
        SYS_tgkill,
        &[Number(2), Number(2), NO_SIGNAL],
    ),
    Attempt::call(
        "queue-signal",
        "rt_sigqueueinfo",
        SYS_rt_sigqueueinfo,
        &[INIT, NO_SIGNAL, Space],
    ),
    Attempt::call(
        "pidfd-open",
        "pidfd_open",
        SYS_pidfd_open,
        &[INIT, Number(0)],
    ),
    Attempt::call(
        "pidfd-getfd",
        "pidfd_getfd",
        SYS_pidfd_getfd,
        &[Number(3), Number(0), Number(0)],
    ),
    Attempt::call(
        "pidfd-send-signal",
        "pidfd_send_signal",
        SYS_pidfd_send_signal,
        &[Number(3), NO_SIGNAL, Number(0), Number(0)],
    ),
    Attempt::call(
        "read-memory-of-init",
        "process_vm_readv",
        SYS_process_vm_readv,
        &[INIT, Space, Number(1), Space, Number(1), Number(0)],
    ),
    Attempt::call(
        "write-memory-of-init",
        "process_vm_writev",
        SYS_process_vm_writev,
        &[INIT, Space, Number(1), Space, Number(1), Number(0)],
    ),
    Attempt::call(
        "advise-memory-of-init",
        "process_madvise",
        SYS_process_madvise,
        &[Number(3), Space, Number(1), Number(4), Number(0)],
    ),
    Attempt::call(
        "compare-processes",
        "kcmp",
        SYS_kcmp,
        &[INIT, Number(2), Number(0), Number(0), Number(0)],
    ),
    Attempt::call(
        "priority",
        "setpriority",
        SYS_setpriority,
        &[Number(0), Number(0), Number(-20)],
    ),
    Attempt::call(
        "real-time",
        "sched_setscheduler",
        SYS_sched_setscheduler,
        &[Number(0), Number(SCHED_FIFO as i64), Bytes(&[1, 0, 0, 0])],
    ),
    Attempt::call(
        "move-to-cpu",
        "sched_setaffinity",
        SYS_sched_setaffinity,
        &[INIT, Number(8), Bytes(&[1, 0, 0, 0, 0, 0, 0, 0])],
    ),
    Attempt::call(
        "raise-limit",
        "prlimit64",
        SYS_prlimit64,
        &[
            Number(0),
            Number(RLIMIT_NOFILE as i64),
            Bytes(&[0xff; 16]),
            Number(0),
        ],
    ),
    Attempt::call(
        "setrlimit",
        "setrlimit",
        SYS_setrlimit,
        &[Number(RLIMIT_NOFILE as i64), Bytes(&[0xff; 16])],
    ),
    Attempt::call("become-root", "setuid", SYS_setuid, &[Number(0)]),
    Attempt::call(
        "become-root-entirely",
        "setresuid",
        SYS_setresuid,
        &[Number(0), Number(0), Number(0)],
    ),
    Attempt::call(
        "join-groups",
        "setgroups",
        SYS_setgroups,
        &[Number(1), Bytes(&[0; 4])],
    ),
    Attempt::call(
        "capabilities",
        "capset",
        SYS_capset,
        &[
            Bytes(&[0x22, 0x05, 0x08, 0x20, 0, 0, 0, 0]),
            Bytes(&[0xff; 24]),
        ],
    ),
    Attempt::call(
        "personality",
        "personality",
        SYS_personality,
        &[Number(0x0040_0000)],
    ),
    Attempt::call("session", "setsid", SYS_setsid, &[]),
    prctl("undumpable", &[Number(PR_SET_DUMPABLE as i64), Number(0)]),
    prctl(
        "outlive-supervisor",
        &[Number(PR_SET_PDEATHSIG as i64), Number(0)],
    ),
    prctl(
        "old-seccomp",
        &[Number(PR_SET_SECCOMP as i64), Number(1), Number(0)],
    ),
    prctl(
        "ambient-capability",
        &[
            Number(PR_CAP_AMBIENT as i64),
            Number(PR_CAP_AMBIENT_RAISE as i64),
            Number(21),
            Number(0),
            Number(0),
        ],
    ),
    prctl(
        "reaper",
        &[Number(PR_SET_CHILD_SUBREAPER as i64), Number(1)],
    ),
    prctl(
        "memory-map",
        &[
            Number(PR_SET_MM as i64),
            Number(1),
            Number(0),
            Number(0),
            Number(0),
        ],
    ),
    prctl(
        "be-traced-by-anyone",
        &[Number(PR_SET_PTRACER as i64), Number(-1)],
    ),
    Attempt::call(
        "seccomp",
        "seccomp",
        SYS_seccomp,
        &[Number(1), Number(0), Space],
    ),
    Attempt::call(
        "landlock",
        "landlock_create_ruleset",
        SYS_landlock_create_ruleset,
        &[Space, Number(8), Number(0)],
    ),
];
