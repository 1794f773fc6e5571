//! Asking the console: what a person said goes there word by word, and its answer comes back in pieces.

use protocol::inspect::{Operator, Outcome, Verb};
use protocol::wire::{self, Numbered};
use runtime::Bus;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Verbs that are asked at a time; the next waits.
const QUESTIONS_MAX: usize = 16;
/// Pieces of an answer (64 KiB each) that wait for a person who reads slowly; then the console waits.
const PIECES_MAX: usize = 2;
/// The longest answer, in bytes: whoever asks for more is told less.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A way to ask, for any task: the console is spoken to by one that stays on its thread.
#[derive(Clone)]
pub(crate) struct Console {
    questions: mpsc::Sender<Question>,
}

struct Question {
    verb: Verb,
    answer: mpsc::Sender<Outcome>,
}

impl Console {
    /// Asks over the bus. Needs a tokio context in which tasks may be spawned locally.
    pub(crate) fn new(bus: Bus) -> Self {
        let (questions, mut asked) = mpsc::channel::<Question>(QUESTIONS_MAX);
        let under_way = Arc::new(Semaphore::new(QUESTIONS_MAX));
        let bus = Rc::new(bus);
        tokio::task::spawn_local(async move {
            while let Some(Question { verb, answer }) = asked.recv().await {
                let place = under_way.clone().acquire_owned().await;
                let bus = bus.clone();
                tokio::task::spawn_local(async move {
                    let _place = place;
                    // A person who does not wait for the answer ends the question.
                    tokio::select! {
                        ended = ask(&bus, verb, &answer) => if let Err(why) = ended {
                            let text = format!("trousseau: {why}\n");
                            let _ = answer.send(Outcome { status: 1, text, more: false }).await;
                        },
                        () = answer.closed() => {}
                    }
                });
            }
        });
        Self { questions }
    }

    /// The answer to `verb`, piece by piece; the last has `more == false`. Dropping the receiver ends the question.
    pub(crate) async fn ask(&self, verb: Verb) -> mpsc::Receiver<Outcome> {
        let (answer, pieces) = mpsc::channel(PIECES_MAX);
        // The task lives as long as the process; were it gone, the person would see an answer without an end.
        let _ = self.questions.send(Question { verb, answer }).await;
        pieces
    }
}

/// One verb on a connection of its own, so that a slow one holds up nobody.
async fn ask(bus: &Bus, verb: Verb, answer: &mpsc::Sender<Outcome>) -> Result<(), String> {
    let gone = "the console ended before it had answered; say it again";
    let channel = bus
        .open::<Operator>("console")
        .await
        .map_err(|error| format!("console: {error}"))?;
    let call = Numbered { id: 0, body: verb };
    let bytes = wire::encode::<Operator>(&call).map_err(|error| error.to_string())?;
    channel
        .send(&bytes, &[])
        .await
        .map_err(|error| format!("console: {error}"))?;
    let mut room = ANSWER_BYTES_MAX;
    loop {
        let packet = channel.receive().await;
        let packet = packet.map_err(|error| format!("console: {error}"))?;
        let packet = packet.ok_or(gone)?;
        let piece = wire::decode::<Operator, Numbered<Outcome>>(&packet.bytes)
            .map_err(|error| format!("console: {error}"))?
            .body;
        room = room.checked_sub(piece.text.len()).ok_or_else(|| {
            format!("the answer is longer than {ANSWER_BYTES_MAX} bytes; its end is cut")
        })?;
        let more = piece.more;
        if answer.send(piece).await.is_err() || !more {
            return Ok(());
        }
    }
}
