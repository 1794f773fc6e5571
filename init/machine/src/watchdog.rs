//! The hardware watchdog: a machine whose init no longer vouches for it is reset (the kernel's watchdog-api).

use crate::sys;
use rustix::fs::{Mode, OFlags, open};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// An untouched watchdog resets the machine after this long, in seconds.
const TIMEOUT_SECONDS: i32 = 60;
/// It is touched this often.
const TOUCH_EVERY: Duration = Duration::from_secs(10);

/// An armed watchdog. Never disarmed: a machine that hangs while it stops is reset, too.
#[derive(Debug)]
pub struct Watchdog {
    device: OwnedFd,
    next: Instant,
    /// What it is, for people.
    pub about: String,
}

impl Watchdog {
    /// Opens and thereby arms the first one; real hardware before the kernel's own timer, which cannot outlive a hung kernel.
    pub fn open() -> Option<Self> {
        let entries = std::fs::read_dir("/sys/class/watchdog").ok()?.flatten();
        let mut all: Vec<(bool, String, String)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let identity = std::fs::read_to_string(entry.path().join("identity"));
                let identity = identity.unwrap_or_default();
                let is_software = identity.starts_with("Software");
                Some((is_software, name, identity.trim().to_owned()))
            })
            .collect();
        all.sort();
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        all.into_iter().find_map(|(_, name, identity)| {
            let device = open(format!("/dev/{name}"), flags, Mode::empty()).ok()?;
            // Some devices have one fixed time, which is as good.
            let about = match sys::set_watchdog_timeout(&device, TIMEOUT_SECONDS) {
                Ok(seconds) => format!("{identity}, {seconds} s"),
                Err(_) => identity,
            };
            Some(Self {
                device,
                next: Instant::now(),
                about,
            })
        })
    }

    /// When it wants to be touched next.
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// Vouches for the machine, if it is time to.
    pub fn touch(&mut self, now: Instant) {
        if self.next <= now {
            self.next = now + TOUCH_EVERY;
            let _ = rustix::io::write(&self.device, b"\0");
        }
    }
}
