"""Bad input: AWS's error, bounded memory, nothing stored, nothing crashed (the module's node counts the restarts)."""

import contextlib
import hashlib
import os
import resource
import select
import socket
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from home import until
from samples import MIB, bytes_of, refused
from wire import UNSIGNED, Key, Request, connect, md5_base64, receive, send

FRONTEND_BYTES_MAX = 256 * MIB
"""What the frontend may have in memory under any of this, by its manifest."""


@pytest.fixture(scope="module")
def key(home):
    return Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])


@pytest.fixture(autouse=True)
def goes_on(home, s3, bucket):
    """After each test: nothing was stored beside what the test says, good requests are served, memory is bounded."""
    s3.put_object(Bucket=bucket, Key="there before", Body=b"1")
    yield
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["there before"]
    assert s3.get_object(Bucket=bucket, Key="there before")["Body"].read() == b"1"
    assert home.resident_bytes("s3-frontend") < FRONTEND_BYTES_MAX


def answer_or_hangup(home, data, timeout=60):
    """What the node says to these bytes: an Answer, or None where it hangs up without a word."""
    with connect(home.address, timeout) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        try:
            return receive(connection)
        except (ConnectionResetError, OSError, ValueError, EOFError) as error:
            if isinstance(error, TimeoutError):
                raise
            return None
        except Exception as error:  # http.client has its own words for an empty answer
            assert type(error).__name__ in ("RemoteDisconnected", "BadStatusLine"), error
            return None


# Not HTTP, or hardly.

NOT_HTTP = {
    "random bytes": bytes_of(5000),
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes_of(200),
    "the HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100),
    "zeros": bytes(10_000),
    "ends of lines only": b"\r\n" * 10_000,
    "no version": b"GET /\r\n\r\n",
    "another version": b"GET / HTTP/9.9\r\nHost: h\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n",
    "a space in a header's name": b"GET / HTTP/1.1\r\nHost: h\r\nbad name: x\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: h\r\nx: a\r\n b\r\n\r\n",
    "a zero byte in a header": b"GET / HTTP/1.1\r\nHost: h\r\nx: a\0b\r\n\r\n",
    "a zero byte in the target": b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n",
    "raw bytes above 127 in the target": b"GET /\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n",
    "raw bytes above 127 in a header": b"GET / HTTP/1.1\r\nHost: h\r\nx-amz-meta-a: \xff\xfe\r\n\r\n",
    "two lengths": b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a negative length": b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
    "a length that is no number": b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 1x\r\n\r\n",
    "a length beyond 64 bits": b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "a length and chunks": b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown transfer coding": b"PUT /b/k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
    "a target of nothing": b"GET  HTTP/1.1\r\nHost: h\r\n\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    "a target without a slash": b"GET b/k HTTP/1.1\r\nHost: h\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "an absurd host": b"GET / HTTP/1.1\r\nHost: " + b"a." * 5000 + b"\r\n\r\n",
    "a broken escape in the target": b"GET /b/%zz HTTP/1.1\r\nHost: h\r\n\r\n",
    "an escape of no UTF-8": b"GET /b/%ff%fe HTTP/1.1\r\nHost: h\r\n\r\n",
    "a broken escape in the query": b"GET /b?prefix=%zz HTTP/1.1\r\nHost: h\r\n\r\n",
    "a method of 10,000 letters": b"G" * 10_000 + b" / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a target of 1 MiB": b"GET /" + b"a" * MIB + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "a header of 1 MiB": b"GET / HTTP/1.1\r\nHost: h\r\nx: " + b"a" * MIB + b"\r\n\r\n",
    "10,000 headers": b"GET / HTTP/1.1\r\nHost: h\r\n" + b"".join(b"x%d: y\r\n" % n for n in range(10_000)) + b"\r\n",
    "10,000 parameters": b"GET /b?" + b"&".join(b"a%d=b" % n for n in range(10_000)) + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "a head that never ends": b"GET / HTTP/1.1\r\nHost: h\r\n" + b"x: y\r\n" * 500_000,
}


@pytest.mark.parametrize("what", NOT_HTTP)
def test_what_is_hardly_http_is_refused(home, what):
    answer = answer_or_hangup(home, NOT_HTTP[what])
    assert answer is None or 400 <= answer.status <= 505, (answer.status, answer.body)
    assert answer is None or answer.status not in (500, 502, 503, 504), answer.body


