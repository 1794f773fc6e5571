//! The loop of one webhook: asks for the events that wait, posts each in order, and has those forgotten that were taken.
//!
//! Nothing is forgotten before it was taken, so each event is told at least once. It is told again if the end of this process, or of
//! metadata, comes between the webhook's answer and the forgetting; the `sequencer` in it tells.

use crate::message::message;
use crate::post::Post;
use crate::webhook::Webhook;
use protocol::metadata::{Call, Event, EventId, Metadata, Operation, Reply};
use runtime::{Bus, Link};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often is asked, how long is waited.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Between two questions while no event waits.
    pub(crate) idle: Duration,
    /// After a failure; twice as long after each further one.
    pub(crate) back_off: Duration,
    /// But never longer.
    pub(crate) back_off_max: Duration,
    /// For the head of an answer, from the dialling on.
    pub(crate) answer_within: Duration,
    /// For the rest of an answer, which nobody needs.
    pub(crate) drain_within: Duration,
    /// What was told is forgotten after so long, in the midst of a page.
    pub(crate) forget_every: Duration,
}

impl Pace {
    pub(crate) fn usual() -> Self {
        Self {
            idle: Duration::from_secs(1),
            back_off: Duration::from_secs(1),
            back_off_max: Duration::from_secs(60),
            answer_within: Duration::from_secs(30),
            drain_within: Duration::from_secs(2),
            forget_every: Duration::from_secs(1),
        }
    }
}

/// Something failed, and the log knows what: it is tried again after a while.
struct Later;

/// One webhook, and how it goes.
pub(crate) struct Telling {
    webhook: Webhook,
    region: String,
    metadata: Rc<Link<Metadata>>,
    post: Post,
    pace: Pace,
    /// Told and not yet forgotten: of each shard the last one, which stands for those before it.
    told: BTreeMap<u32, EventId>,
    forgotten: Instant,
    /// How long is waited after the next failure.
    back_off: Duration,
    /// How many events metadata had no room for, as it was last said.
    lost: u64,
    receiver: Trouble,
    storage: Trouble,
}

impl Telling {
    pub(crate) fn new(
        webhook: Webhook,
        region: &str,
        bus: Bus,
        metadata: Rc<Link<Metadata>>,
        pace: Pace,
    ) -> Self {
        Self {
            webhook,
            region: region.to_owned(),
            metadata,
            post: Post::new(bus, pace.answer_within, pace.drain_within),
            pace,
            told: BTreeMap::new(),
            forgotten: Instant::now(),
            back_off: pace.back_off,
            lost: 0,
            receiver: Trouble::default(),
            storage: Trouble::default(),
        }
    }

    /// For as long as the process lives.
    pub(crate) async fn go_on(mut self) {
        loop {
            match self.turn().await {
                Ok(true) => {}
                Ok(false) => {
                    self.back_off = self.pace.back_off;
                    sleep(self.pace.idle).await;
                }
                Err(Later) => {
                    sleep(self.back_off).await;
                    self.back_off = (self.back_off * 2).min(self.pace.back_off_max);
                }
            }
        }
    }

    /// Whether there was something to tell, and it was told.
    async fn turn(&mut self) -> Result<bool, Later> {
        // First, because what was told must not be among what waits.
        self.forget().await?;
        let events = self.events().await?;
        let some = !events.is_empty();
        for (id, event) in events {
            let message = message(&self.region, id, &event);
            let told = self.post.tell(&self.webhook, message.into()).await;
            let name = &self.webhook.name;
            if let Err(why) = told {
                if self.receiver.is_news(&why) {
                    runtime::warn!("webhook {name}: {why}; its events wait and are tried again");
                }
                self.forget().await?;
                return Err(Later);
            }
            if self.receiver.is_over() {
                runtime::info!("webhook {name}: takes events again");
            }
            self.back_off = self.pace.back_off;
            self.told.insert(id.shard, id);
            if self.forgotten.elapsed() >= self.pace.forget_every {
                self.forget().await?;
            }
        }
        Ok(some)
    }

    /// The events that wait, of each shard the oldest first.
    async fn events(&mut self) -> Result<Vec<(EventId, Event)>, Later> {
        let webhook = self.webhook.name.clone();
        match self.ask(Operation::NextEvents { webhook }).await? {
            Reply::Events { events, lost } => {
                // At the first look, too: whoever reads this log has not seen the one of before.
                if lost > self.lost {
                    runtime::error!(
                        "webhook {}: {} events were lost, because too many waited already",
                        self.webhook.name,
                        lost - self.lost
                    );
                }
                self.lost = lost;
                Ok(events)
            }
            _ => Err(self.note("metadata answered something else")),
        }
    }

    /// Has metadata forget what was told.
    async fn forget(&mut self) -> Result<(), Later> {
        self.forgotten = Instant::now();
        if self.told.is_empty() {
            return Ok(());
        }
        let webhook = self.webhook.name.clone();
        let events = self.told.values().copied().collect();
        self.ask(Operation::ForgetEvents { webhook, events })
            .await?;
        self.told.clear();
        Ok(())
    }

    /// Both questions may be repeated without harm.
    async fn ask(&mut self, operation: Operation) -> Result<Reply, Later> {
        let call = Call {
            revision: 0,
            operation,
        };
        match self.metadata.repeat(&call).await {
            Ok((answer, _)) => match answer.result {
                Ok(reply) => {
                    if self.storage.is_over() {
                        runtime::info!("webhook {}: metadata answers again", self.webhook.name);
                    }
                    Ok(reply)
                }
                Err(error) => Err(self.note(&error.to_string())),
            },
            Err(error) => Err(self.note(&error.to_string())),
        }
    }

    fn note(&mut self, why: &str) -> Later {
        if self.storage.is_news(why) {
            runtime::warn!(
                "webhook {}: metadata: {why}; asked again",
                self.webhook.name
            );
        }
        Later
    }
}

/// What goes wrong, so that the log says it once and not at every attempt.
#[derive(Default)]
pub(crate) struct Trouble(Option<String>);

impl Trouble {
    /// Whether it is another one than before.
    fn is_news(&mut self, why: &str) -> bool {
        let news = self.0.as_deref() != Some(why);
        if news {
            self.0 = Some(why.to_owned());
        }
        news
    }

    /// Nothing goes wrong now. Whether something did.
    fn is_over(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::Trouble;

    #[test]
    fn trouble_is_told_once_and_again_when_it_changes_or_comes_back() {
        let mut trouble = Trouble::default();
        assert!(!trouble.is_over());
        assert!(trouble.is_news("refused") && !trouble.is_news("refused"));
        assert!(trouble.is_news("answered 500") && trouble.is_news("refused"));
        assert!(trouble.is_over() && !trouble.is_over());
        assert!(trouble.is_news("refused"));
    }
}
