//! hostile: a service that does what no service may, to show that it cannot.
//!
//! Settings: `attempts` (names from [`all`], separated by commas), `when` (`start`: before it
//! says Ready; `at-once`: right after it; `ready`: a moment later; absent: `ready`), `amount` (of a flood; absent: as much as the
//! attempt's own bound). It accepts whatever descriptors it is granted, and uses them as targets.
//!
//! Each attempt that comes back is one line on standard error, `attempt NAME: RESULT`, where the
//! result is the name of an errno, or SUCCEEDED. An attempt that is a violation does not come
//! back: the process is killed inside it. At the end it waits for its supervisor, in silence. With no attempts at all it behaves: it gives a
//! sign of life, does nothing, and ends when it is told to; or it is a server or a client (`part`: `greeter`, `caller`; see [`neighbours`]).

mod attempts;
mod errno;
mod neighbours;
mod stage;
mod sys;

pub use attempts::{Attempt, all};
pub use errno::errno_name;

use runtime::{Error, Given};
use stage::Stage;
use std::time::{Duration, Instant};

/// How long after Ready it strikes, for a supervisor that answers a call before it reads Ready.
const STRIKE_AFTER: Duration = Duration::from_millis(200);

/// Misbehaves as its settings say.
pub fn run() -> Result<(), Error> {
    let mut given = Given::receive()?;
    let name =
        |settings: Vec<(String, String)>| settings.into_iter().next().map(|(_, value)| value);
    if let Some(part) = name(given.settings_named("part")) {
        return neighbours::run(&part, given);
    }
    let attempts = given.setting("attempts")?;
    let when = name(given.settings_named("when")).unwrap_or_else(|| "ready".into());
    let amount = name(given.settings_named("amount")).and_then(|amount| amount.parse().ok());
    let targets = given.descriptors_named("");
    let chosen = choose(&attempts)?;

    let supervisor = given.finish()?;
    let wants_ring = chosen.iter().any(|attempt| attempt.needs_ring());
    let mut stage = Stage::new(targets, supervisor, amount, wants_ring);
    if when == "start" {
        strike(&chosen, &mut stage);
    }
    stage.supervisor.ready("hostile")?;
    if when == "ready" {
        // Without a system call, which might not be allowed.
        let ready = Instant::now();
        while ready.elapsed() < STRIKE_AFTER {
            std::hint::spin_loop();
        }
    }
    if when != "start" {
        strike(&chosen, &mut stage);
    }
    match chosen.is_empty() {
        true => stage.behave(),
        false => {
            stage.wait_for_the_end();
            Ok(())
        }
    }
}

fn choose(names: &str) -> Result<Vec<&'static Attempt>, Error> {
    let find = |name: &str| {
        let found = all().find(|attempt| attempt.name == name);
        found.ok_or_else(|| Error::Setting("attempts".into(), name.into()))
    };
    names
        .split(',')
        .filter(|name| !name.is_empty())
        .map(find)
        .collect()
}

fn strike(attempts: &[&Attempt], stage: &mut Stage) {
    for attempt in attempts {
        let result = match attempt.run(stage) {
            Ok(()) => "SUCCEEDED".into(),
            Err(errno) => errno_name(errno),
        };
        stage.tell(&format!("attempt {}: {result}", attempt.name));
    }
}
