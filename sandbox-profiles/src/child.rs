//! What a child does between clone3 and exec, in order, and why in this order.
//!
//! It runs in a copy of the supervisor: it allocates nothing, takes no lock, and leaves by exec or
//! `_exit` only. Privileges are used first and given up as soon as the last step that needs them
//! is done; the filter comes last, because it forbids most of the steps before it.

use crate::error::{Missing, MissingSet, Step};
use crate::profile::Profile;
use crate::report::{self, Report};
use crate::spawn::{Limits, Root};
use crate::sys::{self, descriptors::Slot};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, chdir, fchdir, getegid, geteuid, getrlimit,
    pivot_root, set_dumpable_behavior, set_parent_process_death_signal, setrlimit, setsid, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, LinkNameSpaceType, Uid, UnshareFlags, capabilities,
    configure_capability_in_ambient_set, move_into_link_name_space,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The user and group that a service is inside its user namespace. Not 0, which exec would give
/// capabilities, and not the overflow id, which means "unknown".
const INSIDE_ID: u32 = 1;

/// Where copies of the descriptors wait before they take their slots.
const ABOVE_SLOTS: i32 = 16;

/// Everything that the child needs, made ready by the parent.
pub(crate) struct Plan<'a> {
    pub(crate) name: &'a CStr,
    pub(crate) profile: &'static Profile,
    pub(crate) program: BorrowedFd<'a>,
    pub(crate) root: Root<'a>,
    pub(crate) network: Option<BorrowedFd<'a>>,
    pub(crate) separate: bool,
    pub(crate) user: Option<u32>,
    pub(crate) cgroups: &'a [BorrowedFd<'a>],
    pub(crate) limits: Limits,
    pub(crate) ruleset: Option<BorrowedFd<'a>>,
    pub(crate) null: BorrowedFd<'a>,
    pub(crate) stderr: BorrowedFd<'a>,
    pub(crate) start: BorrowedFd<'a>,
    pub(crate) report: BorrowedFd<'a>,
    pub(crate) missing: MissingSet,
}

type Done<T = ()> = Result<T, (Step, Errno)>;

/// Names the step in an error.
trait At<T> {
    fn at(self, step: Step) -> Done<T>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step) -> Done<T> {
        self.map_err(|error| (step, error))
    }
}

/// Becomes the program, or reports the step that failed. Returns the child's exit status.
pub(crate) fn run(plan: &Plan<'_>) -> i32 {
    let Err((step, error)) = confine_and_exec(plan);
    // The report has moved to its slot if the step that moves it was reached.
    let channel = if step as u8 > Step::Descriptors as u8 {
        report_channel()
    } else {
        plan.report
    };
    // Nobody is left to hear that this failed: the spawner sees the end of the channel.
    let _ = report::send(channel, Report::Failed(step, error));
    127
}

