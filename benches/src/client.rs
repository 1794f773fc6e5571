//! A small S3 client: one keep-alive connection, one request at a time, as little work of its own
//! as possible.

use crate::error::Error;
use crate::node::Target;
use s3_wire::dates::amz_date;
use s3_wire::headers::RequestView;
use s3_wire::sigv4::client::{Credentials, sign_with_key};
use s3_wire::sigv4::{PayloadHash, SigningKey};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

/// Longest wait for a piece of an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of the head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// One request, body apart.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// Encoded.
    pub(crate) path: &'a str,
    /// Encoded, without `?`.
    pub(crate) query: &'a str,
    /// Beside `host`, `content-length` and those of the signature.
    pub(crate) headers: &'a [(&'a str, String)],
    pub(crate) body: &'a [u8],
    pub(crate) payload: PayloadHash,
}

/// One answer. The body is in [`Connection::body`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// From the first byte sent to the last byte received, in nanoseconds; signing is not in it.
    pub(crate) elapsed_ns: u64,
}

/// A connection, the key that signs on it, and the buffers that are used again and again.
pub(crate) struct Connection {
    target: Target,
    stream: TcpStream,
    key: (String, SigningKey),
    /// The request's head, and a small body behind it.
    out: Vec<u8>,
    /// The body of the last answer.
    body: Vec<u8>,
    /// The first bytes of an answer: its head and perhaps some of the body.
    head: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(target: &Target) -> Result<Connection, Error> {
        let stream = connect(target)?;
        let day = today();
        let key = SigningKey::derive(&target.secret_key, &day, &target.region);
        Ok(Connection {
            target: target.clone(),
            stream,
            key: (day, key),
            out: Vec::new(),
            body: Vec::new(),
            head: Vec::new(),
        })
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Signs, sends, and waits for the whole answer.
    pub(crate) fn send(&mut self, request: &Request<'_>) -> Result<Answer, Error> {
        self.sign(request)?;
        let begin = Instant::now();
        // Small bodies travel with the head, so that a PUT is one packet.
        let together = request.body.len() <= 16 << 10;
        if together {
            self.out.extend_from_slice(request.body);
        }
        self.stream
            .write_all(&self.out)
            .map_err(Error::world("sending a request"))?;
        if !together {
            self.stream
                .write_all(request.body)
                .map_err(Error::world("sending a body"))?;
        }
        let (status, close) = self.receive(request.method == "HEAD")?;
        let elapsed_ns = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if close {
            self.stream = connect(&self.target)?;
        }
        Ok(Answer { status, elapsed_ns })
    }

    /// Sends and demands a status.
    pub(crate) fn expect(
        &mut self,
        request: &Request<'_>,
        statuses: &[u16],
    ) -> Result<Answer, Error> {
        let answer = self.send(request)?;
        if statuses.contains(&answer.status) {
            return Ok(answer);
        }
        let body = String::from_utf8_lossy(self.body.get(..500).unwrap_or(&self.body)).into_owned();
        let what = format!(
            "{} {}?{}: {} {body}",
            request.method, request.path, request.query, answer.status
        );
        Err(Error::Answer(what))
    }

    /// Writes the head of the request into `self.out`.
    fn sign(&mut self, request: &Request<'_>) -> Result<(), Error> {
        let day = today();
        if self.key.0 != day {
            let key = SigningKey::derive(&self.target.secret_key, &day, &self.target.region);
            self.key = (day, key);
        }
        let mut headers: Vec<(&str, &str)> = vec![("host", &self.target.address)];
        headers.extend(
            request
                .headers
                .iter()
                .map(|(name, value)| (*name, value.as_str())),
        );
        let view = RequestView {
            method: request.method,
            path: request.path,
            query: request.query,
            headers: &headers,
        };
        let credentials = Credentials {
            access_key: &self.target.access_key,
            secret_key: &self.target.secret_key,
            region: &self.target.region,
        };
        let signed = sign_with_key(&credentials, &self.key.1, &view, request.payload, now_s())
            .map_err(|error| Error::Answer(error.to_string()))?;
        self.out.clear();
        let mark = if request.query.is_empty() { "" } else { "?" };
        let line = format!(
            "{} {}{mark}{} HTTP/1.1\r\n",
            request.method, request.path, request.query
        );
        self.out.extend_from_slice(line.as_bytes());
        let added = signed
            .headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        for (name, value) in headers.iter().copied().chain(added) {
            for part in [name, ": ", value, "\r\n"] {
                self.out.extend_from_slice(part.as_bytes());
            }
        }
        if !request.body.is_empty() || matches!(request.method, "PUT" | "POST") {
            let line = format!("content-length: {}\r\n", request.body.len());
            self.out.extend_from_slice(line.as_bytes());
        }
        self.out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Reads one answer; returns its status and whether the server will close.
    fn receive(&mut self, headless: bool) -> Result<(u16, bool), Error> {
        loop {
            let head_bytes = self.receive_head()?;
            let text = String::from_utf8_lossy(self.head.get(..head_bytes).unwrap_or_default());
            let head = Head::parse(&text)?;
            self.head.drain(..head_bytes);
            if head.status == 100 {
                continue;
            }
            self.body.clear();
            match head.length {
                _ if headless || matches!(head.status, 204 | 304) => {}
                Length::Known(bytes) => self.receive_exactly(bytes)?,
                Length::Chunked => self.receive_chunked()?,
            }
            if !self.head.is_empty() {
                return Err(Error::Answer(
                    "bytes behind the end of an answer".to_owned(),
                ));
            }
            return Ok((head.status, head.close));
        }
    }

    /// Fills `self.head` up to the empty line; returns where the body begins.
    fn receive_head(&mut self) -> Result<usize, Error> {
        let mut searched = 0;
        loop {
            let from = searched.min(self.head.len());
            let rest = self.head.get(from..).unwrap_or_default();
            if let Some(at) = rest.windows(4).position(|four| four == b"\r\n\r\n") {
                return Ok(from + at + 4);
            }
            if self.head.len() > HEAD_BYTES_MAX {
                return Err(Error::Answer("an endless head".to_owned()));
            }
            searched = self.head.len().saturating_sub(3);
            self.receive_some()?;
        }
    }

    /// Appends to `self.head` what has come.
    fn receive_some(&mut self) -> Result<(), Error> {
        let mut piece = [0; 16 << 10];
        let bytes = self
            .stream
            .read(&mut piece)
            .map_err(Error::world("receiving an answer"))?;
        if bytes == 0 {
            return Err(Error::Answer("the connection ended".to_owned()));
        }
        self.head
            .extend_from_slice(piece.get(..bytes).unwrap_or_default());
        Ok(())
    }

    fn receive_exactly(&mut self, bytes: usize) -> Result<(), Error> {
        let here = bytes.min(self.head.len());
        self.body.extend(self.head.drain(..here));
        let begun = self.body.len();
        self.body.resize(bytes, 0);
        let rest = self.body.get_mut(begun..).unwrap_or_default();
        self.stream
            .read_exact(rest)
            .map_err(Error::world("receiving a body"))
    }

    fn receive_chunked(&mut self) -> Result<(), Error> {
        loop {
            let line = self.receive_line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or("").trim(), 16)
                .map_err(|_| Error::Answer(format!("a chunk of size {line}")))?;
            while self.head.len() < size {
                self.receive_some()?;
            }
            self.body.extend(self.head.drain(..size));
            let end = self.receive_line()?;
            if !end.is_empty() {
                return Err(Error::Answer("a chunk that does not end".to_owned()));
            }
            if size == 0 {
                return Ok(());
            }
        }
    }

    fn receive_line(&mut self) -> Result<String, Error> {
        loop {
            if let Some(at) = self.head.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.head.drain(..at + 2).take(at).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.receive_some()?;
        }
    }
}

/// How long a body is.
enum Length {
    Known(usize),
    Chunked,
}

/// What counts of an answer's head.
struct Head {
    status: u16,
    length: Length,
    close: bool,
}

impl Head {
    fn parse(text: &str) -> Result<Head, Error> {
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| Error::Answer(status_line.to_owned()))?;
        // Without a length the body of an answer ends with the connection; no S3 server does that
        // with keep-alive.
        let mut head = Head {
            status,
            length: Length::Known(0),
            close: false,
        };
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("content-length", bytes) => {
                    let bytes = bytes.parse().map_err(|_| Error::Answer(line.to_owned()))?;
                    head.length = Length::Known(bytes);
                }
                ("transfer-encoding", "chunked") => head.length = Length::Chunked,
                ("connection", value) => head.close = value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        Ok(head)
    }
}