def test_signed_path_that_is_no_utf8_is_refused(home, bucket, key):
    request = Request("PUT", f"/{bucket}/@@", headers={"Host": "h"}, body=b"x").sign(key)
    answer = send(home.address, request.bytes().replace(b"%40%40", b"%ff%fe"))
    assert 400 <= answer.status < 500 and answer.code


# Signatures.

def test_wrong_signatures(home, bucket, key):
    def ask(change):
        request = Request("PUT", f"/{bucket}/k", headers={"Host": "h"}, body=b"x").sign(key)
        change(request)
        answer = send(home.address, request.bytes())
        assert 400 <= answer.status < 500, answer.body
        return answer.code

    def authorization(old, new):
        def change(request):
            assert old in request.headers["Authorization"]
            request.headers["Authorization"] = request.headers["Authorization"].replace(old, new)
        return change

    def header(name, value):
        return lambda request: request.headers.__setitem__(name, value)

    malformed = {"AuthorizationHeaderMalformed", "InvalidArgument", "AccessDenied", "InvalidRequest"}
    assert ask(authorization("Signature=", "Signature=00")) in {"SignatureDoesNotMatch"} | malformed
    assert ask(lambda request: request.sign(Key(key.access_key, "wrong"))) == "SignatureDoesNotMatch"
    assert ask(lambda request: request.sign(Key("AKIAUNKNOWN000000000", "wrong"))) == "InvalidAccessKeyId"
    assert ask(lambda request: request.sign(Key("", ""))) in malformed | {"InvalidAccessKeyId"}
    assert ask(lambda request: request.sign(Key("x" * 5000, ""))) in malformed | {"InvalidAccessKeyId"}
    assert ask(lambda request: request.sign(Key(key.access_key, key.secret_key, "eu-west-9"))) == "AuthorizationHeaderMalformed"
    assert ask(header("Host", "other")) == "SignatureDoesNotMatch"
    assert ask(header("x-amz-meta-added", "later")) in {"AccessDenied", "SignatureDoesNotMatch"}, "every x-amz- header has to be signed"
    assert ask(lambda request: setattr(request, "path", f"/{bucket}/other")) == "SignatureDoesNotMatch"
    assert ask(lambda request: request.query.append(("a", "b"))) == "SignatureDoesNotMatch"
    assert ask(lambda request: setattr(request, "method", "POST")) in {"SignatureDoesNotMatch", "NotImplemented", "MethodNotAllowed", "InvalidRequest"}
    for old, new in (
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA512 "), ("AWS4-HMAC-SHA256 ", ""), ("Credential=", "Credentials="), ("/s3/", "/ec2/"),
        ("aws4_request", "aws5_request"), ("SignedHeaders=", "SignedHeaders=;;;"), ("SignedHeaders=host;", "SignedHeaders="),
        ("Signature=", "Nature="), (", ", " "), ("/us-east-1/", "/"), ("Credential=", "Credential=/"), ("Signature=", "Signature=" + "0" * 100_000),
        ("SignedHeaders=", "SignedHeaders=" + "a;" * 3000),
    ):
        assert ask(authorization(old, new)) in malformed | {"SignatureDoesNotMatch", "InvalidAccessKeyId", "MaxMessageLengthExceeded", None}, (old, new[:50])
    assert ask(header("Authorization", "AWS AKID:signature")) in malformed, "the signature version 2"
    assert ask(header("Authorization", "Basic dXNlcjpwYXNz")) in malformed
    assert ask(header("Authorization", "")) in malformed
    assert ask(header("x-amz-content-sha256", "nonsense")) in {"InvalidArgument", "XAmzContentSHA256Mismatch", "SignatureDoesNotMatch"}
    assert ask(lambda request: request.sign(key, "nonsense")) in {"InvalidArgument", "XAmzContentSHA256Mismatch"}
    assert ask(lambda request: request.headers.pop("x-amz-content-sha256")) in {"InvalidRequest", "MissingSecurityHeader", "SignatureDoesNotMatch", "AccessDenied"}
    assert ask(lambda request: request.headers.pop("x-amz-date")) in {"AccessDenied", "MissingSecurityHeader", "SignatureDoesNotMatch"}


