"""More clients than a host has open files for: what it cannot give is named, and who is idle gives way to who comes."""

import selectors
import socket
from urllib.parse import urlsplit

from home import USERS, Home, until

OPEN_FILES = 1024
"""What many hosts give an ordinary user."""
ROOM = 384
"""The connections that a service keeps with so many."""
REQUEST = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(home):
    """A connection that has had an answer and is idle."""
    one = socket.create_connection(("127.0.0.1", home.port), timeout=60)
    one.sendall(REQUEST)
    assert one.recv(4096).startswith(b"HTTP/1.1 ")
    return one


def begin_upload(home, key):
    """A connection with the head and the first byte of a PUT of ten; it may pause for 30 seconds then."""
    url = urlsplit(home.s3.generate_presigned_url("put_object", Params={"Bucket": "home", "Key": key}))
    one = socket.create_connection(("127.0.0.1", home.port), timeout=60)
    one.sendall(f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: 10\r\n\r\n1".encode())
    return one


def closed(connections):
    """How many of these idle connections the server has closed."""
    with selectors.DefaultSelector() as selector:
        for one in connections:
            selector.register(one, selectors.EVENT_READ)
        return len(selector.select(0))


def test_who_is_idle_gives_way_and_who_is_in_a_request_stays():
    with Home.start(user=USERS[-1], open_files=OPEN_FILES) as home:
        assert f"keeps {ROOM} connections instead of 12000: only {OPEN_FILES} open files are allowed" in home.log()
        missing = home.trousseau("status").stdout
        assert "s3-frontend: as many open files as its manifest says" in missing
        home.put("key", b"x" * 100_000)
        slow = [begin_upload(home, f"slow-{number}") for number in range(20)]
        idle = [connect(home) for _ in range(2 * ROOM)]
        at_least = len(idle) + len(slow) - ROOM
        until(lambda: closed(idle) >= at_least, 30, "the first give way")
        for one in idle[-50:]:
            one.sendall(REQUEST)
            assert one.recv(4096).startswith(b"HTTP/1.1 ")
        for one in slow:
            one.sendall(b"234567890")
            assert one.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert home.get("key") == b"x" * 100_000
        for one in idle + slow:
            one.close()
