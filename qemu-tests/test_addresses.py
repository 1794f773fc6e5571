"""Presigned addresses, and buckets in the host name."""

import io
import socket
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit, urlunsplit

import pytest
import urllib3

from samples import ODD_KEYS, bytes_of, refused
from wire import Key, Request, connect, presigned, receive, send


@pytest.fixture(scope="module")
def key(home):
    return Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])


def fetch(url, method="GET", body=None, **headers):
    """What a browser or curl does: status and bytes."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


# Presigned.

def test_presigned_put_and_get(s3, bucket):
    body = bytes_of(300_000)
    where = {"Bucket": bucket, "Key": "a b/ü+%"}
    put = s3.generate_presigned_url("put_object", where, ExpiresIn=60)
    assert fetch(put, "PUT", body)[0] == 200
    get = s3.generate_presigned_url("get_object", where, ExpiresIn=60)
    assert fetch(get) == (200, body)
    assert fetch(get, Range="bytes=10-19") == (206, body[10:20])
    # Each address is good for its own method only.
    assert fetch(get, "PUT", b"x")[0] == 403
    assert fetch(put)[0] == 403
    assert s3.get_object(**where)["Body"].read() == body
    assert fetch(s3.generate_presigned_url("head_object", where), "HEAD")[0] == 200
    assert fetch(s3.generate_presigned_url("delete_object", where), "DELETE")[0] == 204


def test_addresses_that_boto3_presigns_unless_told_otherwise(home, bucket):
    """Signature Version 2, in us-east-1: put, get with an overridden header, head, delete, in path and virtual-host style."""
    def send_to(url, method="GET", body=None):
        # By the node's address, since not every resolver knows names below localhost; and not by urllib, which would add a
        # content type, which this version signs.
        parts = urlsplit(url)
        there = urlunsplit(parts._replace(netloc=f"127.0.0.1:{home.port}"))
        return urllib3.request(method, there, body=body, headers={"Host": parts.netloc}, retries=False)

    for style in ("path", "virtual"):
        s3 = home.client(url=f"http://localhost:{home.port}", signature_version="s3", s3={"addressing_style": style})
        where = {"Bucket": bucket, "Key": "ä b/c"}
        assert send_to(s3.generate_presigned_url("put_object", where, ExpiresIn=60), "PUT", b"old").status == 200
        got = send_to(s3.generate_presigned_url("get_object", {**where, "ResponseContentType": "text/x-old"}))
        assert (got.status, got.headers["content-type"], got.data) == (200, "text/x-old", b"old")
        assert send_to(s3.generate_presigned_url("head_object", where), "HEAD").status == 200
        assert send_to(s3.generate_presigned_url("get_object", where, ExpiresIn=-10)).status == 403
        assert send_to(s3.generate_presigned_url("delete_object", where), "DELETE").status == 204


def test_presigned_headers_have_to_be_sent(s3, bucket):
    put = s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": "k", "ContentType": "text/x"}, ExpiresIn=60)
    status, body = fetch(put, "PUT", b"x", **{"Content-Type": "text/y"})
    assert status == 403 and b"SignatureDoesNotMatch" in body
    assert fetch(put, "PUT", b"x", **{"Content-Type": "text/x"})[0] == 200
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "text/x"


def test_presigned_answer_headers(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    get = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k", "ResponseContentDisposition": "attachment"})
    with urllib.request.urlopen(get, timeout=60) as answer:
        assert answer.headers["Content-Disposition"] == "attachment"


@pytest.mark.parametrize("name", ODD_KEYS, ids=ascii)
def test_presigned_get_of_any_key(home, s3, bucket, key, name):
    s3.put_object(Bucket=bucket, Key=name, Body=name.encode())
    target = presigned(key, "GET", "localhost", f"/{bucket}/{name}")
    answer = send(home.address, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert (answer.status, answer.body) == (200, name.encode())


def test_expired_and_changed_addresses_are_refused(home, s3, bucket, key):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    now = datetime.now(timezone.utc)

    def ask(target):
        answer = send(home.address, f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        return answer.code or answer.status

    def signed(**more):
        return presigned(key, "GET", "h", f"/{bucket}/k", **more)

    assert ask(signed()) == 200
    assert ask(signed(when=now - timedelta(days=6), expires=604_800)) == 200
    assert ask(signed(when=now - timedelta(minutes=2), expires=60)) == "AccessDenied"
    assert ask(signed(when=now + timedelta(hours=1), expires=60)) in {"AccessDenied", "RequestTimeTooSkewed"}
    for wrong in (604_801, 0, -1, "x", 2**70):
        # AWS takes 0; what it must not do is to be valid for ever.
        assert ask(signed(expires=wrong)) in {"AuthorizationQueryParametersError", "AccessDenied"}, wrong
    good = signed()
    for old, new in (
        ("X-Amz-Signature=", "X-Amz-Signature=0"), ("Algorithm=AWS4-HMAC-SHA256", "Algorithm=AWS4-HMAC-SHA1"), ("us-east-1", "eu-west-1"),
        ("%2Fs3%2F", "%2Fiam%2F"), ("aws4_request", "aws5_request"), ("SignedHeaders=host", "SignedHeaders="), ("/k?", "/other?"),
        ("Expires=600", "Expires=601"), ("X-Amz-Date=2", "X-Amz-Date=x"), ("&X-Amz-Expires=600", ""), (key.access_key, "AKNOBODY"),
    ):
        assert old in good
        assert ask(good.replace(old, new)) in {
            "SignatureDoesNotMatch", "AuthorizationQueryParametersError", "AuthorizationHeaderMalformed", "InvalidAccessKeyId", "AccessDenied",
        }, (old, new)


def test_two_kinds_of_credentials_at_once_are_refused(home, s3, bucket, key):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    target = presigned(key, "GET", "h", f"/{bucket}/k")
    header = Request("GET", f"/{bucket}/k", headers={"Host": "h"}).sign(key).headers["Authorization"]
    answer = send(home.address, f"GET {target} HTTP/1.1\r\nHost: h\r\nAuthorization: {header}\r\n\r\n".encode())
    assert 400 <= answer.status < 500


def test_without_credentials_everything_is_denied(home, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for method, target in (("GET", "/"), ("GET", f"/{bucket}"), ("GET", f"/{bucket}/k"), ("PUT", f"/{bucket}/new"), ("DELETE", f"/{bucket}/k"), ("PUT", "/new-bucket")):
        answer = send(home.address, f"{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
        assert (answer.status, answer.code) == (403, "AccessDenied"), (method, target)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


# Virtual-host style.

@pytest.fixture
def localhost_names(monkeypatch):
    """Every name below localhost is this machine, as most resolvers have it; Debian's does not."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **also: resolve(
        "127.0.0.1" if str(host).endswith("localhost") else host, *more, **also,
    ))


