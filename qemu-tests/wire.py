"""S3 requests byte by byte: signed by hand, so that each can be wrong in exactly one place.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

import base64
import hashlib
import hmac
import http.client
import socket
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from datetime import datetime, timezone
from urllib.parse import quote

UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
NOTHING_SHA256 = hashlib.sha256(b"").hexdigest()


def sha256_hex(data):
    return hashlib.sha256(data).hexdigest()


def md5_base64(data):
    return base64.b64encode(hashlib.md5(data).digest()).decode()


@dataclass
class Key:
    """Who signs, and for where."""

    access_key: str
    secret_key: str
    region: str = "us-east-1"

    def signing_key(self, day):
        key = b"AWS4" + self.secret_key.encode()
        for word in (day, self.region, "s3", "aws4_request"):
            key = hmac.digest(key, word.encode(), "sha256")
        return key

    def scope(self, day):
        return f"{day}/{self.region}/s3/aws4_request"


@dataclass
class Request:
    """A request before it is bytes. `query` is a list of pairs; `path` is not encoded yet."""

    method: str
    path: str
    query: list = field(default_factory=list)
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    signature: str = ""  # known once signed; a chunked body's signatures begin from it
    time: str = ""

    def target(self):
        path = quote(self.path, safe="/~-._")
        query = "&".join(f"{quote(k, safe='~-._')}={quote(v, safe='~-._')}" for k, v in self.query)
        return f"{path}?{query}" if query else path

    def canonical(self, payload, signed):
        query = sorted((quote(k, safe="~-._"), quote(v, safe="~-._")) for k, v in self.query)
        lower = {name.lower(): " ".join(value.split()) for name, value in self.headers.items()}
        return "\n".join([
            self.method, quote(self.path, safe="/~-._"), "&".join(f"{k}={v}" for k, v in query),
            "".join(f"{name}:{lower[name]}\n" for name in signed), ";".join(signed), payload,
        ])

    def sign(self, key, payload=None, when=None):
        """Adds Host's neighbours and Authorization. `payload` is the value of x-amz-content-sha256."""
        when = when or datetime.now(timezone.utc)
        self.time = when.strftime("%Y%m%dT%H%M%SZ")
        payload = payload or sha256_hex(self.body)
        self.headers |= {"x-amz-date": self.time, "x-amz-content-sha256": payload}
        signed = sorted(name.lower() for name in self.headers)
        scope = key.scope(self.time[:8])
        text = "\n".join(["AWS4-HMAC-SHA256", self.time, scope, sha256_hex(self.canonical(payload, signed).encode())])
        self.signature = hmac.digest(key.signing_key(self.time[:8]), text.encode(), "sha256").hex()
        self.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key.access_key}/{scope}, "
            f"SignedHeaders={';'.join(signed)}, Signature={self.signature}"
        )
        return self

    def head(self):
        """The request's first lines. Content-Length is added where the headers do not say how long the body is."""
        lines = [f"{self.method} {self.target()} HTTP/1.1"]
        names = {name.lower() for name in self.headers}
        headers = dict(self.headers)
        if not names & {"content-length", "transfer-encoding"} and (self.body or self.method in ("PUT", "POST")):
            headers["Content-Length"] = str(len(self.body))
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def bytes(self):
        return self.head() + self.body


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self):
        """The code of S3's error document, or None."""
        if not self.body.lstrip().startswith(b"<"):
            return None
        root = ElementTree.fromstring(self.body)
        return root.findtext("Code") if root.tag == "Error" else None

    def xml(self):
        """The document without its name space."""
        root = ElementTree.fromstring(self.body)
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root


def connect(address, timeout=60):
    """A plain connection."""
    return socket.create_connection(address, timeout=timeout)


def receive(connection, method="GET"):
    """Reads one answer."""
    response = http.client.HTTPResponse(connection, method=method)
    response.begin()
    return Answer(response.status, response.headers, response.read())


def send(address, data, method="GET", timeout=60):
    """Sends bytes on a connection of their own and reads one answer, also if the other side stops listening half-way."""
    with connect(address, timeout) as connection:
        try:
            connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The answer may lie in the buffer all the same.
        return receive(connection, method)


def presigned(key, method, host, path, expires=600, when=None, query=()):
    """The path and query of a presigned request."""
    when = when or datetime.now(timezone.utc)
    time = when.strftime("%Y%m%dT%H%M%SZ")
    request = Request(method, path, [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"), ("X-Amz-Credential", f"{key.access_key}/{key.scope(time[:8])}"),
        ("X-Amz-Date", time), ("X-Amz-Expires", str(expires)), ("X-Amz-SignedHeaders", "host"), *query,
    ], {"Host": host})
    canonical = request.canonical(UNSIGNED, ["host"])
    text = "\n".join(["AWS4-HMAC-SHA256", time, key.scope(time[:8]), sha256_hex(canonical.encode())])
    signature = hmac.digest(key.signing_key(time[:8]), text.encode(), "sha256").hex()
    request.query.append(("X-Amz-Signature", signature))
    return request.target()


class Chunks:
    """The body of an aws-chunked upload; each chunk's signature continues the one before.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html and sigv4-streaming-trailers.html
    """

    def __init__(self, request, key, signed=True):
        self.key = key
        self.time = request.time
        self.previous = request.signature
        self.signed = signed

    def _sign(self, kind, *hashes):
        scope = self.key.scope(self.time[:8])
        text = "\n".join([f"AWS4-HMAC-SHA256-{kind}", self.time, scope, self.previous, *hashes])
        signing_key = self.key.signing_key(self.time[:8])
        self.previous = hmac.digest(signing_key, text.encode(), "sha256").hex()
        return self.previous

    def chunk(self, data):
        """One chunk; an empty one ends the data. Its own end of line is left out when a trailer has to follow it."""
        head = f"{len(data):x}"
        if self.signed:
            head += f";chunk-signature={self._sign('PAYLOAD', NOTHING_SHA256, sha256_hex(data))}"
        return head.encode() + b"\r\n" + (data + b"\r\n" if data else b"")

    def trailer(self, name, value):
        """The last lines."""
        lines = f"{name}:{value}\r\n"
        if self.signed:
            signature = self._sign("TRAILER", sha256_hex(f"{name}:{value}\n".encode()))
            lines += f"x-amz-trailer-signature:{signature}\r\n"
        return lines.encode() + b"\r\n"

    def body(self, data, size=64 * 1024, trailer=None):
        """All of it."""
        body = b"".join(self.chunk(data[at:at + size]) for at in range(0, len(data), size))
        body += self.chunk(b"")
        return body + (self.trailer(*trailer) if trailer else b"\r\n")
