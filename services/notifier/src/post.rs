//! A request for each event, over one connection that is kept between them.

use crate::connection::Dialled;
use crate::webhook::Webhook;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use runtime::Bus;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The most bytes of an answer that are read, so that the connection can be kept; after more it is given up.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const AGENT: &str = concat!("trousseau/", env!("CARGO_PKG_VERSION"));

/// The connection to a webhook, made when it is first needed, and again whenever it has ended.
pub(crate) struct Post {
    bus: Bus,
    /// From the dialling to the head of the answer.
    answer_within: Duration,
    /// And then to the end of it.
    drain_within: Duration,
    kept: Option<Connection>,
}

/// One that is up. Its task holds the socket, and closes it when it is aborted.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What came of a request that got no answer.
enum Failed {
    /// The connection had been kept, and has ended meanwhile: a new one may be tried at once.
    Ended,
    /// A sentence.
    Otherwise(String),
}

impl Post {
    pub(crate) fn new(bus: Bus, answer_within: Duration, drain_within: Duration) -> Self {
        Self {
            bus,
            answer_within,
            drain_within,
            kept: None,
        }
    }

    /// Tells the webhook, and returns when it has answered 2xx.
    ///
    /// # Errors
    /// A sentence for the operator. The webhook may have been told nevertheless.
    pub(crate) async fn tell(&mut self, webhook: &Webhook, message: Bytes) -> Result<(), String> {
        let within = self.answer_within;
        let asked = timeout(within, self.ask(webhook, message)).await;
        let (connection, answer) =
            asked.map_err(|_| format!("no answer within {} s", within.as_secs_f32()))??;
        let status = answer.status();
        // Told is told: what becomes of the rest of the answer only says whether the connection can be kept.
        if let Ok(true) = timeout(self.drain_within, drain(answer)).await {
            self.kept = Some(connection);
        }
        match status {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => Err(format!(
                "answered {status}: redirections are not followed, name the new URL"
            )),
            status => Err(format!("answered {}", plain(status))),
        }
    }

    /// The head of the answer, and the connection on which the rest of it comes.
    async fn ask(
        &mut self,
        webhook: &Webhook,
        message: Bytes,
    ) -> Result<(Connection, Response<Incoming>), String> {
        if let Some(kept) = self.kept.take() {
            match exchange(kept, webhook, message.clone(), true).await {
                Ok(answered) => return Ok(answered),
                Err(Failed::Otherwise(why)) => return Err(why),
                Err(Failed::Ended) => {}
            }
        }
        let fresh = self.connect(webhook).await?;
        let answered = exchange(fresh, webhook, message, false).await;
        answered.map_err(|failed| match failed {
            Failed::Ended => "the connection ended before the answer".into(),
            Failed::Otherwise(why) => why,
        })
    }

    async fn connect(&self, webhook: &Webhook) -> Result<Connection, String> {
        let dialled = Dialled::connect(&self.bus, &webhook.name).await?;
        let failed = |error: hyper::Error| format!("no connection: {error}");
        let handshake = http1::handshake(TokioIo::new(dialled)).await;
        let (sender, connection) = handshake.map_err(failed)?;
        let task = tokio::task::spawn_local(async move {
            // How it ended is told to whoever waits for an answer on it.
            let _ = connection.await;
        });
        Ok(Connection { sender, task })
    }
}

/// Sends the request and waits for the head of its answer.
async fn exchange(
    mut connection: Connection,
    webhook: &Webhook,
    message: Bytes,
    kept: bool,
) -> Result<(Connection, Response<Incoming>), Failed> {
    let request =
        request(webhook, message).map_err(|error| Failed::Otherwise(error.to_string()))?;
    let ready = connection.sender.ready().await;
    let answer = match ready {
        Ok(()) => connection.sender.send_request(request).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(answer) => Ok((connection, answer)),
        Err(_) if kept => Err(Failed::Ended),
        Err(error) if error.is_parse() => {
            Err(Failed::Otherwise(format!("answered no HTTP: {error}")))
        }
        Err(error) if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            Err(Failed::Ended)
        }
        Err(error) => Err(Failed::Otherwise(error.to_string())),
    }
}

fn request(webhook: &Webhook, message: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(webhook.target.as_str())
        .header(HOST, webhook.host.clone())
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, "application/json");
    if let Some(authorization) = &webhook.authorization {
        request = request.header(AUTHORIZATION, authorization.clone());
    }
    request.body(Full::new(message))
}

/// Reads the rest of an answer, and drops it. Whether it came to its end within the bound.
async fn drain(answer: Response<Incoming>) -> bool {
    let mut body = answer.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > ANSWER_BYTES_MAX {
            return false;
        }
    }
    true
}

/// `503 Service Unavailable`, or the number alone where it has no name.
fn plain(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}
