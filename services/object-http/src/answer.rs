//! An answer: its body as hyper takes it, and the headers that every answer has.

use crate::activity::Activity;
use crate::body::file_range::FileRange;
use crate::budget::Share;
use bytes::{Buf, Bytes};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use s3_wire::error::{ErrorCode, S3Error};
use s3_wire::range::content_range_unsatisfied;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// An answer on its way.
pub type Answer = Response<AnswerBody>;

/// A piece of a body: bytes that we have, or a part of a file that the kernel will send.
pub enum Chunk {
    /// Ours.
    Bytes(Bytes),
    /// Not to be looked at; see [`crate::body::file_range`].
    File(FileRange),
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(range) => range.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::File(range) => range.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::File(range) => range.advance(count),
        }
    }
}

/// The body of an answer. Its length is always known before.
pub struct AnswerBody {
    next: Option<Chunk>,
    /// What follows `next`.
    rest: Option<mpsc::Receiver<io::Result<Chunk>>>,
    remaining: u64,
    activity: Option<Rc<Activity>>,
    share: Option<Share>,
}

impl AnswerBody {
    /// Nothing.
    pub fn empty() -> Self {
        Self {
            next: None,
            rest: None,
            remaining: 0,
            activity: None,
            share: None,
        }
    }

    /// One piece.
    pub fn of(chunk: Chunk) -> Self {
        let remaining = chunk.remaining() as u64;
        Self {
            next: Some(chunk),
            rest: None,
            remaining,
            activity: None,
            share: None,
        }
    }

    /// A first piece and those that `rest` brings, `length` bytes in all. An error, or an end
    /// before `length`, cuts the connection: the client sees that something is missing.
    pub fn stream(first: Chunk, rest: mpsc::Receiver<io::Result<Chunk>>, length: u64) -> Self {
        Self {
            next: Some(first),
            rest: Some(rest),
            remaining: length,
            activity: None,
            share: None,
        }
    }

    /// Keeps `share` of the thread's memory for as long as it is on its way.
    pub fn holding(mut self, share: Share) -> Self {
        self.share = Some(share);
        self
    }

    /// Tells `activity` when the last of it has been handed over.
    pub fn attach(&mut self, activity: Rc<Activity>) {
        self.activity = Some(activity);
    }
}

impl Body for AnswerBody {
    type Data = Chunk;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Chunk>>>> {
        let this = self.get_mut();
        if this.remaining == 0 {
            return Poll::Ready(None);
        }
        let next = match (this.next.take(), &mut this.rest) {
            (Some(chunk), _) => Some(Ok(chunk)),
            (None, Some(rest)) => std::task::ready!(rest.poll_recv(context)),
            (None, None) => None,
        };
        Poll::Ready(Some(match next {
            Some(Ok(chunk)) => {
                this.remaining = this.remaining.saturating_sub(chunk.remaining() as u64);
                Ok(Frame::data(chunk))
            }
            Some(Err(error)) => Err(error),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity {
            activity.answer_ends();
        }
    }
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(AnswerBody::empty());
    *answer.status_mut() = status;
    answer
}

/// An XML document.
pub fn xml(document: String) -> Answer {
    let mut answer = Response::new(AnswerBody::of(Chunk::Bytes(document.into())));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// Adds a header whose value comes from outside. What HTTP cannot carry is left out: it could not
/// have been sent to us either.
pub fn set(answer: &mut Answer, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        answer
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}

/// The answer to a request that failed. HEAD gets the status alone, and so does 304.
pub fn error(mut error: S3Error, request_id: &str, is_head: bool) -> Answer {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let size = error
        .extra
        .iter()
        .find(|(element, _)| *element == "ActualObjectSize");
    let unsatisfied = size
        .filter(|_| error.code == ErrorCode::InvalidRange)
        .and_then(|(_, size)| size.parse().ok())
        .map(content_range_unsatisfied);
    let headers = std::mem::take(&mut error.headers);
    let mut answer = if is_head || status == StatusCode::NOT_MODIFIED {
        empty(status)
    } else {
        xml(error.and("HostId", request_id).to_xml(request_id))
    };
    *answer.status_mut() = status;
    for (name, value) in &headers {
        set(&mut answer, name, value);
    }
    if let Some(unsatisfied) = unsatisfied {
        set(&mut answer, "content-range", &unsatisfied);
    }
    answer
}

/// Adds what every answer has.
pub fn sign_off(answer: &mut Answer, request_id: &str) {
    set(answer, "x-amz-request-id", request_id);
    set(answer, "x-amz-id-2", request_id);
    answer
        .headers_mut()
        .insert(SERVER, HeaderValue::from_static("Trousseau"));
}