fn connect(target: &Target) -> Result<TcpStream, Error> {
    let tried = || format!("connecting to {}", target.address);
    let stream = TcpStream::connect(&target.address).map_err(Error::world(tried()))?;
    stream.set_nodelay(true).map_err(Error::world(tried()))?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .map_err(Error::world(tried()))?;
    Ok(stream)
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// `YYYYMMDD`
fn today() -> String {
    let mut date = amz_date(now_s());
    date.truncate(8);
    date
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails may panic")]
    use super::*;
    use std::net::TcpListener;

    /// Answers each request on one connection with the next of `answers`.
    fn server(answers: Vec<&'static [u8]>) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                let mut request = [0; 4096];
                assert!(stream.read(&mut request).unwrap() > 0);
                // In two pieces, to meet every boundary sooner or later.
                let (first, second) = answer.split_at(answer.len() / 2);
                stream.write_all(first).unwrap();
                std::thread::sleep(Duration::from_millis(5));
                stream.write_all(second).unwrap();
            }
        });
        let text = |text: &str| text.to_owned();
        Target {
            address,
            access_key: text("a"),
            secret_key: text("s"),
            region: text("r"),
        }
    }

    #[test]
    fn answers_of_every_framing_are_read() {
        let target = server(vec![
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
        ]);
        let mut connection = Connection::open(&target).unwrap();
        let mut check = |method: &str, status: u16, body: &[u8]| {
            let request = Request {
                method,
                path: "/b/k",
                query: "",
                headers: &[],
                body: b"",
                payload: PayloadHash::Unsigned,
            };
            assert_eq!(
                connection.expect(&request, &[status]).unwrap().status,
                status
            );
            assert_eq!(connection.body(), body);
        };
        check("GET", 200, b"hello");
        check("PUT", 204, b"");
        check("GET", 200, b"abcde");
        check("HEAD", 200, b"");
    }
}
