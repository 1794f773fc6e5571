//! Connections: accepted by one thread, dealt out to the serving threads, each served by hyper
//! while there is something to serve, until it ends or is told to.

use crate::activity::Order;
use crate::answer::{self, Answer};
use crate::body::socket::Socket;
use crate::connections::{Connections, Entry};
use crate::limits::{BUFFER_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, LINGER, LINGER_BYTES_MAX};
use crate::worker::Worker;
use bytes::Bytes;
use http::Request as HttpRequest;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, TcpStream as StdTcpStream};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// What a service makes of requests.
pub trait Handler: Copy + Send + 'static {
    /// Answers one request of `peer`, by the name that it gets. Never fails: what goes wrong becomes an answer, or an answer whose body
    /// breaks off.
    fn answer(
        self,
        worker: Rc<Worker>,
        peer: IpAddr,
        request: HttpRequest<Incoming>,
        request_id: &str,
    ) -> impl Future<Output = Answer>;
}

/// An accepted socket on its way to the thread that will serve it. Counts as that thread's load
/// until it is dropped.
pub struct Dealt {
    socket: StdTcpStream,
    /// Who is at the other end.
    peer: IpAddr,
    load: Load,
}

/// One connection's share of a thread's load.
struct Load(Arc<AtomicUsize>);

impl Dealt {
    /// Counts `socket` in `load`.
    pub fn new(socket: StdTcpStream, peer: IpAddr, load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self {
            socket,
            peer,
            load: Load(load.clone()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes over accepted sockets until `accepted` ends, then waits until every connection is done.
pub async fn serve<H: Handler>(
    worker: Rc<Worker>,
    mut accepted: mpsc::Receiver<Dealt>,
    handler: H,
) {
    while let Some(Dealt { socket, peer, load }) = accepted.recv().await {
        // No room and nobody idle: the client sees its connection close and comes again.
        let Some(entry) = worker.connections.enter() else {
            continue;
        };
        // Without it a small answer on a kept connection waits for the client's delayed
        // acknowledgement, 40 ms.
        let stream = socket
            .set_nodelay(true)
            .and_then(|()| TcpStream::from_std(socket));
        let Ok(stream) = stream else { continue };
        tokio::task::spawn_local(connection(
            worker.clone(),
            entry,
            load,
            peer,
            stream,
            handler,
        ));
    }
    finish(&worker.connections).await;
}

/// Lets requests under way end.
async fn finish(connections: &Connections) {
    connections.finish();
    while connections.count() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Serves one connection. At rest it is this future and a socket; what requests need is made when bytes come.
async fn connection<H: Handler>(
    worker: Rc<Worker>,
    entry: Entry,
    load: Load,
    peer: IpAddr,
    mut stream: TcpStream,
    handler: H,
) {
    let mut before = Bytes::new();
    loop {
        let place = tokio::select! {
            biased;
            // Nothing of ours is on its way that a reset could hurt.
            () = entry.activity.told_to_end() => break,
            place = async {
                if before.is_empty() {
                    stream.readable().await.ok()?;
                }
                entry.wake().await
            } => place,
        };
        let Some(place) = place else { break };
        let served = requests(&worker, &entry, peer, (stream, before), handler);
        match Box::pin(served).await {
            None => break,
            Some(rest) => (stream, before) = rest,
        }
        entry.rest(place);
    }
    drop((entry, load));
}

/// Serves the requests of one connection, of whose bytes `before` have been read already, until it ends (`None`) or is told to
/// rest.
async fn requests<H: Handler>(
    worker: &Rc<Worker>,
    entry: &Entry,
    peer: IpAddr,
    (stream, before): (TcpStream, Bytes),
    handler: H,
) -> Option<(TcpStream, Bytes)> {
    let activity = &entry.activity;
    let placeholders = worker.placeholders.clone();
    let socket = Socket::new(stream, before, placeholders, activity.clone());
    let service = service_fn(|http: HttpRequest<Incoming>| {
        let (worker, activity) = (worker.clone(), activity.clone());
        // Boxed, so that a connection between two requests does not hold the space for one.
        Box::pin(async move {
            activity.request_begins();
            let request_id = worker.request_id();
            let mut answer = handler.answer(worker, peer, http, &request_id).await;
            answer::sign_off(&mut answer, &request_id);
            answer.body_mut().attach(activity);
            Ok::<_, Infallible>(answer)
        })
    });
    let mut hyper = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        // Its own time-out would arm a timer for each request; the table of connections watches
        // heads instead.
        .header_read_timeout(None)
        .serve_connection(socket, service);
    let mut was_idle = false;
    loop {
        let order = {
            let mut served = pin!(poll_fn(|context| hyper.poll_without_shutdown(context)));
            tokio::select! {
                biased;
                // Done; or the client is gone, or sent what is not HTTP (hyper has answered it), or a body
                // broke off: nothing to be said.
                _result = &mut served => break,
                order = activity.ordered() => order,
            }
        };
        match order {
            Order::Cut => return None,
            Order::Finish => {
                was_idle = activity.is_idle();
                std::pin::Pin::new(&mut hyper).graceful_shutdown();
            }
            Order::Rest if activity.is_idle() => {
                let parts = hyper.into_parts();
                let (stream, unread) = parts.io.into_parts();
                // Of the next request, if its beginning came along with the one before. Copied, because
                // even an empty slice of hyper's buffer would keep all of it.
                let before = Bytes::from([parts.read_buf, unread].concat());
                return Some((stream, before));
            }
            Order::Rest => {} // a request came first
        }
    }
    if !was_idle {
        let (stream, _) = hyper.into_parts().io.into_parts();
        linger(stream).await;
    }
    None
}

/// Ends a connection so that the client sees our last answer. Closing a socket with unread bytes
/// makes the kernel send a reset, which lets the client's kernel throw the answer away; so the rest
/// of a refused body is read first, within bounds.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let rest = async {
        let mut buffer = vec![0; 8 * 1024];
        let mut bytes = 0_usize;
        while let Ok(read) = stream.read(&mut buffer).await {
            bytes = bytes.saturating_add(read);
            if read == 0 || bytes > LINGER_BYTES_MAX {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}
