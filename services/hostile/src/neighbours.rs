//! Behaving: a server that tells each client where it is, and a client that asks again and again and logs each new answer.

use protocol::bus::{Accept, Origin};
use protocol::wire::Conversation;
use runtime::{Bus, Error, Given, Link, Serve};
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::LocalSet;

/// The server's name in the manifests.
const GREETER: &str = "greeter";
/// The pause between two questions.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Who asks is told where it is, and which process says so.
enum Greeting {}

impl Conversation for Greeting {
    type Call = ();
    type Answer = String;
    const NAME: &'static str = "greeting";
    const NUMBER: u8 = 250;
    const VERSION: u8 = 1;
}

/// Plays `part` until the supervisor says stop.
pub(crate) fn run(part: &str, mut given: Given) -> Result<(), Error> {
    let wrong = || Error::Setting("part".into(), part.into());
    let event_loop = runtime::event_loop().map_err(|_| wrong())?;
    match part {
        "greeter" => {
            let door = given.channel("door")?;
            let supervisor = given.finish()?;
            supervisor.ready("greets")?;
            let greeter = Rc::new(Greeter {
                started_ms: runtime::since_boot_ms(),
            });
            let serves = runtime::serve::<Greeting, _>(door, supervisor, greeter);
            LocalSet::new().block_on(&event_loop, serves)
        }
        "caller" => {
            let bus = given.channel("bus")?;
            let supervisor = given.finish()?;
            supervisor.ready("calls")?;
            LocalSet::new().block_on(&event_loop, async {
                let bus = Bus::new(bus).map_err(|_| wrong())?;
                tokio::select! {
                    stopped = runtime::supervise(&supervisor, || true) => stopped,
                    never = ask(Link::new(bus, GREETER)) => match never {},
                }
            })
        }
        _ => Err(wrong()),
    }
}

struct Greeter {
    /// By which one process is told from the next.
    started_ms: u64,
}

impl Serve<Greeting> for Greeter {
    type Session = Origin;

    fn connected(&self, accept: Accept) -> Origin {
        accept.origin
    }

    async fn answer(&self, origin: &Origin, (): (), _: Vec<OwnedFd>) -> (String, Vec<OwnedFd>) {
        let place = match origin {
            Origin::Here => "here".to_owned(),
            Origin::Member { name, .. } => format!("on {name}"),
            Origin::Stranger { key } => format!("a stranger, {key}"),
        };
        (format!("{}: you are {place}", self.started_ms), Vec::new())
    }
}

/// Asks for ever; each answer that is another than the last is a line in the log.
async fn ask(greeter: Link<Greeting>) -> Infallible {
    let mut last = None;
    loop {
        let said = match greeter.call(&()).await {
            Ok((greeting, _)) => format!("greeted by {greeting}"),
            Err(error) => format!("not greeted: {error}"),
        };
        if last.as_ref() != Some(&said) {
            runtime::info!("{said}");
            last = Some(said);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
