//! The verbs: which words mean what. Words are hostile input: bounded, and nothing but these few forms is understood.

use crate::explain::Named;
use crate::report::{Answer, Refusal};
use crate::{access, buckets, can, layout, metrics, node, nodes, policy, schedule, status, trace};
use manifests::Policy;
use protocol::block::Blocks;
use protocol::inspect::{
    INPUT_BYTES_MAX, Inspect, InspectAnswer, InspectCall, Power, Verb, WORD_BYTES_MAX, WORDS_MAX,
};
use protocol::membership::Membership;
use protocol::metadata::{Call, Metadata, Operation, Reply};
use protocol::verbs;
use runtime::{Bus, CallError, Link};
use std::os::fd::OwnedFd;
use tokio::sync::Mutex;

/// Who is asked about processes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Daemon {
    Init,
    Orchestrator,
}

/// Links to the services that know the answers.
pub(crate) struct Verbs {
    init: Link<Inspect>,
    orchestrator: Link<Inspect>,
    pub(crate) membership: Link<Membership>,
    pub(crate) metadata: Link<Metadata>,
    pub(crate) blocks: Link<Blocks>,
    /// Held while rights are read, changed and written: of two people who change them at a time, both count.
    pub(crate) changing_rights: Mutex<()>,
    /// What the manifests of this node say.
    pub(crate) policy: Policy,
    /// Where processes may be connected to outside of the node.
    pub(crate) named: Named,
}

impl Verbs {
    pub(crate) fn new(bus: Bus, policy: Policy, named: Named) -> Self {
        Self {
            init: Link::new(bus.clone(), "init"),
            orchestrator: Link::new(bus.clone(), "orchestrator"),
            membership: Link::new(bus.clone(), "membership"),
            metadata: Link::new(bus.clone(), "metadata"),
            blocks: Link::new(bus, "block-store"),
            changing_rights: Mutex::new(()),
            policy,
            named,
        }
    }

    /// Does what was said: exit status and text.
    pub(crate) async fn obey(&self, verb: &Verb) -> (u8, String) {
        if verb.words.len() > WORDS_MAX || verb.words.iter().any(|word| word.len() > WORD_BYTES_MAX)
        {
            return (
                2,
                format!(
                    "trousseau: more than {WORDS_MAX} words, or one longer than {WORD_BYTES_MAX} bytes\n"
                ),
            );
        }
        if verb
            .input
            .as_ref()
            .is_some_and(|input| input.len() > INPUT_BYTES_MAX)
        {
            let why = format!("trousseau: a file of more than {INPUT_BYTES_MAX} bytes\n");
            return (2, why);
        }
        let words: Vec<&str> = verb.words.iter().map(String::as_str).collect();
        let answer = match verbs::find(&words) {
            None => Err(unknown(&words)),
            Some(form) if form.role > verb.role => Err(Refusal::Failed(format!(
                "`{}` needs a key of the role {}; this one has the role {}",
                form.words.join(" "),
                form.role.as_str(),
                verb.role.as_str()
            ))),
            Some(_) => self.answer(&words, verb.input.as_deref()).await,
        };
        Refusal::rendered(answer, verb.json)
    }

    async fn answer(&self, words: &[&str], input: Option<&str>) -> Answer {
        match words {
            ["status"] => status::status(self).await,
            ["members"] => nodes::members(self).await,
            ["invite", options @ ..] => nodes::invite(self, options).await,
            ["node", words @ ..] => nodes::node(self, words).await,
            ["services"] => node::services(self).await,
            ["caps"] => node::caps(self).await,
            ["caps", "--can", from, to] => can::reach(&self.policy, from, to),
            ["fds"] => node::descriptors(self, None).await,
            ["fds", service] => node::descriptors(self, Some(service)).await,
            ["layout"] | ["layout", "show"] => layout::show(self).await,
            ["layout", "preview"] => layout::preview(self).await,
            ["layout", "assign", words @ ..] => layout::assign(self, words).await,
            ["layout", "remove", name] => layout::remove(self, name).await,
            ["layout", "copies", count] => layout::copies(self, count).await,
            ["layout", "revert"] => layout::revert(self).await,
            ["layout", "apply", words @ ..] => layout::apply(self, words).await,
            ["shards"] => node::shards(self).await,
            ["lifecycle"] => node::lifecycle(self).await,
            ["sweep"] => node::sweep(self).await,
            ["logs", options @ ..] => node::logs(self, options).await,
            ["metrics"] => metrics::metrics(self).await,
            ["trace", service, options @ ..] => trace::trace(self, service, options).await,
            ["restart", "--rolling"] => schedule::restart(self).await,
            ["restart", service] => node::restart(self, service).await,
            ["poweroff"] => node::power(self, Power::Off).await,
            ["reboot"] => node::power(self, Power::Reboot).await,
            ["first-key"] => access::first_key(self).await,
            ["key", "policy", words @ ..] => policy::key_policy(self, words, input).await,
            ["key", words @ ..] => access::key(self, words).await,
            ["bucket", words @ ..] => buckets::bucket(self, words).await,
            words => Err(unknown(words)),
        }
    }

