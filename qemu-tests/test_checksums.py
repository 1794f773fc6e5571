"""Checksums and the ways to sign a body: what fits is stored and given back, what does not is refused and not stored."""

import base64
import hashlib
import zlib

import pytest
from awscrt import checksums

from samples import KIB, MIB, PART_MIN, bytes_of, refused
from wire import (
    SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED, UNSIGNED_CHUNKS_TRAILER, Chunks, Key, Request, md5_base64, send,
)


def crc(number, size):
    return base64.b64encode(number.to_bytes(size, "big")).decode()


def digest(algorithm, data):
    return base64.b64encode(hashlib.new(algorithm, data).digest()).decode()


def xxhash(hasher, data):
    hasher.update(data)
    return base64.b64encode(hasher.finalize()).decode()


ALGORITHMS = {
    "CRC32": lambda data: crc(zlib.crc32(data), 4),
    "CRC32C": lambda data: crc(checksums.crc32c(data), 4),
    "CRC64NVME": lambda data: crc(checksums.crc64nvme(data), 8),
    "SHA1": lambda data: digest("sha1", data),
    "SHA256": lambda data: digest("sha256", data),
    "SHA512": lambda data: digest("sha512", data),
    "MD5": lambda data: digest("md5", data),
    "XXHASH64": lambda data: xxhash(checksums.XXHash.new_xxhash64(), data),
    "XXHASH3": lambda data: xxhash(checksums.XXHash.new_xxhash3_64(), data),
    "XXHASH128": lambda data: xxhash(checksums.XXHash.new_xxhash3_128(), data),
}


def asking(algorithm, body):
    """Has boto3 send a checksum of `body`; of MD5 it takes only the value."""
    return {"ChecksumMD5": ALGORITHMS["MD5"](body)} if algorithm == "MD5" else {"ChecksumAlgorithm": algorithm}


@pytest.fixture(scope="module")
def key(home):
    return Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])