def test_bucket_in_the_host_name(home, bucket, localhost_names):
    s3 = home.client(url=f"http://localhost:{home.port}", s3={"addressing_style": "virtual"})
    body = bytes_of(100_000)
    for name in ("plain", "a b/ü", "//", f"{bucket}/k", "dir/"):
        s3.put_object(Bucket=bucket, Key=name, Body=body)
        assert s3.get_object(Bucket=bucket, Key=name)["Body"].read() == body
        assert home.s3.get_object(Bucket=bucket, Key=name)["Body"].read() == body, "path style sees the same object"
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix="dir")["Contents"]] == ["dir/"]
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "plain"}]})
    get = s3.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "a b/ü"})
    assert f"{bucket}.localhost" in get
    assert fetch(get) == (200, body)
    s3.create_bucket(Bucket=f"{bucket}-new")
    s3.delete_bucket(Bucket=f"{bucket}-new")


def test_connection_is_kept_for_further_requests(home, s3, bucket, key):
    """One connection, several requests, also two sent at once."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 1000)
    request = Request("GET", f"/{bucket}/k", headers={"Host": "h"}).sign(key).bytes()
    with connect(home.address) as connection:
        for _ in range(20):
            connection.sendall(request)
            assert receive(connection).body == b"x" * 1000
        missing = Request("GET", f"/{bucket}/missing", headers={"Host": "h"}).sign(key).bytes()
        connection.sendall(missing)
        assert receive(connection).code == "NoSuchKey"
        connection.sendall(request)
        assert receive(connection).body == b"x" * 1000


def test_expect_100_continue(home, bucket, key):
    """curl waits for the word before it sends a large body; a refusal comes without it."""
    body = bytes_of(50_000)
    request = Request("PUT", f"/{bucket}/k", headers={"Host": "h", "Expect": "100-continue"}, body=body).sign(key)
    with connect(home.address) as connection:
        connection.sendall(request.head())
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert receive(connection).status == 200
    wrong = Request("PUT", f"/{bucket}/k", headers={"Host": "h", "Expect": "100-continue"}, body=body)
    wrong.sign(Key(key.access_key, "wrong"))
    with connect(home.address) as connection:
        connection.sendall(wrong.head())
        assert receive(connection).code == "SignatureDoesNotMatch"


def test_answer_without_the_word_ends_the_connection_or_comes_after_it(home, bucket, key):
    """A client that waits for `100 Continue` and gets something else cannot know whether its body is still awaited.

    botocore mistakes the next answer on such a connection for a continuation and waits for ever, so the connection has to end.
    Also a body of no bytes is one that may be waited for.
    """
    empty = Request("PUT", f"/{bucket}/empty", headers={"Host": "h", "Expect": "100-continue"}).sign(key)
    missing = Request("PUT", "/nobody-made-this/k", headers={"Host": "h", "Expect": "100-continue"}, body=b"x" * 100_000).sign(key)
    for request, status in ((empty, 200), (missing, 404)):
        with connect(home.address) as connection:
            connection.sendall(request.head())
            if connection.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 100":
                continue
            answer = receive(connection)
            assert (answer.status, answer.headers["Connection"]) == (status, "close")


def test_uploads_of_files_follow_each_other_on_one_connection(home, bucket):
    """boto3 awaits `100 Continue` for everything that is read from a file: an empty file, a refused one, and then more."""
    s3 = home.client(max_pool_connections=1, read_timeout=15)
    for body in (b"", b"x" * 10, b"", b"x" * 200_000, b""):
        s3.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(body))
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
        with refused("NoSuchBucket"):
            s3.put_object(Bucket="nobody-made-this", Key="k", Body=io.BytesIO(b"y" * 100_000))
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_time_is_told_in_every_answer(home):
    answer = send(home.address, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    told = datetime.strptime(answer.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=timezone.utc)
    assert abs(told.timestamp() - time.time()) < 60
    assert answer.headers["x-amz-request-id"]
