//! What was packed for this process, taken by name; and the line to its supervisor.

use protocol::channel::{MessageError, ReceiveBuffer};
use protocol::start::{Order, Packed, Say, Start};
use protocol::{Channel, channel::ReceiveError};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// All descriptors and settings of this process that nobody has taken yet.
pub struct Given {
    service: String,
    descriptors: BTreeMap<String, OwnedFd>,
    settings: BTreeMap<String, String>,
    supervisor: Channel,
}

/// Why a process cannot start.
#[derive(Debug)]
pub enum Error {
    /// Started by hand instead of by a supervisor, or asked for the start channel twice.
    NoSupervisor,
    /// The supervisor hung up before it packed anything.
    HungUp,
    /// The first message was not a pack, or not as many descriptors came as were named.
    NotPacked,
    /// The start channel failed.
    Channel(MessageError),
    /// The manifest does not grant what the service needs.
    Missing(String),
    /// The manifest grants what the service does not ask for.
    Unused(Vec<String>),
    /// A setting is not what the service understands: its name and value.
    Setting(String, String),
    /// The root directory could not be opened.
    Root(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSupervisor => write!(
                f,
                "this role is started by its supervisor only: run `trousseau up`"
            ),
            Self::HungUp => write!(f, "the supervisor hung up before it gave anything"),
            Self::NotPacked => write!(f, "the supervisor's first message is not a pack"),
            Self::Channel(error) => write!(f, "start channel: {error}"),
            Self::Missing(name) => write!(f, "`{name}` was not given: is it in the manifest?"),
            Self::Unused(names) => write!(f, "given but not used: {}", names.join(", ")),
            Self::Setting(name, value) => write!(f, "setting {name} = {value:?} is not understood"),
            Self::Root(errno) => write!(f, "own root directory: {errno}"),
        }
    }
}

impl std::error::Error for Error {}

impl Given {
    /// Takes the start channel (descriptor 3) and waits for the pack.
    pub fn receive() -> Result<Self, Error> {
        let start = crate::sys::start_channel().ok_or(Error::NoSupervisor)?;
        Self::over(Channel::from(start))
    }

    /// The same over a channel of the caller's: for tests, which are the supervisor themselves.
    pub fn over(supervisor: Channel) -> Result<Self, Error> {
        let mut buffer = ReceiveBuffer::new();
        let (order, descriptors) = supervisor
            .receive_message::<Start, Order>(&mut buffer, RecvFlags::empty())
            .map_err(|error| match error {
                MessageError::Receive(ReceiveError::System(Errno::NOTSOCK | Errno::BADF)) => {
                    Error::NoSupervisor
                }
                other => Error::Channel(other),
            })?
            .ok_or(Error::HungUp)?;
        let Order::Packed(Packed {
            service,
            grants,
            settings,
        }) = order
        else {
            return Err(Error::NotPacked);
        };
        if grants.len() != descriptors.len() {
            return Err(Error::NotPacked);
        }
        Ok(Self {
            service,
            descriptors: grants.into_iter().zip(descriptors).collect(),
            settings: settings.into_iter().collect(),
            supervisor,
        })
    }

    /// The service's name in its manifest.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The descriptor of that name, whatever it is.
    pub fn descriptor(&mut self, name: &str) -> Result<OwnedFd, Error> {
        self.descriptors
            .remove(name)
            .ok_or_else(|| Error::Missing(name.into()))
    }

    /// All descriptors whose names start with `prefix`, in order of name.
    pub fn descriptors_named(&mut self, prefix: &str) -> Vec<(String, OwnedFd)> {
        self.descriptors
            .extract_if(.., |name, _| name.starts_with(prefix))
            .collect()
    }

    /// The descriptor of that name as a packet channel.
    pub fn channel(&mut self, name: &str) -> Result<Channel, Error> {
        self.descriptor(name).map(Channel::from)
    }

