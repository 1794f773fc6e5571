//! One person's connection: which of the things that SSH can do are done here, and which are refused and logged.

use crate::House;
use crate::admission::Place;
use crate::authority::{self, Standing};
use crate::interactive::{self, INPUTS_MAX, Input};
use crate::words::{self, Said};
use protocol::inspect::{Outcome, Verb};
use protocol::trace::Side;
use protocol::verbs::{self, Role};
use runtime::trace::{self, Begun};
use russh::keys::{Certificate, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Response, Session,
    VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodSet, Pty};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// Keys that one connection may show.
const KEYS_SHOWN_MAX: u32 = 8;
/// Sessions at a time on one connection (OpenSSH's ControlMaster has several).
const SESSIONS_MAX: usize = 4;
/// Things that are refused to one connection; then it is ended, so that nobody floods the log.
const REFUSALS_MAX: u32 = 32;
/// What is shown of a name or a command that was refused, in characters.
const SHOWN_CHARS_MAX: usize = 120;

/// Who has logged in.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    peer: SocketAddr,
    fingerprint: String,
    pub(crate) role: Role,
}

/// One SSH connection.
pub(crate) struct Person {
    house: Arc<House>,
    peer: SocketAddr,
    place: Place,
    /// For the gate.
    opened: Arc<AtomicBool>,
    login: Option<Login>,
    /// The last key that was shown, for the log.
    fingerprint: String,
    keys_shown: u32,
    refusals: u32,
    sessions: HashMap<ChannelId, Talking>,
}

/// One session of a connection.
#[derive(Default)]
struct Talking {
    /// The terminal's width, if one was asked for.
    terminal: Option<u32>,
    /// Where typed bytes go, once there is somebody to talk to.
    inputs: Option<mpsc::Sender<Input>>,
    begun: bool,
}

/// The way to a person's terminal.
#[derive(Clone)]
pub(crate) struct Way {
    handle: Handle,
    channel: ChannelId,
}

impl Way {
    /// Shows a piece of an answer: what failed goes to the error output. At a terminal there is only one, whose lines end with CR LF.
    pub(crate) async fn show(&self, status: u8, text: &str, terminal: bool) {
        // A person who has gone sees nothing: the end of the connection is told elsewhere.
        let _ = match (terminal, status) {
            (true, _) => {
                self.handle
                    .data(self.channel, text.replace('\n', "\r\n"))
                    .await
            }
            (false, 0) => self.handle.data(self.channel, text.to_owned()).await,
            (false, _) => {
                self.handle
                    .extended_data(self.channel, STDERR, text.to_owned())
                    .await
            }
        };
    }

    /// Bytes for a terminal as they are.
    pub(crate) async fn raw(&self, text: String) {
        if !text.is_empty() {
            let _ = self.handle.data(self.channel, text).await;
        }
    }

    /// The session is over.
    async fn end(&self, status: u8) {
        let _ = self
            .handle
            .exit_status_request(self.channel, u32::from(status))
            .await;
        let _ = self.handle.eof(self.channel).await;
        let _ = self.handle.close(self.channel).await;
    }
}

/// `SSH_EXTENDED_DATA_STDERR` (RFC 4254 §5.2).
const STDERR: u32 = 1;

/// An answer on its way, and the line that the log gets when it is there.
pub(crate) struct Answer {
    pieces: mpsc::Receiver<Outcome>,
    login: Login,
    said: String,
    begun: Option<Begun>,
}

impl Answer {
    /// The next piece; the last has `more == false`. `None` if there is no end.
    pub(crate) async fn next(&mut self) -> Option<Outcome> {
        let piece = self.pieces.recv().await;
        if let Some(status) = piece.as_ref().filter(|piece| !piece.more).map(|p| p.status)
            && let Some(begun) = self.begun.take()
        {
            begun.over(0, 0);
            runtime::info!("{} said {}: status {status}", self.login, self.said);
        }
        piece
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.begun.take().is_some() {
            runtime::info!("{} said {} and did not wait", self.login, self.said);
        }
    }
}

impl Login {
    /// Says a verb to the console, in this key's role. What is no verb at all is logged as refused; the console tells the person.
    pub(crate) async fn ask(&self, house: &House, said: Said) -> Answer {
        let words: Vec<&str> = said.words.iter().map(String::as_str).collect();
        let shown = shown(&words.join(" "));
        let known = verbs::find(&words);
        if known.is_none() {
            runtime::warn!("{self} refused: {shown} is not a verb");
        }
        // Only the verb's own words are counted by name: the others are anything.
        let kind = known.map_or("refused", |form| form.words.first().copied().unwrap_or(""));
        let begun = trace::begin(Side::Served, "ssh", &kind);
        let verb = Verb {
            words: said.words,
            json: said.json,
            // A file that the words name is the person's, and stays there.
            input: None,
            role: self.role,
        };
        Answer {
            pieces: house.console.ask(verb).await,
            login: self.clone(),
            said: shown,
            begun: Some(begun),
        }
    }
}

