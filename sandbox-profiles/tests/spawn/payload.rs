//! The programs that the cases start: what a service does, in small.
//!
//! Each has descriptor 3 and nothing else, talks text on it, and runs under a real profile.

use crate::cases::service_user;
use crate::supervisor::{Options, Running};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with, unlinkat};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
use std::fmt::Debug;
use std::fs::File;
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};

type Payload = fn();

/// The payload of this name.
pub(crate) fn find(name: &str) -> Option<Payload> {
    let all: &[(&str, Payload)] = &[
        ("payload-idle", idle),
        ("payload-table", table),
        ("payload-files", files),
        ("payload-ring", ring),
        ("payload-threads", threads),
        ("payload-late", late),
        ("payload-second-ring", second_ring),
        ("payload-executable-memory", executable_memory),
        ("payload-orchestrator", orchestrator),
    ];
    all.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, payload)| *payload)
}

/// The start channel: in these tests a stream to the case, read and written as a file, because
/// not every profile has the calls of a socket.
fn channel() -> File {
    // SAFETY: descriptor 3 is the start channel, and each payload takes it once.
    unsafe { File::from_raw_fd(3) }
}

fn say(mut channel: &File, words: impl Debug) {
    writeln!(channel, "{words:?}").unwrap();
}

/// Waits for the case to go on, by the call that every profile allows.
fn hear(channel: &File) {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let _ = recvmsg(
        channel,
        &mut parts,
        &mut RecvAncillaryBuffer::default(),
        RecvFlags::empty(),
    );
}

fn idle() {
    let channel = channel();
    say(&channel, "ready");
    hear(&channel);
}

/// Tells what a program finds when it starts.
fn table() {
    let channel = channel();
    let open: Vec<i32> = (0..64).filter(|number| is_open(*number)).collect();
    say(&channel, ("descriptors", open));
    say(
        &channel,
        ("arguments", std::env::args().collect::<Vec<_>>()),
    );
    say(&channel, ("environment", std::env::vars().count()));
    hear(&channel);
}

fn is_open(number: i32) -> bool {
    // SAFETY: fstat only asks; a number that is not open is an error, not a danger.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::fs::fstat(descriptor).is_ok()
}

/// Uses its root, and tries to see beyond it.
fn files() {
    let channel = channel();
    let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let write = |path: &str| -> Result<usize, Errno> {
        rustix::io::write(
            openat(CWD, path, create, Mode::RUSR | Mode::WUSR)?,
            b"block",
        )
    };
    say(&channel, ("mkdir", mkdirat(CWD, "/00", Mode::RWXU)));
    say(&channel, ("create", write("/00/new")));
    say(
        &channel,
        (
            "rename across directories",
            renameat_with(CWD, "/00/new", CWD, "/block", RenameFlags::NOREPLACE),
        ),
    );
    say(&channel, ("relative", write("beside").is_ok()));
    say(
        &channel,
        (
            "remove",
            unlinkat(CWD, "/beside", rustix::fs::AtFlags::empty()),
        ),
    );
    for path in [
        "/etc/passwd",
        "../../../../etc/passwd",
        "/proc/self/root/etc/passwd",
        "/dev/null",
    ] {
        let opened = openat(CWD, path, OFlags::RDONLY, Mode::empty()).map(|_| ());
        say(&channel, (path, opened));
    }
    hear(&channel);
}

/// tokio-uring as any program uses it.
fn ring() {
    let channel = channel();
    let write = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = openat(CWD, "/pack", write, Mode::RUSR | Mode::WUSR).unwrap();
    tokio_uring::start(async {
        let file = tokio_uring::fs::File::from_std(file.into());
        let (written, _) = file.write_at(vec![7_u8; 4096], 0).submit().await;
        say(&channel, ("write_at", written.ok()));
        let (read, bytes) = file.read_at(vec![0_u8; 4096], 0).await;
        say(&channel, ("read_at", read.ok(), bytes == vec![7_u8; 4096]));
        say(&channel, ("sync_data", file.sync_data().await.is_ok()));
        let opened = tokio_uring::fs::File::open("/pack").await;
        say(
            &channel,
            ("open", opened.err().and_then(|error| error.raw_os_error())),
        );
        hear(&channel);
    });
}

/// A worker thread before Ready, and locks between threads.
fn threads() {
    let channel = channel();
    let worker = std::thread::Builder::new().name("worker".into());
    let answer = worker.spawn(|| vec![1_u8; 1 << 20].len()).unwrap().join();
    say(&channel, ("thread", answer.ok()));
    hear(&channel);
}

/// A start call after Ready.
fn late() {
    let channel = channel();
    say(&channel, ("before", rustix::thread::set_name(c"early")));
    hear(&channel);
    say(&channel, ("after", rustix::thread::set_name(c"late")));
}

fn second_ring() {
    let channel = channel();
    let mut parameters = [0_u32; 30];
    for attempt in ["first", "second"] {
        // SAFETY: the parameters are as large as the kernel's structure.
        let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8, parameters.as_mut_ptr()) };
        say(&channel, (attempt, ring >= 0));
    }
}

/// The same call with another argument.
fn executable_memory() {
    let channel = channel();
    for (name, protection) in [("data", 3), ("code", 7)] {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice disturbs nothing.
        let memory = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
        say(
            &channel,
            (name, memory != libc::MAP_FAILED, channel.as_raw_fd()),
        );
    }
}

/// A supervisor that is itself under a filter: starts services and names their violations.
fn orchestrator() {
    let channel = channel();
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    );
    say(&channel, ("socket", socket.err().map(Errno::raw_os_error)));
    let options = Options {
        user: service_user(),
        ..Options::default()
    };
    for (payload, profile) in [
        ("payload-second-ring", "block-store"),
        ("payload-executable-memory", "s3-frontend"),
    ] {
        let mut service = Running::start(payload, profile, &options);
        say(
            &channel,
            (
                payload,
                service.until_violation(),
                service.child.missing.len(),
            ),
        );
    }
    hear(&channel);
}