def test_clock_skew(home, bucket, key):
    now = datetime.now(timezone.utc)

    def ask(**skew):
        request = Request("GET", f"/{bucket}", headers={"Host": "h"}).sign(key, when=now + timedelta(**skew))
        return send(home.address, request.bytes())

    for minutes in (-14, 0, 14):
        assert ask(minutes=minutes).status == 200
    for skew in ({"minutes": -16}, {"minutes": 16}, {"days": -3000}, {"days": 3000}):
        answer = ask(**skew)
        assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed")
    for nonsense in ("yesterday", "20260230T000000Z", "99999999T999999Z", "2026-11-22T00:00:00Z", "", "0" * 1000):
        request = Request("GET", f"/{bucket}", headers={"Host": "h"}).sign(key)
        request.headers["x-amz-date"] = nonsense
        answer = send(home.address, request.bytes())
        assert 400 <= answer.status < 500 and answer.code, nonsense


# XML.

BOMB = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
) + b"]><Delete><Object><Key>&j;</Key></Object></Delete>"

BROKEN_XML = {
    "nothing": b"",
    "no XML": b"this is not XML",
    "JSON": b'{"Delete": []}',
    "another document": b"<Other/>",
    "cut off": b"<Delete><Object><Key>there bef",
    "crossed ends": b"<Delete><Object><Key>x</Object></Key></Delete>",
    "two roots": b"<Delete></Delete><Delete></Delete>",
    "no entries": b"<Delete></Delete>",
    "an entry of nothing": b"<Delete><Object></Object></Delete>",
    "bytes that are no UTF-8": b"<Delete><Object><Key>\xff\xfe</Key></Object></Delete>",
    "UTF-16": "<Delete><Object><Key>there before</Key></Object></Delete>".encode("utf-16"),
    "an entity bomb": BOMB,
    "an outside entity": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&x;</Key></Object></Delete>',
    "an unknown entity": b"<Delete><Object><Key>&nothing;</Key></Object></Delete>",
    "a reference to no character": b"<Delete><Object><Key>&#x110000;</Key></Object></Delete>",
    "100,000 levels": b"<Delete>" * 100_000,
    "100,000 attributes": b"<Delete " + b"".join(b'a%d="b" ' % n for n in range(100_000)) + b"></Delete>",
    "an endless name": b"<" + b"D" * 500_000,
    "an endless comment": b"<Delete><!-- " + b"x" * 500_000,
    "an endless CDATA": b"<Delete><![CDATA[" + b"x" * 500_000,
}


@pytest.mark.parametrize("what", BROKEN_XML)
def test_broken_xml_is_refused(home, s3, bucket, key, what):
    """Each call that takes XML, with a body that is rightly signed and has the right digest."""
    body = BROKEN_XML[what]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x")
    for method, path, query in (
        ("POST", f"/{bucket}", [("delete", "")]), ("POST", f"/{bucket}/k", [("uploadId", upload)]),
        ("PUT", f"/{bucket}-xml", []),
    ):
        if method == "PUT" and not body:
            continue  # CreateBucket without a body is right.
        request = Request(method, path, query, {"Host": "h", "Content-MD5": md5_base64(body)}, body).sign(key)
        answer = send(home.address, request.bytes())
        assert answer.status == 400, (path, answer.status, answer.body)
        assert answer.code in {"MalformedXML", "MissingRequestBodyError", "MaxMessageLengthExceeded"}, (path, answer.body)
    with refused("404"):
        s3.head_bucket(Bucket=f"{bucket}-xml")
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)


def test_endless_xml_is_not_read_to_its_end(home, bucket, key):
    """A gigabyte of XML is announced; the refusal has to come long before it has all been sent."""
    headers = {"Host": "h", "Content-Length": str(1 << 30), "Content-MD5": md5_base64(b"")}
    request = Request("POST", f"/{bucket}", [("delete", "")], headers).sign(key, UNSIGNED)
    sent = 0
    with connect(home.address) as connection:
        connection.sendall(request.head() + b"<Delete>")
        connection.setblocking(False)
        deadline = time.monotonic() + 60
        while not select.select([connection], [], [], 0)[0] and sent < 256 * MIB and time.monotonic() < deadline:
            if select.select([], [connection], [], 1)[1]:
                with contextlib.suppress(BlockingIOError):
                    sent += connection.send(b"<Object><Key>x</Key></Object>" * 2000)
        connection.settimeout(30)
        answer = receive(connection)
    assert answer.status == 400 and answer.code in {"MalformedXML", "MaxMessageLengthExceeded", "EntityTooLarge"}
    assert sent < 128 * MIB


