//! The machine's consoles: every line goes to the serial line and to the screen, and none of them can hold the node up.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// So many bytes wait for a slow console; then lines are dropped.
const PENDING_BYTES_MAX: usize = 64 * 1024;

/// The consoles of the kernel's command line.
#[derive(Debug, Default)]
pub struct Console {
    outputs: Vec<Output>,
}

#[derive(Debug)]
struct Output {
    device: OwnedFd,
    pending: Vec<u8>,
    dropped: usize,
}

impl Console {
    /// Opens every console that the kernel uses (its `/sys/class/tty/console/active`); without any, the standard error.
    pub fn open() -> Self {
        let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let flags = OFlags::WRONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let devices = active
            .split_whitespace()
            .filter_map(|name| open(format!("/dev/{name}"), flags, Mode::empty()).ok());
        let outputs = devices.map(|device| Output {
            device,
            pending: Vec::new(),
            dropped: 0,
        });
        let outputs: Vec<Output> = outputs.collect();
        if outputs.is_empty() {
            return Self::standard_error();
        }
        Self { outputs }
    }

    /// What the kernel opened for us, before there is a /sys to ask.
    fn standard_error() -> Self {
        let device = rustix::stdio::stderr().try_clone_to_owned().ok();
        let outputs = device.map(|device| Output {
            device,
            pending: Vec::new(),
            dropped: 0,
        });
        Self {
            outputs: outputs.into_iter().collect(),
        }
    }

    /// Shows a line. What is in it may come from anybody, so nothing of it reaches the terminal but text.
    pub fn line(&mut self, text: &str) {
        let mut bytes = plain(text).into_bytes();
        bytes.push(b'\n');
        for output in &mut self.outputs {
            output.add(&bytes);
        }
        self.flush();
    }

    /// Writes what a console can take now. To be called now and then.
    pub fn flush(&mut self) {
        for output in &mut self.outputs {
            output.flush();
        }
    }

    /// Writes everything, within a time.
    pub(crate) fn drain(&mut self, within: Duration) {
        let until = Instant::now() + within;
        self.flush();
        while self.outputs.iter().any(|one| !one.pending.is_empty()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
            self.flush();
        }
    }
}

fn plain(text: &str) -> String {
    let shown = |letter: char| if letter.is_control() { '?' } else { letter };
    text.chars().map(shown).collect()
}

impl Output {
    fn add(&mut self, bytes: &[u8]) {
        if self.pending.len() + bytes.len() > PENDING_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 && self.pending.is_empty() {
            let told = format!("({} lines were not shown)\n", self.dropped);
            self.pending.extend_from_slice(told.as_bytes());
            self.dropped = 0;
        }
        self.pending.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.device, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // A console that has gone (a USB serial line) is not waited for.
                Err(_) => self.pending.clear(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn a_console_that_takes_nothing_holds_nobody_up_and_tells_what_is_missing() {
        let (reader, device) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let output = Output {
            device,
            pending: Vec::new(),
            dropped: 0,
        };
        let mut console = Console {
            outputs: vec![output],
        };
        let line = "x".repeat(1_000);
        for _ in 0..1_000 {
            console.line(&line);
        }
        let mut seen = Vec::new();
        let mut buffer = [0; 65_536];
        for _ in 0..10 {
            while let Ok(count) = rustix::io::read(&reader, &mut buffer) {
                seen.extend_from_slice(buffer.get(..count).unwrap());
            }
            console.flush();
        }
        console.line("the \u{1b}[2Jlast");
        while let Ok(count) = rustix::io::read(&reader, &mut buffer) {
            seen.extend_from_slice(buffer.get(..count).unwrap());
        }
        let seen = String::from_utf8(seen).unwrap();
        assert!(seen.len() < 3 * PENDING_BYTES_MAX);
        assert!(seen.ends_with("lines were not shown)\nthe ?[2Jlast\n"));
    }
}