    /// The descriptor of that name as a listening TCP socket, non-blocking.
    pub fn listener(&mut self, name: &str) -> Result<TcpListener, Error> {
        let listener = TcpListener::from(self.descriptor(name)?);
        listener
            .set_nonblocking(true)
            .map_err(|_| Error::Missing(name.into()))?;
        Ok(listener)
    }

    /// The process's own root directory, which is all of the file system that it has.
    ///
    /// Not a passed descriptor: one that was opened outside would lead outside again by `..`.
    pub fn root(&mut self) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(rustix::fs::CWD, "/", flags, Mode::empty()).map_err(Error::Root)
    }

    /// The setting of that name.
    pub fn setting(&mut self, name: &str) -> Result<String, Error> {
        self.settings
            .remove(name)
            .ok_or_else(|| Error::Missing(name.into()))
    }

    /// The setting of that name as a number or whatever else is parsed from a string.
    pub fn parsed<T: std::str::FromStr>(&mut self, name: &str) -> Result<T, Error> {
        let value = self.setting(name)?;
        value
            .parse()
            .map_err(|_| Error::Setting(name.into(), value))
    }

    /// All settings whose names start with `prefix`, in order of name: name and value.
    pub fn settings_named(&mut self, prefix: &str) -> Vec<(String, String)> {
        self.settings
            .extract_if(.., |name, _| name.starts_with(prefix))
            .collect()
    }

    /// Everything must have been taken: a descriptor nobody asked for is an error, not a spare.
    pub fn finish(self) -> Result<Supervisor, Error> {
        let left: Vec<String> = self
            .descriptors
            .into_keys()
            .chain(self.settings.into_keys())
            .collect();
        if left.is_empty() {
            Ok(Supervisor {
                channel: self.supervisor,
            })
        } else {
            Err(Error::Unused(left))
        }
    }
}

/// The line to the supervisor after the start.
#[derive(Debug)]
pub struct Supervisor {
    channel: Channel,
}

impl Supervisor {
    /// Serving begins; the start is over, and with it the calls that only a start needs.
    pub fn ready(&self, about: impl Into<String>) -> Result<(), Error> {
        self.say(
            &Say::Ready {
                about: about.into(),
            },
            SendFlags::empty(),
        )
    }

    /// The event loop turns. To be said at least every [`protocol::start::HEARTBEAT_MS`]. A supervisor that is too busy to listen
    /// has other means to see that we live, so a full queue is not an error.
    pub fn alive(&self) -> Result<(), Error> {
        // What a trace has counted goes along: nothing is said without having been asked for.
        for say in std::iter::once(Say::Alive).chain(crate::trace::take()) {
            match self.say(&say, SendFlags::DONTWAIT) {
                Err(Error::Channel(error)) if error.would_block() => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// It cannot serve and a restart will not help. End the process after this.
    pub fn failed(&self, reason: impl fmt::Display) -> Result<(), Error> {
        self.say(
            &Say::Failed {
                reason: reason.to_string(),
            },
            SendFlags::empty(),
        )
    }

    /// The next order without waiting: `Ok(None)` if there is none. [`Order::Trace`] is obeyed here, in every process alike. Errors with [`Error::HungUp`] when the supervisor has gone: then end.
    pub fn order(
        &self,
        buffer: &mut ReceiveBuffer,
    ) -> Result<Option<(Order, Vec<OwnedFd>)>, Error> {
        loop {
            return match self
                .channel
                .receive_message::<Start, Order>(buffer, RecvFlags::DONTWAIT)
            {
                Ok(Some((Order::Trace { for_ms }, _))) => {
                    crate::trace::start(for_ms);
                    continue;
                }
                Ok(Some(order)) => Ok(Some(order)),
                Ok(None) => Err(Error::HungUp),
                Err(error) if error.would_block() => Ok(None),
                Err(error) => Err(Error::Channel(error)),
            };
        }
    }

    fn say(&self, say: &Say, flags: SendFlags) -> Result<(), Error> {
        self.channel
            .send_message::<Start>(say, &[], flags)
            .map_err(Error::Channel)
    }
}

impl AsFd for Supervisor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
