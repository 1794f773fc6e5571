//! A client that signs: one TCP connection at a time, HTTP by hand so that a test sees what really
//! comes.

use super::REGION;
use s3_wire::headers::RequestView;
use s3_wire::sigv4::PayloadHash;
use s3_wire::sigv4::client::{Credentials, Signature, sign_request};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub struct Client {
    address: SocketAddr,
    access_key: String,
    secret_key: String,
    stream: Option<TcpStream>,
    /// Read and not yet used.
    buffer: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of the first element of that name.
    pub fn element(&self, name: &str) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once("</").map(|(value, _)| value.to_owned())
    }

    /// The `Code` of an error document.
    pub fn code(&self) -> String {
        self.element("Code").unwrap_or_default()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!(
            (self.status, self.code()),
            (status, code.to_owned()),
            "{}",
            self.text()
        );
        self
    }
}

pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

pub fn sha256(data: &[u8]) -> [u8; 32] {
    let sum = s3_wire::checksum::of(s3_wire::checksum::Algorithm::Sha256, data);
    sum.bytes().try_into().unwrap()
}

impl Client {
    pub fn new(address: SocketAddr, access_key: &str, secret_key: &str) -> Self {
        Self {
            address,
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            stream: None,
            buffer: Vec::new(),
        }
    }

    /// The connection, made when needed.
    pub fn stream(&mut self) -> &mut TcpStream {
        let address = self.address;
        self.stream.get_or_insert_with(|| {
            let stream = TcpStream::connect(address).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(40)))
                .unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        })
    }

    pub fn hang_up(&mut self) {
        self.stream = None;
        self.buffer.clear();
    }

    pub fn sign(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        payload: PayloadHash,
    ) -> (Vec<(String, String)>, Signature) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut all: Vec<(String, String)> = vec![("host".into(), "127.0.0.1".into())];
        for (name, value) in headers {
            all.retain(|(known, _)| known != name || *name != "host");
            all.push((name.to_string(), value.to_string()));
        }
        // Expect and Content-Length belong to the connection and are not signed.
        let hop = |name: &str| {
            matches!(
                name,
                "expect" | "content-length" | "connection" | "transfer-encoding"
            )
        };
        let (unsigned, signed): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| hop(name));
        let view = RequestView {
            method,
            path,
            query,
            headers: &signed,
        };
        let credentials = Credentials {
            access_key: &self.access_key,
            secret_key: &self.secret_key,
            region: REGION,
        };
        let signature = sign_request(&credentials, &view, payload, now_s()).unwrap();
        let mut headers = signed;
        headers.extend(unsigned);
        headers.extend(
            signature
                .headers
                .iter()
                .map(|(n, v)| (n.to_string(), v.clone())),
        );
        (headers, signature)
    }

    /// The head of a request, as bytes.
    pub fn head(method: &str, target: &str, headers: &[(String, String)]) -> Vec<u8> {
        let mut head = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// A whole signed request as bytes.
    pub fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        let (mut headers, _) =
            self.sign(method, target, headers, PayloadHash::Signed(sha256(body)));
        if !body.is_empty() || matches!(method, "PUT" | "POST") {
            headers.push(("content-length".into(), body.len().to_string()));
        }
        let mut request = Self::head(method, target, &headers);
        request.extend_from_slice(body);
        request
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).unwrap();
    }

    /// Reads one response. `to_head` for an answer to HEAD.
    pub fn receive(&mut self, to_head: bool) -> Response {
        self.try_receive(to_head).expect("the connection ended")
    }

    /// The same, `None` if the connection ends before the response does.
    pub fn try_receive(&mut self, to_head: bool) -> Option<Response> {
        let (head_end, response) = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break (at + 4, parse_head(&self.buffer[..at]));
            }
            self.fill()?;
        };
        let mut response = response;
        self.buffer.drain(..head_end);
        let informational = response.status < 200;
        let bodyless = to_head || informational || matches!(response.status, 204 | 304);
        let length = match response.header("content-length") {
            Some(length) if !bodyless => length.parse().unwrap(),
            _ => 0,
        };
        while self.buffer.len() < length {
            self.fill()?;
        }
        response.body = self.buffer.drain(..length).collect();
        if response.header("connection") == Some("close") {
            self.hang_up();
        }
        Some(response)
    }

    fn fill(&mut self) -> Option<()> {
        let mut piece = vec![0; 256 * 1024];
        let read = self
            .stream()
            .read(&mut piece)
            .ok()
            .filter(|read| *read > 0)?;
        self.buffer.extend_from_slice(&piece[..read]);
        Some(())
    }

    /// Sends a signed request and reads its response.
    pub fn call(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let request = self.request(method, target, headers, body);
        self.send(&request);
        self.receive(method == "HEAD")
    }

    pub fn get(&mut self, target: &str) -> Response {
        self.call("GET", target, &[], b"")
    }

    pub fn put(&mut self, target: &str, body: &[u8]) -> Response {
        self.call("PUT", target, &[], body)
    }
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn parse_head(head: &[u8]) -> Response {
    let head = String::from_utf8_lossy(head).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Response {
        status,
        headers,
        body: Vec::new(),
    }
}

/// Bytes that differ from each other everywhere.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