/// Makes an empty network namespace, tells its number, and waits to be killed. Returns the
/// helper's exit status if it could not.
pub(crate) fn make_network(channel: BorrowedFd<'_>) -> i32 {
    let made = sys::namespaces::unshare(UnshareFlags::NEWNET).and_then(|()| {
        openat(
            CWD,
            c"/proc/self/ns/net",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
    });
    let report = match &made {
        Ok(network) => Report::Confined(MissingSet::default(), Some(network.as_raw_fd())),
        Err(error) => Report::Failed(Step::Network, *error),
    };
    if report::send(channel, report).is_ok() && made.is_ok() {
        // Nothing is ever sent to it: this waits until the spawner has fetched what it made.
        let _ = report::receive(channel);
    }
    1
}

fn confine_and_exec(plan: &Plan<'_>) -> Done<std::convert::Infallible> {
    let mut missing = plan.missing;
    leave_the_supervisor()?;
    join_cgroups(plan.cgroups)?;
    if let Some(network) = plan.network {
        // While still privileged: joining needs CAP_SYS_ADMIN over that namespace's owner.
        move_into_link_name_space(network, Some(LinkNameSpaceType::Network)).at(Step::Network)?;
    }
    // Opened now, because the new root has no /proc; written when there is a user namespace.
    // A capability counts for the host only outside of a user namespace of one's own.
    let keeps = !plan.profile.capabilities.is_empty();
    let own_proc = if plan.separate && !keeps {
        Some(open_own_proc()?)
    } else {
        None
    };
    // Cloned before the mount namespace is left: a tree can only be taken out of one's own.
    let tree = root_tree(plan.root)?;
    if plan.separate {
        separate(&mut missing);
    }
    if let Some(tree) = tree {
        sys::namespaces::unshare(UnshareFlags::NEWNS).at(Step::MountNamespace)?;
        enter_root(tree)?;
    } else if plan.separate {
        sys::namespaces::unshare(UnshareFlags::NEWNS).at(Step::MountNamespace)?;
    }

    let kept = plan
        .profile
        .capabilities
        .iter()
        .fold(CapabilitySet::empty(), |all, one| all | one.set);
    // Before the user changes, which takes away the capability that this needs.
    limit_bounding(kept)?;
    change_user(plan.user, keeps)?;
    let mut kept = kept;
    if let Some(own_proc) = own_proc {
        if user_namespace(own_proc)? {
            // A new user namespace begins with a full bounding set.
            kept = CapabilitySet::empty();
            limit_bounding(kept)?;
        } else {
            missing.insert(Missing::UserNamespace);
        }
    }
    set_no_new_privs(true).at(Step::NoNewPrivileges)?;
    if let Some(ruleset) = plan.ruleset {
        // After the mounts, which Landlock would refuse.
        sys::landlock::restrict_self(ruleset).at(Step::Landlock)?;
    }
    drop_capabilities(kept, plan.user.is_some())?;
    // After the last change of credentials, each of which clears it.
    set_parent_process_death_signal(Some(Signal::KILL)).at(Step::DeathSignal)?;
    place_descriptors(plan)?;
    // After the descriptors, whose detour needs numbers above the limit.
    set_limits(plan.limits, &mut missing)?;
    install_filters(plan.profile, missing)?;
    Err((
        Step::Exec,
        sys::exec::program(sys::descriptors::at(Slot::Program), plan.name),
    ))
}

/// No signal stays blocked, no terminal stays in reach, no file is for others to read.
fn leave_the_supervisor() -> Done {
    // The supervisor may block signals to read them from a descriptor; exec would hand that on.
    // Not pthread_sigmask, by which nix would take a refusal for success: that returns the error instead of -1.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .map_err(|error| (Step::Signals, Errno::from_raw_os_error(error as i32)))?;
    setsid().at(Step::Session)?;
    umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}

/// Enters version 1 cgroups; that of version 2 was entered by clone3.
fn join_cgroups(cgroups: &[BorrowedFd<'_>]) -> Done {
    for cgroup in cgroups {
        let file = openat(
            cgroup,
            c"cgroup.procs",
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .at(Step::Cgroup)?;
        // 0 means the writer, whatever its number is in this PID namespace.
        rustix::io::write(&file, b"0").at(Step::Cgroup)?;
    }
    Ok(())
}

fn open_own_proc() -> Done<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, c"/proc/self", flags, Mode::empty()).at(Step::Proc)
}

/// A detached copy of the root directory's mount, on which nothing privileged can be found.
fn root_tree(root: Root<'_>) -> Done<Option<OwnedFd>> {
    let (directory, read_only) = match root {
        Root::Inherit => return Ok(None),
        Root::Empty(directory) => (directory, true),
        Root::Directory(directory) => (directory, false),
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(directory, c"", flags).at(Step::RootTree)?;
    sys::mount::restrict(tree.as_fd(), read_only).at(Step::RootFlags)?;
    Ok(Some(tree))
}

/// The namespaces that only separate; a host that refuses one costs that wall alone.
fn separate(missing: &mut MissingSet) {
    for (kind, wall) in [
        (UnshareFlags::NEWIPC, Missing::IpcNamespace),
        (UnshareFlags::NEWUTS, Missing::UtsNamespace),
        // After the cgroups were joined: they become the root of what it sees.
        (UnshareFlags::NEWCGROUP, Missing::CgroupNamespace),
    ] {
        if sys::namespaces::unshare(kind).is_err() {
            missing.insert(wall);
        }
    }
}

/// Makes `tree` the root and the only mount of this mount namespace.
///
/// Source: pivot_root(2), "pivot_root(".", ".")".
fn enter_root(tree: OwnedFd) -> Done {
    // pivot_root refuses shared mounts, and nothing that follows shall reach the host's.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", private).at(Step::Private)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree.as_fd(), c"", CWD, c"/", flags).at(Step::RootAttach)?;
    fchdir(&tree).at(Step::RootEnter)?;
    pivot_root(c".", c".").at(Step::Pivot)?;
    // The old root now lies on top of the new one, at the working directory.
    unmount(c".", UnmountFlags::DETACH).at(Step::Detach)?;
    chdir(c"/").at(Step::Detach)
}

/// Takes every capability but these out of the bounding set: no exec can bring them back.
fn limit_bounding(kept: CapabilitySet) -> Done {
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            // Past the last capability of this kernel.
            Err(Errno::INVAL) => break,
            other => other.at(Step::Bounding)?,
        }
    }
    Ok(())
}

