"""boto3: an object comes back as it was put, whole, in part, or not at all if a condition says so."""

import hashlib
from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError

from samples import CONTROL_KEYS, MIB, ODD_KEYS, PACKED_MAX, SIZES, bytes_of, refused


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back_as_they_were_put(s3, bucket, size):
    body = bytes_of(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'

    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert got["ContentLength"] == size
    assert got["ETag"] == put["ETag"]
    assert got["AcceptRanges"] == "bytes"

    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentLength"], head["ETag"]) == (size, put["ETag"])
    assert abs(head["LastModified"] - datetime.now(timezone.utc)) < timedelta(minutes=5)


@pytest.mark.parametrize("key", ODD_KEYS + CONTROL_KEYS, ids=ascii)
def test_any_utf8_key_is_kept_exactly(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_key_of_1025_bytes_is_too_long(s3, bucket):
    for key in ("x" * 1025, "ü" * 512 + "x"):
        with refused("KeyTooLongError", 400):
            s3.put_object(Bucket=bucket, Key=key, Body=b"")


def test_overwriting_replaces_bytes_and_metadata(s3, bucket):
    for size in (PACKED_MAX + 1, 10, 5 * MIB, 0, 20_000):
        s3.put_object(Bucket=bucket, Key="k", Body=bytes_of(size), Metadata={"size": str(size)})
        got = s3.get_object(Bucket=bucket, Key="k")
        assert (got["Body"].read(), got["Metadata"]) == (bytes_of(size), {"size": str(size)})


def test_deleting_is_final_and_repeatable(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.delete_object(Bucket=bucket, Key="k")
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")
    s3.delete_object(Bucket=bucket, Key="k")


def test_unknown_bucket_is_said_so(s3):
    for call in (s3.get_object, s3.put_object, s3.delete_object):
        with refused("NoSuchBucket", 404):
            call(Bucket="nobody-made-this", Key="k")
    with refused("404"):
        s3.head_object(Bucket="nobody-made-this", Key="k")


# Parts of an object.

RANGES = [
    ("bytes=0-0", 0, 0), ("bytes=1-", 1, None), ("bytes=-1", -1, None), ("bytes=0-", 0, None), ("bytes=-99999999999", 0, None),
    ("bytes=0-99999999999", 0, None), ("bytes=4194303-4194304", 4194303, 4194304), ("bytes=8191-8192", 8191, 8192),
    ("bytes=4194304-8388607", 4194304, 8388607), ("bytes=100-9000000", 100, 9000000),
]


@pytest.mark.parametrize("size", [9 * MIB + 5, 40_000, 5_000])
def test_ranges_give_exactly_these_bytes(s3, bucket, size):
    body = bytes_of(size)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    for text, first, last in RANGES:
        if first >= size:
            continue
        expected = body[first:] if last is None else body[first:last + 1]
        got = s3.get_object(Bucket=bucket, Key="k", Range=text)
        assert got["Body"].read() == expected, text
        begin = size - len(expected) if first < 0 else first
        assert got["ContentRange"] == f"bytes {begin}-{begin + len(expected) - 1}/{size}"
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert s3.head_object(Bucket=bucket, Key="k", Range=text)["ContentLength"] == len(expected)


def test_range_behind_the_end_is_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    for key, text in (("k", "bytes=5-"), ("k", "bytes=99-100"), ("k", "bytes=-0"), ("empty", "bytes=0-")):
        with refused("InvalidRange", 416):
            s3.get_object(Bucket=bucket, Key=key, Range=text)


def test_nonsense_range_is_no_range(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    for text in ("bytes=3-1", "lines=0-1", "bytes=a-b", "bytes="):
        got = s3.get_object(Bucket=bucket, Key="k", Range=text)
        assert (got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()) == (200, b"12345"), text


# Conditional reads.

def test_conditional_reads(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"body")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    before, after = modified - timedelta(hours=1), modified + timedelta(seconds=1)
    other = '"0123456789abcdef0123456789abcdef"'

    def status(**conditions):
        answers = []
        for call in (s3.get_object, s3.head_object):
            try:
                answers.append(call(Bucket=bucket, Key="k", **conditions)["ResponseMetadata"]["HTTPStatusCode"])
            except ClientError as error:
                answers.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert answers[0] == answers[1], "GET and HEAD differ"
        return answers[0]

    assert status(IfMatch=etag) == 200
    assert status(IfMatch="*") == 200
    assert status(IfMatch=other) == 412
    assert status(IfNoneMatch=etag) == 304
    assert status(IfNoneMatch="*") == 304
    assert status(IfNoneMatch=other) == 200
    assert status(IfModifiedSince=before) == 200
    assert status(IfModifiedSince=modified) == 304
    assert status(IfUnmodifiedSince=after) == 200
    assert status(IfUnmodifiedSince=before) == 412
    # By RFC 9110, and AWS says the same: the entity tags decide where both are given.
    assert status(IfMatch=etag, IfUnmodifiedSince=before) == 200
    assert status(IfNoneMatch=etag, IfModifiedSince=before) == 304
    assert status(IfNoneMatch=other, IfModifiedSince=modified) == 200


# Metadata and headers.

STANDARD_HEADERS = {
    "ContentType": "text/plain; charset=utf-8", "CacheControl": "max-age=60, public", "ContentEncoding": "gzip",
    "ContentDisposition": 'attachment; filename="a b.txt"', "ContentLanguage": "de-CH",
}


def test_headers_and_metadata_come_back(s3, bucket):
    metadata = {"one": "1", "with-dash": "a  b", "empty": "", "long": "x" * 1000}
    expires = datetime(2031, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata, Expires=expires, **STANDARD_HEADERS)
    for answer in (s3.head_object(Bucket=bucket, Key="k"), s3.get_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in STANDARD_HEADERS} == STANDARD_HEADERS
        assert answer["ExpiresString"] == "Thu, 02 Jan 2031 03:04:05 GMT"
        assert {name: " ".join(value.split()) for name, value in answer["Metadata"].items()} == metadata | {"with-dash": "a b"}


def test_type_of_nothing_in_particular(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "binary/octet-stream"


def test_metadata_is_at_most_2_kib(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 2000})
    with refused("MetadataTooLarge", 400):
        s3.put_object(Bucket=bucket, Key="too-much", Body=b"", Metadata={"a": "x" * 2048})
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="too-much")


def test_response_headers_can_be_chosen(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    got = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="image/png", ResponseCacheControl="no-cache",
        ResponseContentDisposition="inline", ResponseContentEncoding="br", ResponseContentLanguage="fr",
    )
    assert (got["ContentType"], got["CacheControl"], got["ContentDisposition"]) == ("image/png", "no-cache", "inline")
    assert (got["ContentEncoding"], got["ContentLanguage"]) == ("br", "fr")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == "text/plain"


# Many at once.

def test_delete_objects(s3, bucket):
    keys = [f"k{number:04}" for number in range(1000)]
    for key in keys[::100]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.put_object(Bucket=bucket, Key="stays", Body=b"x")
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    # Objects that never were are reported as deleted, too.
    assert sorted(entry["Key"] for entry in done["Deleted"]) == keys
    assert "Errors" not in done
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["stays"]


def test_delete_objects_with_odd_keys_quietly(s3, bucket):
    keys = [key for key in ODD_KEYS if "\r" not in key]  # boto3 writes a bare CR into its XML, and XML reads it as LF.
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
    assert "Deleted" not in done and "Errors" not in done
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_delete_objects_takes_at_most_1000(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k0", Body=b"x")
    with refused("MalformedXML", 400):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"k{number}"} for number in range(1001)]})
    s3.head_object(Bucket=bucket, Key="k0")


def test_upload_of_unknown_length_by_chunked_transfer(home, s3, bucket):
    """HTTP's own chunks (curl -T -): AWS wants a length beforehand, so must we say so instead of storing nothing."""
    from wire import UNSIGNED, Key, Request, send

    key = Key(home.ready["access_key"], home.ready["secret_key"])
    request = Request("PUT", f"/{bucket}/k", headers={"Host": "h", "Transfer-Encoding": "chunked"}).sign(key, UNSIGNED)
    answer = send(home.address, request.head() + b"5\r\nhello\r\n0\r\n\r\n")
    assert (answer.status, answer.code) == (411, "MissingContentLength")


def test_objects_are_listed_newest_state_after_each_write(s3, bucket):
    for round in range(5):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x" * round)
        (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
        assert entry["Size"] == round
