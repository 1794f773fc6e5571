//! The cases, each named after the promise that it guards.

use crate::supervisor::{Options, Running};
use rustix::fs::{CWD, Mode, OFlags, open, openat};
use rustix::io::Errno;
use sandbox_profiles::{Error, Limits, Missing, Root, Step, Verdict, empty_network};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

/// A host user that nobody else has.
const SERVICE_USER: u32 = 61_234;

pub(crate) const ALL: &[(&str, fn())] = &[
    (
        "a_program_finds_four_descriptors_and_no_environment",
        four_descriptors,
    ),
    ("a_service_has_its_own_namespaces", own_namespaces),
    ("a_service_has_no_privileges", no_privileges),
    (
        "a_service_sees_its_directory_as_root_and_nothing_else",
        directory_as_root,
    ),
    ("an_empty_root_is_empty", empty_root),
    ("limits_hold", limits_hold),
    (
        "a_supervisor_with_many_descriptors_can_start_a_service_with_few",
        many_descriptors,
    ),
    ("cgroups_are_entered_before_exec", cgroups_entered),
    (
        "tokio_uring_runs_unmodified_on_a_restricted_ring",
        restricted_ring,
    ),
    ("a_second_ring_is_a_violation", second_ring),
    ("threads_work_and_clone3_does_not", threads_work),
    ("a_start_call_after_ready_is_a_violation", late_start_call),
    ("a_changed_argument_is_a_violation", changed_argument),
    (
        "the_supervisor_can_list_a_services_descriptors",
        descriptors_listed,
    ),
    ("services_die_with_their_supervisor", die_with_supervisor),
    (
        "a_supervisor_under_a_filter_names_its_services_violations",
        nested_supervisor,
    ),
    ("a_wall_that_the_host_refuses_is_named", refused_walls),
    ("a_failed_step_reaches_the_supervisor", failed_step),
    ("an_unsealed_program_is_refused", unsealed_program),
];

/// The service's own user, where there is more than one to have.
pub(crate) fn service_user() -> Option<u32> {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let all = map.split_whitespace().last() == Some("4294967295");
    all.then_some(SERVICE_USER)
}

