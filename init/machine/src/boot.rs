//! From the kernel's first process to a machine that can run a node, in two stages, and the way back to the firmware.
//!
//! The kernel starts `/init` on its rootfs, which can neither be left behind by pivot_root(2) (as every sandbox must) nor freed while a program runs
//! from it. So the first stage builds a small read-only root, copies the program into sealed memory, removes it from rootfs, and
//! executes the copy: no file that can be executed is left anywhere. The second stage is that copy.

use crate::console::Console;
use crate::disk;
use crate::error::Error;
use crate::guests;
use crate::node_toml::{FILE_BYTES_MAX, NodeToml};
use crate::power::Buttons;
use crate::sys;
use crate::watchdog::Watchdog;
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use rustix::fs::{Mode, mkdir, unlink};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_move, mount_remount, unmount};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{chdir, chroot};
use rustix::time::{ClockId, clock_gettime};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// The name by which the kernel starts the first process from an initramfs.
pub const FIRST_STAGE: &str = "/init";
/// The name of the second stage.
pub const SECOND_STAGE: &str = "init";
const SECOND_STAGE_C: &CStr = c"init";
/// Where the data partition is mounted.
pub const DATA: &str = "/data";

/// Where the new root grows before it is the root.
const NEW_ROOT: &str = "/root";
const EFI: &str = "/efi";
/// Storage that is slow to wake (a USB stick behind a hub) gets so long to appear.
const DISK_WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long the data partition may stay busy behind the last process.
const UNMOUNT_TRIES: u32 = 50;
/// What went wrong stays so long on the console before the machine starts again.
const SHOWN_FOR: Duration = Duration::from_secs(60);

const SAFE: MountFlags = MountFlags::NOSUID
    .union(MountFlags::NODEV)
    .union(MountFlags::NOEXEC);

/// What is mounted in the new root: type, directory, flags, options.
const MOUNTS: [(&CStr, &str, MountFlags, Option<&CStr>); 4] = [
    (c"proc", "proc", SAFE, None),
    (c"sysfs", "sys", SAFE, None),
    (
        c"devtmpfs",
        "dev",
        MountFlags::NOSUID.union(MountFlags::NOEXEC),
        Some(c"mode=0755"),
    ),
    (c"cgroup2", "sys/fs/cgroup", SAFE, None),
];

/// What the kernel is told beyond its command line: file below /proc/sys, value.
const SETTINGS: [(&str, &str); 4] = [
    // Only the bus may make sockets at all, and it has no capability: ssh's port is for it to take.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // Connections to other homes last for a day and rest between requests: what they have learnt of a long line is worth keeping, or a block of 256 KiB
    // would take three round trips more each time (tcp(7)).
    ("net/ipv4/tcp_slow_start_after_idle", "0"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/kptr_restrict", "2"),
];

/// A machine that is ready to run a node on [`DATA`].
#[derive(Debug)]
pub struct Machine {
    /// What its owner wrote down, or what could be used of it.
    pub node: NodeToml,
    /// Lines for its owner: what is wrong with `node.toml`, which disk is used.
    pub notes: Vec<String>,
    /// Its power buttons.
    pub buttons: Buttons,
    /// Its watchdog, if it has one.
    pub watchdog: Option<Watchdog>,
    /// How long after the kernel the first stage began.
    pub begun: Duration,
}

/// How a machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its power goes off.
    PowerOff,
    /// It starts again.
    Reboot,
}

/// The first stage. Returns only if it fails. `seal` copies a program into sealed memory.
pub fn first_stage(seal: impl FnOnce(&File) -> Result<OwnedFd, String>) -> Error {
    let begun = since_boot();
    match build_root().and_then(|()| become_second_stage(begun, seal)) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn build_root() -> Result<(), Error> {
    let options = c"mode=0755,size=1m,nr_inodes=64";
    let _ = mkdir(NEW_ROOT, Mode::from_raw_mode(0o755));
    mount(c"tmpfs", NEW_ROOT, c"tmpfs", SAFE, options)
        .map_err(|errno| Error::Mount("the root".into(), errno))?;
    for directory in ["proc", "sys", "dev", "data", "efi"] {
        mkdir(
            format!("{NEW_ROOT}/{directory}"),
            Mode::from_raw_mode(0o755),
        )
        .map_err(Error::Root)?;
    }
    for (kind, directory, flags, options) in MOUNTS {
        mount(
            kind,
            format!("{NEW_ROOT}/{directory}"),
            kind,
            flags,
            options,
        )
        .map_err(|errno| Error::Mount(directory.into(), errno))?;
    }
    guests::carry_over(Path::new(NEW_ROOT))
}

/// The time since the kernel began, as it counts it itself.
pub fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}

fn become_second_stage(
    begun: Duration,
    seal: impl FnOnce(&File) -> Result<OwnedFd, String>,
) -> Result<std::convert::Infallible, Error> {
    let file = File::open(FIRST_STAGE).map_err(|error| Error::Program(error.to_string()))?;
    let program = seal(&file).map_err(Error::Program)?;
    drop(file);
    // Its memory is freed when this process has become the copy.
    unlink(FIRST_STAGE).map_err(Error::Root)?;
    chdir(NEW_ROOT).map_err(Error::Root)?;
    mount_move(".", "/").map_err(Error::Root)?;
    chroot(".").map_err(Error::Root)?;
    chdir("/").map_err(Error::Root)?;
    mount_remount("/", SAFE | MountFlags::RDONLY, c"").map_err(Error::Root)?;
    let fails = |error: nix::errno::Errno| Error::Program(error.to_string());
    let began = CString::new(begun.as_millis().to_string()).unwrap_or_default();
    let words = [SECOND_STAGE_C, &began];
    nix::unistd::fexecve(program.as_fd(), &words, &[] as &[&CStr]).map_err(fails)
}