fn change_user(user: Option<u32>, keeps: bool) -> Done {
    if let Some(id) = user {
        if keeps {
            // Otherwise every capability goes with uid 0; what is not to be kept is dropped later.
            set_keep_capabilities(true).at(Step::User)?;
        }
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        set_thread_groups(&[]).at(Step::Groups)?;
        set_thread_res_gid(group, group, group).at(Step::Group)?;
        set_thread_res_uid(user, user, user).at(Step::User)?;
    }
    // A change of user makes a process undumpable, and the files of its /proc entry root's.
    set_dumpable_behavior(DumpableBehavior::Dumpable).at(Step::Dumpable)
}

/// A user namespace with one user and one group, in which no mount, host name or process belongs
/// to it: those namespaces are older, and owned by the supervisor's. False if the host refuses.
///
/// Source: user_namespaces(7).
fn user_namespace(own_proc: OwnedFd) -> Done<bool> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    if sys::namespaces::unshare(UnshareFlags::NEWUSER).is_err() {
        return Ok(false);
    }
    // Without this an unprivileged process may not write a group map.
    write_file(&own_proc, c"setgroups", b"deny").at(Step::DenyGroups)?;
    write_map(&own_proc, c"gid_map", group).at(Step::GroupMap)?;
    write_map(&own_proc, c"uid_map", user).at(Step::UserMap)?;
    Ok(true)
}

fn write_map(own_proc: &OwnedFd, file: &CStr, outside: u32) -> Result<(), Errno> {
    let mut line = [0_u8; 32];
    let mut rest = line.as_mut_slice();
    write!(rest, "{INSIDE_ID} {outside} 1").map_err(|_| Errno::NOSPC)?;
    let unused = rest.len();
    let used = line.len() - unused;
    write_file(own_proc, file, line.get(..used).unwrap_or_default())
}

fn write_file(own_proc: &OwnedFd, file: &CStr, content: &[u8]) -> Result<(), Errno> {
    let file = openat(
        own_proc,
        file,
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::io::write(&file, content).map(|_| ())
}

/// Keeps these capabilities, as far as it has them, and no others. `through_exec`: as another user than uid 0, whom exec leaves only what is
/// inheritable and ambient (capabilities(7)).
fn drop_capabilities(kept: CapabilitySet, through_exec: bool) -> Done {
    let permitted = capabilities(None).at(Step::Capabilities)?.permitted & kept;
    let sets = CapabilitySets {
        effective: permitted,
        permitted,
        inheritable: if through_exec {
            permitted
        } else {
            CapabilitySet::empty()
        },
    };
    set_capabilities(None, sets).at(Step::Capabilities)?;
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if through_exec && permitted.contains(one) {
            configure_capability_in_ambient_set(one, true).at(Step::Capabilities)?;
        }
    }
    Ok(())
}

