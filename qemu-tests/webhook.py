"""A webhook of a test's own: an HTTP server on the loopback that keeps what it was told, and answers as the test wants it.

    with Receiver() as hook, Home.start(webhooks=[f"hook={hook.url}"]) as home:
        home.s3.put_bucket_notification_configuration(Bucket="b", NotificationConfiguration=told_to("hook", "s3:ObjectCreated:*"))
        home.put("a", bucket="b")
        until(lambda: hook.events("b"), 60, "the event is told")
"""

import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote_plus

from home import free_port

HANG = "hang"
"""Instead of a status: no answer, until `release()` or `stop()`."""


def told_to(webhook, *events, prefix=None, suffix=None, id="rule"):
    """A bucket's configuration of one rule."""
    filters = [{"Name": name, "Value": value} for name, value in (("prefix", prefix), ("suffix", suffix)) if value is not None]
    rule = {"Id": id, "QueueArn": f"arn:trousseau:sqs::{webhook}:webhook", "Events": list(events)}
    if filters:
        rule["Filter"] = {"Key": {"FilterRules": filters}}
    return {"QueueConfigurations": [rule]}


class Event:
    """One request that was answered 2xx."""

    def __init__(self, path, headers, message):
        self.path, self.headers, self.message = path, headers, message
        (self.record,) = message["Records"]
        self.name = self.record["eventName"]
        self.bucket = self.record["s3"]["bucket"]["name"]
        self.object = self.record["s3"]["object"]
        self.key = unquote_plus(self.object["key"])
        self.version = self.object.get("versionId")
        self.etag = self.object.get("eTag")

    def __repr__(self):
        return f"{self.name} {self.key!r} {self.object}"


class Receiver:
    """Listens from `start()` (or `with`) to `stop()`, at the same port each time."""

    def __init__(self, path="/events", user=None):
        """`user`: `USER:PASSWORD` as a URL has it."""
        self.port = free_port()
        self.path = path
        self.url = f"http://{user + '@' if user else ''}127.0.0.1:{self.port}{path}"
        self.way = 200
        """What the next requests are answered: a status, or HANG."""
        self.asked = 0
        self._told = []
        self._server = None
        self._released = threading.Event()
        self._connections = set()

    def events(self, bucket):
        """What was told of a bucket so far, in order."""
        return [event for event in list(self._told) if event.bucket == bucket]

    def release(self, way):
        """Requests that hang are answered with `way` now, and so are those that come."""
        self.way = way
        self._released.set()

    def start(self):
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                receiver._connections.add(self.connection)

            def finish(self):
                receiver._connections.discard(self.connection)
                with suppress(OSError):
                    super().finish()

            def do_POST(self):  # noqa: N802 - the library's name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.asked += 1
                if receiver.way == HANG:
                    receiver._released.wait()
                status = 503 if receiver.way == HANG else receiver.way
                if 200 <= status < 300:
                    receiver._told.append(Event(self.path, dict(self.headers), json.loads(body)))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def handle(self):
                with suppress(OSError):
                    super().handle()

            def log_message(self, *_):
                pass

        self._released.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self):
        """Nobody listens any more, and open connections end."""
        self._server.shutdown()
        self._server.server_close()
        self._released.set()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