/// A directory that belongs to the service.
fn data_directory() -> (tempfile::TempDir, OwnedFd) {
    let directory = tempfile::tempdir().unwrap();
    if let Some(user) = service_user() {
        chown(directory.path(), Some(user), Some(user)).unwrap();
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = open(directory.path(), flags, Mode::empty()).unwrap();
    (directory, descriptor)
}

fn status(running: &Running, field: &str) -> String {
    let path = format!("/proc/{}/status", running.pid().as_raw_pid());
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

fn four_descriptors() {
    let (_kept, data) = data_directory();
    let options = Options {
        root: Some(Root::Directory(data.as_fd())),
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-table", "block-store", &options);
    running.hear(3);
    assert_eq!(running.said[0], r#"("descriptors", [0, 1, 2, 3])"#);
    assert_eq!(running.said[1], r#"("arguments", ["payload-table"])"#);
    assert_eq!(running.said[2], r#"("environment", 0)"#);
    assert_eq!(running.child.missing, []);
}

fn own_namespaces() {
    let network = empty_network().unwrap();
    let (_kept, data) = data_directory();
    let options = Options {
        root: Some(Root::Directory(data.as_fd())),
        network: Some(&network),
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-idle", "block-store", &options);
    running.hear(1);
    for kind in ["user", "mnt", "pid", "ipc", "uts", "cgroup", "net"] {
        let pid = running.pid().as_raw_pid();
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        let ours = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(theirs, ours, "{kind}");
    }
    let interfaces =
        fs::read_to_string(format!("/proc/{}/net/dev", running.pid().as_raw_pid())).unwrap();
    assert_eq!(
        interfaces.lines().count(),
        3,
        "two lines of heading and lo:\n{interfaces}"
    );
    assert!(
        status(&running, "NSpid").ends_with("\t1"),
        "it is its namespace's first process"
    );
    // And they are not owned by its user namespace: it could do nothing with them if it were root.
    assert_eq!(running.child.missing, []);
}

fn no_privileges() {
    let (_kept, data) = data_directory();
    let options = Options {
        root: Some(Root::Directory(data.as_fd())),
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-idle", "block-store", &options);
    running.hear(1);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(&running, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(&running, "NoNewPrivs"), "1");
    assert_eq!(status(&running, "Seccomp"), "2");
    assert_eq!(status(&running, "Groups"), "");
    if let Some(user) = service_user() {
        assert_eq!(
            status(&running, "Uid"),
            format!("{user}\t{user}\t{user}\t{user}")
        );
        assert_eq!(
            status(&running, "Gid"),
            format!("{user}\t{user}\t{user}\t{user}")
        );
    }
}

fn directory_as_root() {
    let (directory, data) = data_directory();
    let options = Options {
        root: Some(Root::Directory(data.as_fd())),
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-files", "block-store", &options);
    running.hear(9);
    assert_eq!(
        running.said,
        [
            r#"("mkdir", Ok(()))"#,
            r#"("create", Ok(5))"#,
            r#"("rename across directories", Ok(()))"#,
            r#"("relative", true)"#,
            r#"("remove", Ok(()))"#,
            r#"("/etc/passwd", Err(Os { code: 2, kind: NotFound, message: "No such file or directory" }))"#,
            r#"("../../../../etc/passwd", Err(Os { code: 2, kind: NotFound, message: "No such file or directory" }))"#,
            r#"("/proc/self/root/etc/passwd", Err(Os { code: 2, kind: NotFound, message: "No such file or directory" }))"#,
            r#"("/dev/null", Err(Os { code: 2, kind: NotFound, message: "No such file or directory" }))"#,
        ]
    );
    assert_eq!(fs::read(directory.path().join("block")).unwrap(), b"block");
    let metadata = fs::metadata(directory.path().join("block")).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
    if let Some(user) = service_user() {
        assert_eq!(metadata.uid(), user);
    }
    let mounts =
        fs::read_to_string(format!("/proc/{}/mounts", running.pid().as_raw_pid())).unwrap();
    let [mount] = mounts.lines().collect::<Vec<_>>()[..] else {
        panic!("one mount: {mounts}")
    };
    for flag in ["nosuid", "nodev", "noexec", "rw"] {
        assert!(
            mount.split([' ', ',']).any(|word| word == flag),
            "{flag}: {mount}"
        );
    }
}

fn empty_root() {
    let directory = tempfile::tempdir().unwrap();
    let empty = open(
        directory.path(),
        OFlags::PATH | OFlags::DIRECTORY,
        Mode::empty(),
    )
    .unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let options = Options {
        root: Some(Root::Empty(empty.as_fd())),
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-files", "block-store", &options);
    running.hear(9);
    assert!(
        running.said[0].starts_with(r#"("mkdir", Err("#),
        "{:?}",
        running.said
    );
    assert!(
        running.said[1].starts_with(r#"("create", Err("#),
        "{:?}",
        running.said
    );
    assert!(running.said[5].contains("NotFound"), "{:?}", running.said);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    let mounts =
        fs::read_to_string(format!("/proc/{}/mounts", running.pid().as_raw_pid())).unwrap();
    assert!(
        mounts.split([' ', ',']).any(|word| word == "ro"),
        "{mounts}"
    );
}

fn limits_hold() {
    let options = Options {
        user: service_user(),
        limits: Limits {
            open_files: 77,
            data_bytes: Some(64 << 20),
            address_bytes: Some(512 << 20),
            threads: Some(9),
        },
        ..Options::default()
    };
    let mut running = Running::start("payload-idle", "console", &options);
    running.hear(1);
    let limits =
        fs::read_to_string(format!("/proc/{}/limits", running.pid().as_raw_pid())).unwrap();
    for (name, value) in [
        ("Max open files", 77),
        ("Max core file size", 0),
        ("Max data size", 64 << 20),
        ("Max address space", 512 << 20),
        ("Max processes", 9),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let numbers: Vec<&str> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(numbers, [value.to_string(), value.to_string()], "{name}");
    }
}

fn many_descriptors() {
    let many: Vec<fs::File> = (0..200)
        .map(|_| fs::File::open("/dev/null").unwrap())
        .collect();
    let limits = Limits {
        open_files: 16,
        ..Options::default().limits
    };
    let options = Options {
        user: service_user(),
        limits,
        ..Options::default()
    };
    let mut running = Running::start("payload-table", "block-store", &options);
    running.hear(1);
    assert_eq!(running.said[0], r#"("descriptors", [0, 1, 2, 3])"#);
    drop(many);
}

/// On hosts that have the hierarchy and let us write to it.
fn cgroups_entered() {
    let name = format!("sandbox-profiles-test-{}", std::process::id());
    for (hierarchy, version) in [
        ("/sys/fs/cgroup/unified", 2),
        ("/sys/fs/cgroup", 2),
        ("/sys/fs/cgroup/pids", 1),
    ] {
        let has_processes = Path::new(hierarchy).join("cgroup.procs").exists();
        let directory = Path::new(hierarchy).join(&name);
        if !has_processes || fs::create_dir(&directory).is_err() {
            println!("  {hierarchy}: left out, it is not there or not ours");
            continue;
        }
        let group = openat(
            CWD,
            &directory,
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
        let mut options = Options {
            user: service_user(),
            ..Options::default()
        };
        match version {
            2 => options.cgroup = Some(&group),
            _ => options.cgroup_v1 = Some(&group),
        }
        let mut running = Running::start("payload-idle", "console", &options);
        running.hear(1);
        let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap();
        assert_eq!(
            members.trim(),
            running.pid().as_raw_pid().to_string(),
            "{hierarchy}"
        );
        drop(running);
        fs::remove_dir(&directory).unwrap();
    }
}

fn restricted_ring() {
    let (_kept, data) = data_directory();
    let options = Options {
        root: Some(Root::Directory(data.as_fd())),
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-ring", "block-store", &options);
    running.hear(4);
    assert_eq!(
        running.said,
        [
            r#"("write_at", Some(4096))"#,
            r#"("read_at", Some(4096), true)"#,
            r#"("sync_data", true)"#,
            // OPENAT is not an operation of this ring.
            r#"("open", Some(13))"#,
        ]
    );
    assert!(running.verdicts.contains(&Verdict::RingGiven));
}

fn second_ring() {
    let options = Options {
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-second-ring", "block-store", &options);
    assert_eq!(running.until_violation(), "io_uring_setup");
    assert_eq!(running.said, [r#"("first", true)"#]);
}

fn threads_work() {
    let options = Options {
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-threads", "s3-frontend", &options);
    running.hear(1);
    assert_eq!(running.said, [r#"("thread", Some(1048576))"#]);
    assert!(running.verdicts.contains(&Verdict::Continued("clone")));
}

fn late_start_call() {
    let options = Options {
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-late", "s3-frontend", &options);
    running.hear(1);
    assert_eq!(running.said[0], r#"("before", Ok(()))"#);
    running.seal();
    running.go_on();
    assert_eq!(running.until_violation(), "prctl");
    assert_eq!(running.said.len(), 1, "the call was not answered");
}

fn changed_argument() {
    let options = Options {
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-executable-memory", "s3-frontend", &options);
    assert_eq!(running.until_violation(), "mmap");
    let Some(Verdict::Violation { args, .. }) = running.verdicts.last() else {
        panic!()
    };
    assert_eq!(args[2], 7, "PROT_READ | PROT_WRITE | PROT_EXEC");
    assert_eq!(running.said, [r#"("data", true, 3)"#]);
}

/// `trousseau caps` reads /proc/PID/fd of every service; it runs as root of the outer namespace.
fn descriptors_listed() {
    let (_kept, data) = data_directory();
    let options = Options {
        root: Some(Root::Directory(data.as_fd())),
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-idle", "block-store", &options);
    running.hear(1);
    let directory = format!("/proc/{}/fd", running.pid().as_raw_pid());
    let mut targets = vec![];
    for entry in fs::read_dir(directory).unwrap() {
        targets.push(fs::read_link(entry.unwrap().path()).unwrap());
    }
    assert_eq!(targets.len(), 4, "{targets:?}");
    assert!(
        targets[3].to_str().unwrap().starts_with("socket:"),
        "{targets:?}"
    );
}

/// The other process of the next case.
pub(crate) fn supervise_until_killed() -> ! {
    let options = Options {
        user: service_user(),
        ..Options::default()
    };
    let mut running = Running::start("payload-idle", "console", &options);
    running.hear(1);
    println!("{}", running.pid().as_raw_pid());
    loop {
        std::thread::park();
    }
}

fn die_with_supervisor() {
    use std::io::{BufRead, BufReader};
    let mut command = Command::new("/proc/self/exe");
    command.arg("--supervise").stdout(Stdio::piped());
    let mut supervisor = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(supervisor.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let service = line.trim();
    assert!(Path::new("/proc").join(service).exists());
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    for _ in 0..200 {
        let state = fs::read_to_string(format!("/proc/{service}/stat")).unwrap_or_default();
        // Gone, or a zombie that its new parent has not reaped.
        if state.is_empty() || state.contains(") Z ") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("process {service} outlives its supervisor");
}

/// A filter is inherited: the orchestrator's own must neither break its services nor hide their
/// violations behind a death without a name.
fn nested_supervisor() {
    let options = Options {
        root: Some(Root::Inherit),
        separate: false,
        ..Options::default()
    };
    let mut running = Running::start("payload-orchestrator", "orchestrator", &options);
    running.hear(3);
    assert_eq!(
        running.said,
        [
            // ENOSYS: the profile has no such call.
            r#"("socket", Some(38))"#,
            r#"("payload-second-ring", "io_uring_setup", 0)"#,
            r#"("payload-executable-memory", "mmap", 0)"#,
        ]
    );
    let kept = u64::from_str_radix(&status(&running, "CapBnd"), 16).unwrap();
    assert_eq!(kept.count_ones(), 8, "{kept:x}");
    assert_eq!(status(&running, "CapEff"), status(&running, "CapBnd"));
}

/// Limits on namespaces are each user namespace's own, so only the run inside one tries this.
fn refused_walls() {
    if service_user().is_some() {
        return;
    }
    for (kind, wall) in [
        ("pid", Missing::PidNamespace),
        ("ipc", Missing::IpcNamespace),
        ("uts", Missing::UtsNamespace),
        ("cgroup", Missing::CgroupNamespace),
        ("user", Missing::UserNamespace),
    ] {
        let limit = format!("/proc/sys/user/max_{kind}_namespaces");
        let before = fs::read_to_string(&limit).unwrap();
        fs::write(&limit, "0").unwrap();
        let mut running = Running::start("payload-idle", "console", &Options::default());
        fs::write(&limit, before.trim()).unwrap();
        running.hear(1);
        assert_eq!(running.child.missing, [wall]);
        assert_eq!(
            status(&running, "CapPrm"),
            "0000000000000000",
            "without {kind}"
        );
        assert_eq!(
            status(&running, "CapBnd"),
            "0000000000000000",
            "without {kind}"
        );
    }
}

fn failed_step() {
    // Not a directory that can be a root.
    let file = open("/dev/null", OFlags::RDONLY, Mode::empty()).unwrap();
    let options = Options {
        root: Some(Root::Directory(file.as_fd())),
        ..Options::default()
    };
    let failed = Running::try_start("payload-idle", "console", &options).err();
    let is_expected = |error: &Error| {
        matches!(
            error,
            Error::Child(Step::RootAttach, Errno::NOTDIR | Errno::INVAL)
        )
    };
    assert!(failed.as_ref().is_some_and(is_expected), "{failed:?}");

    let options = Options {
        network: Some(&file),
        ..Options::default()
    };
    let failed = Running::try_start("payload-idle", "console", &options).err();
    assert!(
        matches!(failed, Some(Error::Child(Step::Network, Errno::INVAL))),
        "{failed:?}"
    );
}

fn unsealed_program() {
    use sandbox_profiles::{Spawn, profile, spawn};
    let program = fs::File::open("/proc/self/exe").unwrap();
    let (_channel, start) = std::os::unix::net::UnixStream::pair().unwrap();
    let failed = spawn(Spawn {
        name: "payload-idle",
        profile: profile("console").unwrap(),
        program: program.as_fd(),
        root: Root::Inherit,
        network: None,
        separate: false,
        user: None,
        cgroup: None,
        cgroups_v1: &[],
        limits: Options::default().limits,
        stderr: std::io::stderr().as_fd(),
        start: start.into(),
    });
    assert!(matches!(failed, Err(Error::Unsealed)), "{failed:?}");
}