def test_digest_of_xml_is_checked(home, bucket, key):
    body = b"<Delete><Object><Key>there before</Key></Object></Delete>"
    for header, value, codes in (
        ("Content-MD5", md5_base64(b"other"), {"BadDigest"}), ("Content-MD5", "nonsense", {"InvalidDigest"}),
        ("x-amz-checksum-crc32", "AAAAAA==", {"BadDigest"}),
    ):
        request = Request("POST", f"/{bucket}", [("delete", "")], {"Host": "h", header: value}, body).sign(key)
        answer = send(home.address, request.bytes())
        assert (answer.status, answer.code in codes) == (400, True), (header, value, answer.body)


# Bodies.

@pytest.mark.parametrize("size", [1000, 50_000, MIB, 10 * MIB])
def test_truncated_body_stores_nothing(home, s3, bucket, key, size):
    for payload in (None, UNSIGNED):
        for cut in (0, 1, size // 2, size - 1):
            request = Request("PUT", f"/{bucket}/k", headers={"Host": "h"}, body=bytes_of(size)).sign(key, payload)
            answer = answer_or_hangup(home, request.head() + request.body[:cut])
            assert answer is None or answer.code in {"IncompleteBody", "RequestTimeout"}, answer.body
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")


def test_client_that_vanishes_stores_nothing(home, s3, bucket, key):
    request = Request("PUT", f"/{bucket}/k", headers={"Host": "h"}, body=bytes_of(20 * MIB)).sign(key)
    for cut in (0, 100, 5 * MIB, 20 * MIB - 1):
        connection = connect(home.address)
        connection.sendall(request.head() + request.body[:cut])
        # Closed with a reset instead of an orderly end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        connection.close()
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")


def test_bytes_behind_the_body_are_not_part_of_it(home, s3, bucket, key):
    request = Request("PUT", f"/{bucket}/k", headers={"Host": "h"}, body=b"12345").sign(key)
    with connect(home.address) as connection:
        connection.sendall(request.bytes() + b"and more that was not announced")
        assert receive(connection).status == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"12345"
    s3.delete_object(Bucket=bucket, Key="k")


def test_more_than_5_gib_is_refused_before_it_is_sent(home, s3, bucket, key):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    for query in ([], [("partNumber", "1"), ("uploadId", upload)]):
        for size in (5 * 1024 * MIB + 1, 2**63 - 1):
            request = Request("PUT", f"/{bucket}/k", query, {"Host": "h", "Content-Length": str(size)}).sign(key, UNSIGNED)
            with connect(home.address) as connection:
                connection.sendall(request.head() + bytes(1000))
                answer = receive(connection)
            assert (answer.status, answer.code) == (400, "EntityTooLarge")
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)


def test_part_numbers_that_are_none(home, s3, bucket, key):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    for number in ("0", "10001", "-1", "1.5", "x", "", "99999999999999999999", "+1", " 1"):
        request = Request("PUT", f"/{bucket}/k", [("partNumber", number), ("uploadId", upload)], {"Host": "h"}, b"x").sign(key)
        answer = send(home.address, request.bytes())
        assert (answer.status, answer.code) == (400, "InvalidArgument"), (number, answer.body)
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)


# Slow clients and many of them.

def test_slow_headers_are_cut_off_while_others_are_served(home, s3, bucket):
    """Slow-loris: a hundred connections send one byte of a header now and then, for ever."""
    slow = [connect(home.address) for _ in range(100)]
    for connection in slow:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nx-slow: ")
    begin = time.monotonic()
    open_still = list(slow)
    while open_still:
        s3.get_object(Bucket=bucket, Key="there before")["Body"].read()
        for connection in list(open_still):
            try:
                connection.send(b"a")
                if select.select([connection], [], [], 0)[0]:
                    open_still.remove(connection)  # An answer or the end: either way it was not waited for.
            except OSError:
                open_still.remove(connection)
        assert time.monotonic() - begin < 90, f"{len(open_still)} slow connections are still served"
        select.select([], [], [], 0.5)
    for connection in slow:
        connection.close()