/// The second stage up to a mounted data partition. What it has to say goes to `console` at once. `began`: the first stage's one word.
pub fn second_stage(console: &mut Console, began: Option<&str>) -> Result<Machine, Error> {
    let began = began.and_then(|word| word.parse().ok());
    for (file, value) in SETTINGS {
        if let Err(error) = std::fs::write(format!("/proc/sys/{file}"), value) {
            console.line(&format!("/proc/sys/{file}: {error}"));
        }
    }
    if let Err(errno) = raise_loopback() {
        console.line(&format!("trousseau: the loopback interface: {errno}"));
    }
    // Ctrl-Alt-Del is then a signal to us instead of a reset.
    let _ = set_cad_enabled(false);
    let found = wait_for_disk()?;
    let mut notes = Vec::new();
    if found.others > 0 {
        notes.push(format!(
            "{} more disks have a Trousseau on them; this one runs from {}",
            found.others, found.disk
        ));
    }
    let node = read_node_toml(&found, &mut notes);
    notes
        .iter()
        .for_each(|note| console.line(&format!("trousseau: {note}")));
    let made = disk::prepare(&found, Path::new(DATA))?;
    if let Some(made) = made {
        console.line(&format!("trousseau: {made}"));
        notes.push(made);
    }
    Ok(Machine {
        node,
        notes,
        buttons: Buttons::open(),
        watchdog: Watchdog::open(),
        begun: began.map_or_else(since_boot, Duration::from_millis),
    })
}

/// The bus binds to it before the network has an address, or without one.
fn raise_loopback() -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    sys::raise_loopback(socket)
}

fn wait_for_disk() -> Result<disk::Found, Error> {
    let started = Instant::now();
    loop {
        match disk::find(Path::new("/sys/class/block")) {
            Err(Error::NoDisk) if started.elapsed() < DISK_WITHIN => {
                std::thread::sleep(LOOK_AGAIN);
            }
            other => return other,
        }
    }
}

/// The file, or of a wrong one what can be used of it. Each thing that is wrong becomes a note.
fn read_node_toml(found: &disk::Found, notes: &mut Vec<String>) -> NodeToml {
    let text = match read_from_efi(&found.efi) {
        Ok(text) => text,
        Err(why) => {
            notes.push(format!("node.toml: {why}; defaults are used"));
            return NodeToml::default();
        }
    };
    match NodeToml::parse(&text) {
        Ok(node) => node,
        Err(error) => {
            let node = NodeToml::salvage(&text);
            let (admin, inspect) = (node.ssh.admin.len(), node.ssh.inspect.len());
            notes.push(error.to_string());
            notes.push(match admin + inspect {
                0 => "node.toml is not right: defaults are used where it is wrong, and no ssh key could be read".into(),
                _ => format!("node.toml is not right: defaults are used where it is wrong, with {admin} admin and {inspect} inspect keys for ssh"),
            });
            node
        }
    }
}

/// Mounted for this moment only, and read-only: nothing that runs later can reach the kernel's file.
fn read_from_efi(device: &str) -> Result<String, String> {
    mount(
        format!("/dev/{device}"),
        EFI,
        c"vfat",
        SAFE | MountFlags::RDONLY,
        c"",
    )
    .map_err(|errno| format!("mounting the EFI partition {device}: {errno}"))?;
    let read = || {
        let file = File::open(format!("{EFI}/{}", crate::layout::NODE_TOML))?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX as u64 + 1)
            .read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().map_err(|error: std::io::Error| error.to_string());
    unmount(EFI, UnmountFlags::empty()).map_err(|errno| format!("unmounting {device}: {errno}"))?;
    text
}

/// Says what is wrong, leaves it on the console for a while, and starts the machine again: a disk that was late gets another chance.
pub fn fail(console: &mut Console, error: &dyn std::fmt::Display) -> ! {
    console.line(&format!("trousseau: {error}"));
    console.line(&format!(
        "trousseau: the machine starts again in {} seconds",
        SHOWN_FOR.as_secs()
    ));
    let until = Instant::now() + SHOWN_FOR;
    let mut buttons = Buttons::open();
    while Instant::now() < until {
        console.flush();
        if buttons.pressed() {
            end(console, End::PowerOff);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    end(console, End::Reboot)
}

/// Unmounts the data partition and ends the machine. Every process but this one must have ended.
pub fn end(console: &mut Console, how: End) -> ! {
    rustix::fs::sync();
    for left in (0..UNMOUNT_TRIES).rev() {
        match unmount(DATA, UnmountFlags::empty()) {
            // EINVAL: it was not mounted.
            Ok(()) | Err(Errno::INVAL) => break,
            Err(_) if left > 0 => std::thread::sleep(Duration::from_millis(20)),
            Err(errno) => {
                console.line(&format!(
                    "trousseau: {DATA} could not be unmounted: {errno}"
                ));
                let _ = mount_remount(DATA, SAFE | MountFlags::RDONLY, c"");
            }
        }
    }
    rustix::fs::sync();
    let (mode, what) = match how {
        End::PowerOff => (RebootMode::RB_POWER_OFF, "off"),
        End::Reboot => (RebootMode::RB_AUTOBOOT, "on again"),
    };
    console.line(&format!("trousseau: the power goes {what}"));
    console.drain(Duration::from_secs(1));
    loop {
        // Returns only if it is refused, which it is not to PID 1 of a machine.
        let _ = reboot(mode);
        std::thread::sleep(Duration::from_secs(1));
    }
}