impl std::fmt::Display for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.peer,
            self.fingerprint,
            self.role.as_str()
        )
    }
}

/// What a stranger or a person has made up, for the log: quoted, escaped, bounded.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let dots = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{dots}")
}

impl Person {
    pub(crate) fn new(
        house: Arc<House>,
        peer: SocketAddr,
        place: Place,
        opened: Arc<AtomicBool>,
    ) -> Self {
        Self {
            house,
            peer,
            place,
            opened,
            login: None,
            fingerprint: "no key".into(),
            keys_shown: 0,
            refusals: 0,
            sessions: HashMap::new(),
        }
    }

    /// Logs what is refused. Errors when it was too often.
    fn refuse(&mut self, what: std::fmt::Arguments<'_>) -> Result<(), russh::Error> {
        match &self.login {
            Some(login) => runtime::warn!("{login} refused: {what}"),
            None => runtime::warn!("{} {} refused: {what}", self.peer, self.fingerprint),
        }
        self.refusals += 1;
        match self.refusals < REFUSALS_MAX {
            true => Ok(()),
            false => Err(russh::Error::Disconnect),
        }
    }

    fn judge(&mut self, user: &str, key: &PublicKey) -> Result<Option<Role>, russh::Error> {
        self.fingerprint = authority::fingerprint(key);
        match self.house.authority.standing(key) {
            Standing::Has(role) => Ok(Some(role)),
            Standing::NoRole => self
                .refuse(format_args!("the key has no role (as {})", shown(user)))
                .map(|()| None),
            Standing::Unknown => self
                .refuse(format_args!("the key is not known (as {})", shown(user)))
                .map(|()| None),
        }
    }

    fn login(&self) -> Result<&Login, russh::Error> {
        self.login.as_ref().ok_or(russh::Error::NotAuthenticated)
    }

    /// The session of this channel, if nothing has begun in it yet.
    fn fresh(&mut self, channel: ChannelId) -> Option<&mut Talking> {
        let session = self.sessions.get_mut(&channel)?;
        let fresh = !std::mem::replace(&mut session.begun, true);
        fresh.then_some(session)
    }

    fn input(&mut self, channel: ChannelId, input: Input) -> Result<(), russh::Error> {
        let Some(inputs) = self
            .sessions
            .get(&channel)
            .and_then(|one| one.inputs.as_ref())
        else {
            return Ok(());
        };
        match inputs.try_send(input) {
            // Waiting here would hold up the answers, too, which may be what the person waits for.
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.refuse(format_args!(
                    "more input than a person types while a verb is under way"
                ))?;
                Err(russh::Error::Disconnect)
            }
            _ => Ok(()),
        }
    }
}

impl Handler for Person {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Self::Error> {
        // Every client asks so which methods there are.
        Ok(only_keys())
    }

