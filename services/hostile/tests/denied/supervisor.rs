//! The supervisor of one hostile process: packs, seals when it is ready, and takes notes.

use protocol::Channel;
use protocol::channel::ReceiveBuffer;
use protocol::start::{Order, Packed, Say, Start};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use sandbox_profiles::{
    Child, Limits, Profile, Root, Spawn, Verdict, empty_network, program, spawn,
};
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A host user that nobody else has.
const SERVICE_USER: u32 = 61_235;
/// Longer than any attempt takes on a busy machine.
const PATIENCE: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};

/// How a hostile process is started.
pub(crate) struct Settings {
    pub(crate) when: &'static str,
    pub(crate) data_bytes: Option<u64>,
    pub(crate) threads: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            when: "at-once",
            data_bytes: None,
            threads: None,
        }
    }
}

/// How a process ended by itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exit(i32),
    Signal(i32),
}

/// What became of a hostile process.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Attempts that came back, with their results.
    pub(crate) results: Vec<(String, String)>,
    /// The call that it was stopped in.
    pub(crate) violation: Option<&'static str>,
    /// It sent what is not a message.
    pub(crate) garbled: bool,
    pub(crate) status: Option<Ended>,
}

/// A directory of this test run's own, removed by nobody else.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn shared_network() -> &'static OwnedFd {
    static NETWORK: OnceLock<OwnedFd> = OnceLock::new();
    NETWORK.get_or_init(|| empty_network().expect("an empty network namespace"))
}

fn sealed_program() -> &'static OwnedFd {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let file = File::open(env!("CARGO_BIN_EXE_hostile")).unwrap();
        program("hostile", file.as_fd()).expect("a sealed copy")
    })
}

/// Runs one process with these attempts until it is done, stopped in a violation, or gone.
pub(crate) fn run(profile: &'static Profile, attempts: &str, settings: &Settings) -> Outcome {
    let scratch = Scratch(tempdir());
    let user = rustix::process::getuid().is_root().then_some(SERVICE_USER);
    chown(&scratch.0, user, user).unwrap();
    let root = open(
        &scratch.0,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    );
    let root = root.unwrap();
    let (channel, start) = Channel::pair().unwrap();
    let (log, stderr) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let child = spawn(Spawn {
        name: "hostile",
        profile,
        program: sealed_program().as_fd(),
        root: Root::Directory(root.as_fd()),
        network: Some(shared_network().as_fd()),
        separate: true,
        user,
        cgroup: None,
        cgroups_v1: &[],
        limits: Limits {
            open_files: 64,
            data_bytes: settings.data_bytes,
            address_bytes: None,
            threads: settings.threads,
        },
        stderr: stderr.as_fd(),
        start: start.into_socket(),
    })
    .expect("spawn");
    drop(stderr);
    assert_eq!(child.missing, []);
    let settings = vec![
        ("attempts".to_owned(), attempts.to_owned()),
        ("when".to_owned(), settings.when.to_owned()),
    ];
    let packed = Packed {
        service: "hostile".into(),
        grants: vec![],
        settings,
    };
    channel
        .send_message::<Start>(&Order::Packed(packed), &[], SendFlags::empty())
        .unwrap();
    Supervisor {
        child,
        channel,
        log: log.into(),
        text: String::new(),
        outcome: Outcome::default(),
    }
    .watch(attempts.split(',').count())
}

fn tempdir() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("hostile-{}-{number}", std::process::id()));
    fs::create_dir(&path).unwrap();
    path
}

struct Supervisor {
    child: Child,
    channel: Channel,
    log: File,
    text: String,
    outcome: Outcome,
}