@pytest.mark.parametrize("size", [0, 5000, 50_000, MIB + 1])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksum_is_kept_and_given_back(s3, bucket, algorithm, size):
    body = bytes_of(size)
    expected = ALGORITHMS[algorithm](body)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body, **asking(algorithm, body))
    assert put[f"Checksum{algorithm}"] == expected
    assert put["ChecksumType"] == "FULL_OBJECT"
    # boto3 itself compares the bytes with the checksum while it reads.
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == body
    assert got[f"Checksum{algorithm}"] == expected
    assert s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")[f"Checksum{algorithm}"] == expected
    assert f"Checksum{algorithm}" not in s3.head_object(Bucket=bucket, Key="k")
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert entry["ChecksumAlgorithm"] == [algorithm]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_wrong_checksum_stores_nothing(s3, bucket, algorithm):
    wrong = ALGORITHMS[algorithm](b"something else")
    with refused("BadDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"body", **{f"Checksum{algorithm}": wrong})
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")


def test_wrong_md5_stores_nothing(s3, bucket):
    with refused("BadDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"body", ContentMD5=md5_base64(b"other"))
    with refused("InvalidDigest", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"body", ContentMD5="not base64!")
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"body", ContentMD5=md5_base64(b"body"))


def test_checksum_that_is_none_is_refused(s3, bucket):
    for value in ("AAAA", "not base64!", ""):
        with refused("InvalidRequest", 400):
            s3.put_object(Bucket=bucket, Key="k", Body=b"body", ChecksumCRC32=value)


# Bodies in chunks, as SDKs send them over TLS; here signed by hand.

@pytest.mark.parametrize("size", [0, 1, 8 * KIB, 100_000, MIB + 3, 5 * MIB])
@pytest.mark.parametrize("way", [SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER])
def test_chunked_body_is_stored_without_its_chunks(home, s3, bucket, key, way, size):
    body = bytes_of(size)
    answer = put_in_chunks(home, bucket, key, way, body)
    assert answer.status == 200, answer.body
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert got.get("ContentEncoding", "") == "", "aws-chunked is not part of the object"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("way", [SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER])
def test_trailing_checksum_is_kept(home, s3, bucket, key, way, algorithm):
    body = bytes_of(100_000)
    answer = put_in_chunks(home, bucket, key, way, body, algorithm=algorithm)
    assert answer.status == 200, answer.body
    assert answer.headers[f"x-amz-checksum-{algorithm.lower()}"] == ALGORITHMS[algorithm](body)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == body
    assert got[f"Checksum{algorithm}"] == ALGORITHMS[algorithm](body)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("way", [SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER])
def test_wrong_trailing_checksum_stores_nothing(home, s3, bucket, key, way, algorithm):
    wrong = ALGORITHMS[algorithm](b"other bytes")
    answer = put_in_chunks(home, bucket, key, way, bytes_of(100_000), algorithm=algorithm, value=wrong)
    assert (answer.status, answer.code) == (400, "BadDigest")
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")


def test_real_content_encoding_is_kept_beside_aws_chunked(home, s3, bucket, key):
    answer = put_in_chunks(home, bucket, key, SIGNED_CHUNKS, b"x", **{"Content-Encoding": "aws-chunked,gzip"})
    assert answer.status == 200, answer.body
    assert s3.head_object(Bucket=bucket, Key="k")["ContentEncoding"] == "gzip"


BROKEN_CHUNKS = {
    "a changed byte": (lambda body: body[:1000] + bytes([body[1000] ^ 1]) + body[1001:], {"SignatureDoesNotMatch"}),
    "a byte too many": (lambda body: body.replace(b"\r\n", b"\r\nX", 1), {"SignatureDoesNotMatch", "InvalidRequest"}),
    "a changed signature": (lambda body: body.replace(b"signature=", b"signature=0", 1), {"SignatureDoesNotMatch", "InvalidRequest", "IncompleteBody"}),
    "no last chunk": (lambda body: body[:body.rindex(b"0;chunk-signature")], {"IncompleteBody", "InvalidRequest"}),
    "no chunks at all": (lambda body: b"plain bytes that are no chunks" * 10, {"InvalidRequest", "IncompleteBody", "SignatureDoesNotMatch"}),
    "a size that is no number": (lambda body: b"zz" + body[2:], {"InvalidRequest", "IncompleteBody"}),
    "an endless size": (lambda body: b"f" * 200 + body, {"InvalidRequest", "IncompleteBody"}),
    "a size near 2 to the 64": (lambda body: b"ffffffffffffffff" + body[body.index(b";"):], {"InvalidRequest", "IncompleteBody", "EntityTooLarge"}),
    "an endless chunk head": (lambda body: b"5;" + b"x" * 100_000, {"InvalidRequest", "IncompleteBody"}),
}


@pytest.mark.parametrize("how", BROKEN_CHUNKS)
def test_broken_chunks_store_nothing(home, s3, bucket, key, how):
    breaks, codes = BROKEN_CHUNKS[how]
    answer = put_in_chunks(home, bucket, key, SIGNED_CHUNKS, bytes_of(200_000), breaks=breaks)
    assert 400 <= answer.status < 500 and answer.code in codes, (answer.status, answer.body)
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")


def test_decoded_length_has_to_be_right(home, s3, bucket, key):
    for claimed in ("99999", "100001", "-1", "x", ""):
        answer = put_in_chunks(home, bucket, key, SIGNED_CHUNKS, bytes_of(100_000), **{"x-amz-decoded-content-length": claimed})
        assert 400 <= answer.status < 500, (claimed, answer.status, answer.body)
        with refused("404"):
            s3.head_object(Bucket=bucket, Key="k")


def test_announced_trailer_has_to_come(home, s3, bucket, key):
    request = chunked_request(bucket, key, UNSIGNED_CHUNKS_TRAILER, 5, **{"x-amz-trailer": "x-amz-checksum-crc32"})
    answer = send_chunks(home, request, Chunks(request, key, signed=False).body(b"hello"))
    assert answer.code in {"MalformedTrailerError", "InvalidRequest", "IncompleteBody"}, (answer.status, answer.body)
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")


def chunked_request(bucket, key, way, size, **more):
    return Request("PUT", f"/{bucket}/k", headers={
        "Host": "localhost", "Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": str(size), **more,
    }).sign(key, way)


def send_chunks(home, request, body):
    request.headers["Content-Length"] = str(len(body))
    return send(home.address, request.head() + body)


def put_in_chunks(home, bucket, key, way, body, algorithm=None, value=None, breaks=lambda body: body, **more):
    """Puts `body` as `/bucket/k` in chunks of 64 KiB."""
    trailer = None
    if way != SIGNED_CHUNKS:
        algorithm = algorithm or "CRC32"
        trailer = (f"x-amz-checksum-{algorithm.lower()}", value or ALGORITHMS[algorithm](body))
        more["x-amz-trailer"] = trailer[0]
    request = chunked_request(bucket, key, way, len(body), **more)
    chunks = Chunks(request, key, signed=way != UNSIGNED_CHUNKS_TRAILER)
    return send_chunks(home, request, breaks(chunks.body(body, trailer=trailer)))


def test_unsigned_body_is_stored_as_it_is(home, s3, bucket, key):
    body = bytes_of(300_000)
    answer = send(home.address, Request("PUT", f"/{bucket}/k", headers={"Host": "h"}, body=body).sign(key, UNSIGNED).bytes())
    assert answer.status == 200, answer.body
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_signed_body_that_was_changed_on_the_way_is_refused(home, s3, bucket, key):
    for size in (10, 100_000, 5 * MIB):
        request = Request("PUT", f"/{bucket}/k", headers={"Host": "h"}, body=bytes_of(size)).sign(key)
        request.body = bytes_of(size, seed=1)
        answer = send(home.address, request.bytes())
        assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
        with refused("404"):
            s3.head_object(Bucket=bucket, Key="k")


# Checksums of multipart uploads.

@pytest.mark.parametrize("algorithm", [algorithm for algorithm in ALGORITHMS if algorithm != "CRC64NVME"])
def test_composite_checksum_is_that_of_the_parts_checksums(s3, bucket, algorithm):
    bodies = [bytes_of(PART_MIN), bytes_of(PART_MIN, 1), b"end"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm)["UploadId"]
    field = f"Checksum{algorithm}"
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body, **asking(algorithm, body))
        assert part[field] == ALGORITHMS[algorithm](body)
        parts.append({"PartNumber": number, "ETag": part["ETag"], field: part[field]})
    done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    expected = ALGORITHMS[algorithm](b"".join(base64.b64decode(part[field]) for part in parts)) + "-3"
    assert (done[field], done["ChecksumType"]) == (expected, "COMPOSITE")
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"".join(bodies)
    assert (got[field], got["ChecksumType"]) == (expected, "COMPOSITE")


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_full_object_checksum_of_parts_is_that_of_the_bytes(s3, bucket, algorithm):
    bodies = [bytes_of(PART_MIN), bytes_of(PART_MIN + 1, 1), b"end"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")["UploadId"]
    field = f"Checksum{algorithm}"
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
        parts.append({"PartNumber": number, "ETag": part["ETag"], field: part[field]})
    whole = b"".join(bodies)
    with refused("BadDigest", 400):
        s3.complete_multipart_upload(
            Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts},
            ChecksumType="FULL_OBJECT", **{field: ALGORITHMS[algorithm](b"other")},
        )
    done = s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts},
        ChecksumType="FULL_OBJECT", **{field: ALGORITHMS[algorithm](whole)},
    )
    assert (done[field], done["ChecksumType"]) == (ALGORITHMS[algorithm](whole), "FULL_OBJECT")
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == whole
    assert (got[field], got["ChecksumType"]) == (done[field], "FULL_OBJECT")


def test_part_with_a_wrong_checksum_is_not_stored(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32")["UploadId"]
    with refused("BadDigest", 400):
        s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x", ChecksumCRC32=ALGORITHMS["CRC32"](b"y"))
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)