def test_stalled_bodies_are_cut_off_while_others_are_served(home, s3, bucket, key):
    stalled = []
    for number in range(50):
        request = Request("PUT", f"/{bucket}/stalled{number}", headers={"Host": "h", "Content-Length": "10000000"}).sign(key, UNSIGNED)
        connection = connect(home.address, timeout=120)
        connection.sendall(request.head() + bytes(70_000))
        stalled.append(connection)
    s3.get_object(Bucket=bucket, Key="there before")["Body"].read()
    begin = time.monotonic()
    for connection in stalled:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            first = connection.recv(12)
            assert first[9:12] in (b"", b"400", b"408"), first
        connection.close()
    assert time.monotonic() - begin < 110


def test_2000_idle_connections_take_little_and_hinder_nobody(home, s3, bucket):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2500:
        pytest.skip(f"this user may open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2500), hard))
    before = home.resident_bytes("s3-frontend")
    idle = [connect(home.address) for _ in range(2000)]
    try:
        for connection in idle[::2]:
            connection.sendall(b"GET / HTTP/1.1\r\n")  # half of them have begun to speak
        times = []
        for _ in range(50):
            begin = time.monotonic()
            s3.put_object(Bucket=bucket, Key="there before", Body=b"1")
            assert s3.get_object(Bucket=bucket, Key="there before")["Body"].read() == b"1"
            times.append(time.monotonic() - begin)
        new = connect(home.address)
        new.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert receive(new).status == 403
        new.close()
        more = home.resident_bytes("s3-frontend") - before
        print(f"2,000 idle connections: {more / 2000 / 1024:.1f} KiB each; put and get took {sorted(times)[25] * 1000:.1f} ms")
        assert more < 64 * MIB
    finally:
        for connection in idle:
            connection.close()


def test_readers_that_do_not_read_take_bounded_memory(home, s3, bucket, key):
    """Forty clients ask for 64 MiB each and take nothing; sixteen more upload at once."""
    s3.put_object(Bucket=bucket, Key="large", Body=bytes_of(64 * MIB))
    before = home.resident_bytes("s3-frontend")
    request = Request("GET", f"/{bucket}/large", headers={"Host": "h"}).sign(key).bytes()
    lazy = [connect(home.address) for _ in range(40)]
    for connection in lazy:
        connection.sendall(request)
    highest = [before]
    failures = []

    def upload(number):
        try:
            for _ in range(3):
                s3.put_object(Bucket=bucket, Key=f"upload{number}", Body=bytes_of(20 * MIB, number))
                highest.append(home.resident_bytes("s3-frontend"))
        except Exception as error:  # noqa: BLE001 - reported below
            failures.append(error)

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    print(f"s3-frontend: {before // MIB} MiB before, at most {max(highest) // MIB} MiB meanwhile")
    assert max(highest) < FRONTEND_BYTES_MAX
    # They were promised their bytes all the same.
    assert hashlib.md5(receive(lazy[0]).body).digest() == hashlib.md5(bytes_of(64 * MIB)).digest()
    for connection in lazy:
        connection.close()
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "large"}, *({"Key": f"upload{number}"} for number in range(16))]})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into the descriptors of confined processes")
def test_clients_that_vanish_leave_no_descriptor_behind(home, s3, bucket, key):
    def descriptors():
        return {name: len(list(Path(f"/proc/{home.pid(name)}/fd").iterdir())) for name in ("s3-frontend", "block-store", "metadata")}

    s3.put_object(Bucket=bucket, Key="large", Body=bytes_of(30 * MIB))
    get = Request("GET", f"/{bucket}/large", headers={"Host": "h"}).sign(key).bytes()
    put = Request("PUT", f"/{bucket}/never", headers={"Host": "h"}, body=bytes_of(9 * MIB)).sign(key)

    def vanish(count):
        for number in range(count):
            connection = connect(home.address)
            connection.sendall(get if number % 2 else put.head() + put.body[:5 * MIB])
            if number % 2:
                connection.recv(1000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
            connection.close()

    vanish(20)  # Whatever is opened once and kept is open now.
    before = until(descriptors, 10, "descriptors")
    vanish(200)

    def as_before():
        now = descriptors()
        return all(now[name] <= before[name] + 4 for name in now)

    until(as_before, 60, f"as many descriptors as before: {before}, now {descriptors()}")
    s3.delete_object(Bucket=bucket, Key="large")


def test_small_parts_in_the_middle_are_refused_also_when_there_are_many(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"small")["ETag"]}
        for number in range(1, 51)
    ]
    with refused("EntityTooSmall", 400):
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