/// Fills the slots and closes everything above.
fn place_descriptors(plan: &Plan<'_>) -> Done {
    let places = [
        (plan.null, Slot::Input),
        (plan.null, Slot::Output),
        (plan.stderr, Slot::Error),
        (plan.start, Slot::Start),
        (plan.program, Slot::Program),
        (plan.report, Slot::Report),
    ];
    // First all out of the way: a descriptor may have the number of another one's slot.
    let mut copies = [const { None }; 6];
    for (copy, (descriptor, _)) in copies.iter_mut().zip(places) {
        let raised = rustix::io::fcntl_dupfd_cloexec(descriptor, ABOVE_SLOTS);
        *copy = Some(raised.at(Step::Descriptors)?);
    }
    for (copy, (_, slot)) in copies.iter().flatten().zip(places) {
        sys::descriptors::place(copy.as_fd(), slot).at(Step::Descriptors)?;
    }
    // By their owner, before they are closed with all others.
    drop(copies);
    sys::descriptors::close_from(Slot::END).at(Step::Descriptors)?;
    #[cfg(feature = "learn")]
    sys::descriptors::place_high(
        sys::descriptors::at(Slot::Report),
        crate::profile::generated::REPORT_WHEN_LEARNING,
    )
    .at(Step::Descriptors)?;
    Ok(())
}

fn set_limits(limits: Limits, missing: &mut MissingSet) -> Done {
    let wanted = [
        (Resource::Core, Some(0)),
        (Resource::Nofile, Some(limits.open_files)),
        (Resource::Data, limits.data_bytes),
        (Resource::As, limits.address_bytes),
        (Resource::Nproc, limits.threads),
    ];
    for (resource, wanted) in wanted {
        let Some(wanted) = wanted else { continue };
        // Nobody can give more than it may have itself.
        let most = getrlimit(resource)
            .maximum
            .map_or(wanted, |maximum| maximum.min(wanted));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit).at(Step::Limits)?;
        if most < wanted && resource == Resource::Nofile {
            missing.insert(Missing::OpenFiles);
        }
    }
    Ok(())
}

/// From the return of this function on, only the profile's calls work.
#[cfg(not(feature = "learn"))]
fn install_filters(profile: &Profile, missing: MissingSet) -> Done {
    let Some((last, tolerated)) = profile.filters.split_last() else {
        return Err((Step::Filter, Errno::NOENT));
    };
    for filter in tolerated {
        sys::seccomp::install(filter).at(Step::Tolerate)?;
    }
    let listener = match profile.otherwise {
        crate::profile::Otherwise::Refuse => {
            sys::seccomp::install(last).at(Step::Filter)?;
            None
        }
        crate::profile::Otherwise::Notify => {
            Some(sys::seccomp::install_with_listener(last).at(Step::Filter)?)
        }
    };
    send_confined(missing, listener)
}

/// As above, but every call is notified; a profile without a listener stays unfiltered.
#[cfg(feature = "learn")]
fn install_filters(profile: &Profile, missing: MissingSet) -> Done {
    let listener = match profile.otherwise {
        crate::profile::Otherwise::Refuse => None,
        crate::profile::Otherwise::Notify => {
            let filter = crate::profile::generated::LEARNER;
            Some(sys::seccomp::install_with_listener(filter).at(Step::Filter)?)
        }
    };
    send_confined(missing, listener)
}

fn send_confined(missing: MissingSet, listener: Option<OwnedFd>) -> Done {
    let number = listener.as_ref().map(AsRawFd::as_raw_fd);
    let sent = report::send(report_channel(), Report::Confined(missing, number));
    // Exec closes the listener; close may be a call that the profile does not have.
    std::mem::forget(listener);
    sent.at(Step::Filter)
}

fn report_channel() -> BorrowedFd<'static> {
    #[cfg(feature = "learn")]
    return sys::descriptors::at_high(crate::profile::generated::REPORT_WHEN_LEARNING);
    #[cfg(not(feature = "learn"))]
    sys::descriptors::at(Slot::Report)
}