    async fn auth_password(&mut self, user: &str, _: &str) -> Result<Auth, Self::Error> {
        self.refuse(format_args!("a password (as {})", shown(user)))?;
        Ok(only_keys())
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        _: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        self.refuse(format_args!("keyboard-interactive (as {})", shown(user)))?;
        Ok(only_keys())
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        self.keys_shown += 1;
        if self.keys_shown > KEYS_SHOWN_MAX {
            self.refuse(format_args!(
                "more than {KEYS_SHOWN_MAX} keys on one connection"
            ))?;
            return Err(russh::Error::Disconnect);
        }
        if !authority::is_strong(offer.algorithm) {
            self.fingerprint = authority::fingerprint(offer.public_key);
            self.refuse(format_args!("the signature algorithm {}", offer.algorithm))?;
            return Ok(Auth::reject());
        }
        Ok(match self.judge(user, offer.public_key)? {
            Some(_) => Auth::Accept,
            None => Auth::reject(),
        })
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        if !authority::is_strong(key.algorithm) {
            return Ok(Auth::reject());
        }
        let Some(role) = self.judge(user, key.public_key)? else {
            return Ok(Auth::reject());
        };
        let login = Login {
            peer: self.peer,
            fingerprint: self.fingerprint.clone(),
            role,
        };
        runtime::info!("{login} logged in as {}", shown(user));
        self.login = Some(login);
        self.place.logged_in();
        self.opened.store(true, Ordering::Relaxed);
        Ok(Auth::Accept)
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        _: &Certificate,
    ) -> Result<Auth, Self::Error> {
        self.refuse(format_args!("a certificate (as {})", shown(user)))?;
        Ok(Auth::reject())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.login()?;
        if self.sessions.len() >= SESSIONS_MAX {
            self.refuse(format_args!(
                "more than {SESSIONS_MAX} sessions on one connection"
            ))?;
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.sessions.insert(channel.id(), Talking::default());
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(format_args!("an X11 channel"))
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(format_args!("forwarding to {} port {port}", shown(host)))
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(format_args!("forwarding from {} port {port}", shown(host)))
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        path: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(format_args!("forwarding to the socket {}", shown(path)))
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.refuse(format_args!(
            "forwarding of {} port {port} from here",
            shown(address)
        ))?;
        Ok(false)
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.refuse(format_args!(
            "forwarding of the socket {} from here",
            shown(path)
        ))?;
        Ok(false)
    }

    async fn agent_request(&mut self, _: ChannelId, _: &mut Session) -> Result<bool, Self::Error> {
        self.refuse(format_args!("forwarding of an agent"))?;
        Ok(false)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(format_args!("forwarding of X11"))?;
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        // Every client sends these by itself. Nothing is done with them: verbs speak one language.
        if name == "LANG" || name.starts_with("LC_") || matches!(name, "TERM" | "COLORTERM") {
            return session.channel_success(channel);
        }
        self.refuse(format_args!("the environment variable {}", shown(name)))?;
        session.channel_failure(channel)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        columns: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        match self.sessions.get_mut(&channel).filter(|one| !one.begun) {
            Some(talking) => {
                talking.terminal = Some(columns);
                session.channel_success(channel)
            }
            None => session.channel_failure(channel),
        }
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        columns: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.input(channel, Input::Columns(columns))
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let login = self.login()?.clone();
        let Some(talking) = self.fresh(channel) else {
            return session.channel_failure(channel);
        };
        let terminal = talking.terminal.is_some();
        session.channel_success(channel)?;
        let way = Way {
            handle: session.handle(),
            channel,
        };
        let said = match std::str::from_utf8(command) {
            Ok(line) => words::split(line),
            Err(_) => Err("a command is text in UTF-8".to_owned()),
        };
        if let Err(why) = &said {
            let command = String::from_utf8_lossy(command);
            self.refuse(format_args!("{}: {why}", shown(&command)))?;
        }
        let house = self.house.clone();
        tokio::spawn(async move {
            let status = command_of(&house, &login, &way, said, terminal).await;
            way.end(status).await;
        });
        Ok(())
    }

    async fn shell_request(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let login = self.login()?.clone();
        let house = self.house.clone();
        let Some(talking) = self.fresh(channel) else {
            return session.channel_failure(channel);
        };
        let (inputs, typed) = mpsc::channel(INPUTS_MAX);
        talking.inputs = Some(inputs);
        let terminal = talking.terminal;
        session.channel_success(channel)?;
        let way = Way {
            handle: session.handle(),
            channel,
        };
        tokio::spawn(async move {
            let status = interactive::talk(house, login, way.clone(), terminal, typed).await;
            way.end(status).await;
        });
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(format_args!("the subsystem {}", shown(name)))?;
        session.channel_failure(channel)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.input(channel, Input::Bytes(data.to_vec()))
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.input(channel, Input::End)
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // Whoever talks there sees the end of its inputs.
        self.sessions.remove(&channel);
        Ok(())
    }
}

/// One command: its answer to the person, and its exit status.
async fn command_of(
    house: &House,
    login: &Login,
    way: &Way,
    said: Result<Said, String>,
    terminal: bool,
) -> u8 {
    let said = match said {
        Ok(said) => said,
        Err(why) => {
            let text = format!("trousseau: {why}\n");
            way.show(2, &text, terminal).await;
            return 2;
        }
    };
    if said.words == ["help"] {
        way.show(0, &verbs::help(login.role), terminal).await;
        return 0;
    }
    let mut answer = login.ask(house, said).await;
    while let Some(piece) = answer.next().await {
        way.show(piece.status, &piece.text, terminal).await;
        if !piece.more {
            return piece.status;
        }
    }
    1
}

/// No, and by no other way either.
fn only_keys() -> Auth {
    Auth::Reject {
        proceed_with_methods: Some(MethodSet::from(&[russh::MethodKind::PublicKey][..])),
        partial_success: false,
    }
}