impl Supervisor {
    fn watch(mut self, attempts: usize) -> Outcome {
        let mut channel_open = true;
        loop {
            let ready = self.poll(channel_open);
            // The channel first: Ready must seal before a later call is judged.
            if ready[0] && !self.hear() {
                channel_open = false;
            }
            if ready[1] {
                self.read_log();
            }
            if ready[2] {
                self.answer();
            }
            let done = self.outcome.results.len() == attempts || self.outcome.garbled;
            let ended = ready[3] && !ready[2];
            if done || ended || self.outcome.violation.is_some() {
                break;
            }
        }
        // What it wrote before it was stopped may have come in after the last look.
        while self.poll_now()[1] && self.read_log() > 0 {}
        while self.poll_now()[0] && self.hear() {}
        self.end()
    }

    fn poll_now(&self) -> [bool; 4] {
        self.poll_for(true, &Timespec::default()).1
    }

    fn poll(&self, channel_open: bool) -> [bool; 4] {
        let (count, ready) = self.poll_for(channel_open, &PATIENCE);
        assert!(
            count > 0,
            "nothing happens: {:?} {}",
            self.outcome,
            self.text
        );
        ready
    }

    /// Start channel, log, trapped calls, end.
    fn poll_for(&self, channel_open: bool, patience: &Timespec) -> (usize, [bool; 4]) {
        let wait_for = |wanted| {
            if wanted {
                PollFlags::IN
            } else {
                PollFlags::empty()
            }
        };
        let listener = self
            .child
            .watch
            .as_ref()
            .map_or(self.log.as_fd(), |watch| watch.as_fd());
        let mut descriptors = [
            PollFd::new(&self.channel, wait_for(channel_open)),
            PollFd::new(&self.log, PollFlags::IN),
            PollFd::from_borrowed_fd(listener, wait_for(self.child.watch.is_some())),
            PollFd::new(&self.child.pidfd, PollFlags::IN),
        ];
        let count = poll(&mut descriptors, Some(patience)).unwrap();
        (
            count,
            descriptors.map(|descriptor| descriptor.revents().contains(PollFlags::IN)),
        )
    }

    fn hear(&mut self) -> bool {
        let mut buffer = ReceiveBuffer::new();
        match self
            .channel
            .receive_message::<Start, Say>(&mut buffer, RecvFlags::DONTWAIT)
        {
            Ok(Some((Say::Ready { .. }, _))) => {
                if let Some(watch) = &mut self.child.watch {
                    watch.seal();
                }
                true
            }
            Ok(Some(_)) => true,
            Ok(None) => false,
            Err(error) => {
                self.outcome.garbled |= !error.would_block();
                // What follows a broken message means nothing.
                error.would_block()
            }
        }
    }

    fn read_log(&mut self) -> usize {
        use std::io::Read;
        let mut bytes = [0; 65536];
        let count = self.log.read(&mut bytes).unwrap();
        self.text += &String::from_utf8_lossy(&bytes[..count]);
        while let Some((line, rest)) = self.text.split_once('\n') {
            if let Some((name, result)) = line
                .strip_prefix("attempt ")
                .and_then(|line| line.split_once(": "))
            {
                self.outcome.results.push((name.into(), result.into()));
            } else {
                eprintln!("hostile: {line}");
            }
            self.text = rest.to_owned();
        }
        count
    }

    fn answer(&mut self) {
        // Ready was sent before the call was made, but may have come after the last look.
        while self.hear() && self.poll_now()[0] {}
        let watch = self.child.watch.as_mut().unwrap();
        if let Verdict::Violation { syscall, .. } = watch.answer().expect("answer") {
            self.outcome.violation = Some(syscall);
        }
    }

    fn end(mut self) -> Outcome {
        let by_itself = self.outcome.violation.is_none() && !self.outcome.garbled;
        let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        let ended = waitid(
            WaitId::PidFd(self.child.pidfd.as_fd()),
            WaitIdOptions::EXITED,
        );
        let status = ended.unwrap().unwrap();
        if by_itself {
            self.outcome.status = status
                .exit_status()
                .map(Ended::Exit)
                .or_else(|| status.terminating_signal().map(Ended::Signal));
        }
        self.outcome
    }
}