    /// A question to metadata that changes nothing.
    pub(crate) async fn read(&self, operation: Operation) -> Result<Reply, Refusal> {
        let call = Call {
            revision: 0,
            operation,
        };
        let (answer, _) = self
            .metadata
            .repeat(&call)
            .await
            .map_err(|error| gone("metadata", &error))?;
        answer
            .result
            .map_err(|error| Refusal::Failed(error.to_string()))
    }

    /// A change of metadata. If its answer is lost, it may have happened: that is what the person is told.
    pub(crate) async fn change(&self, operation: impl Into<Operation>) -> Result<Reply, Refusal> {
        let call = Call {
            revision: 0,
            operation: operation.into(),
        };
        let (answer, _) = self
            .metadata
            .call(&call)
            .await
            .map_err(|error| gone("metadata", &error))?;
        answer
            .result
            .map_err(|error| Refusal::Failed(error.to_string()))
    }

    /// A question to init or to the orchestrator.
    pub(crate) async fn inspect(
        &self,
        daemon: Daemon,
        call: InspectCall,
    ) -> Result<InspectAnswer, Refusal> {
        let (link, name) = self.daemon(daemon);
        answered(name, link.repeat(&call).await)
    }

    /// Something that happens, and must not happen twice: asked for once only.
    pub(crate) async fn order(
        &self,
        daemon: Daemon,
        call: InspectCall,
    ) -> Result<InspectAnswer, Refusal> {
        let (link, name) = self.daemon(daemon);
        answered(name, link.call(&call).await)
    }

    /// Who supervises `service`: init the daemons, the orchestrator everything else.
    pub(crate) async fn supervisor(&self, service: &str) -> Result<Daemon, Refusal> {
        if service == "init" {
            let why = "init supervises and is nobody's charge; `trousseau logs` has what it says";
            return Err(Refusal::Failed(why.into()));
        }
        let call = InspectCall::Services;
        let InspectAnswer::Services(daemons) = self.inspect(Daemon::Init, call).await? else {
            return Err(odd("init"));
        };
        Ok(match daemons.iter().any(|daemon| daemon.name == service) {
            true => Daemon::Init,
            false => Daemon::Orchestrator,
        })
    }

    fn daemon(&self, daemon: Daemon) -> (&Link<Inspect>, &'static str) {
        match daemon {
            Daemon::Init => (&self.init, "init"),
            Daemon::Orchestrator => (&self.orchestrator, "orchestrator"),
        }
    }
}

/// What is said to words that mean nothing.
fn unknown(words: &[&str]) -> Refusal {
    let mut known: Vec<&str> = verbs::VERBS
        .iter()
        .filter(|form| !form.about.is_empty())
        .filter_map(|form| form.words.first().copied())
        .collect();
    known.dedup();
    let known = known.join(", ");
    Refusal::Words(match words {
        [] => format!("no verb; there are {known}"),
        [verb, ..] => match verbs::find(words).map(|form| form.rest) {
            None => format!("`{verb}` is not a verb; there are {known}"),
            Some("") => format!("`{verb}` not with these words"),
            Some(rest) => format!("`{verb}` not with these words, but with {rest}"),
        },
    })
}

fn answered(
    daemon: &str,
    result: Result<(InspectAnswer, Vec<OwnedFd>), CallError>,
) -> Result<InspectAnswer, Refusal> {
    match result {
        Ok((InspectAnswer::Refused(why), _)) => Err(Refusal::Failed(why)),
        Ok((answer, _)) => Ok(answer),
        Err(error) => Err(gone(daemon, &error)),
    }
}

/// A service did not answer.
pub(crate) fn gone(service: &str, error: &CallError) -> Refusal {
    let hint = match error {
        CallError::Lost => "; it may have happened: look, and say it again if it has not",
        _ => "; see `trousseau services` and `trousseau logs`",
    };
    Refusal::Failed(format!("{service}: {error}{hint}"))
}

/// An answer of a kind that was not asked for: two builds that do not fit.
pub(crate) fn odd(service: &str) -> Refusal {
    Refusal::Failed(format!(
        "{service} answered something else; are all processes of the same build?"
    ))
}
