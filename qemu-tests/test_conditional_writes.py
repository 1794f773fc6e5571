"""Writes on a condition are atomic: of many at once, exactly one succeeds."""

import threading
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from samples import INLINE_MAX, MIB, bytes_of, refused
from wire import Key, Request, md5_base64, send

WRITERS = 32
NO_ETAG = '"00000000000000000000000000000000"'
LOST = {"PreconditionFailed", "ConditionalRequestConflict"}
"""What AWS answers to those that come second: 412, or 409 while the first is still under way."""


def race(write):
    """Calls `write(number)` in 32 threads at once; gives the numbers of those that succeeded, and all other codes."""
    start = threading.Barrier(WRITERS)
    won, codes, failures = [], [], []

    def runner(number):
        start.wait()
        try:
            write(number)
            won.append(number)
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
        except Exception as error:  # noqa: BLE001 - reported by the assertion below, whatever it is
            failures.append(error)

    threads = [threading.Thread(target=runner, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert set(codes) <= LOST, codes
    return won


@pytest.mark.parametrize("size", [10, INLINE_MAX + 1, MIB])
def test_of_32_first_puts_one_succeeds(s3, bucket, size):
    for round in range(5):
        key = f"k{round}"
        won = race(lambda number: s3.put_object(Bucket=bucket, Key=key, Body=bytes_of(size, number), IfNoneMatch="*"))
        assert len(won) == 1, won
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == bytes_of(size, won[0])


@pytest.mark.parametrize("size", [10, INLINE_MAX + 1, MIB])
def test_of_32_replacements_one_succeeds(s3, bucket, size):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["ETag"]
    for round in range(5):
        seen = etag
        won = race(lambda number: s3.put_object(
            Bucket=bucket, Key="k", Body=bytes_of(size, f"{round} {number}"), IfMatch=seen,
        ))
        assert len(won) == 1, won
        got = s3.get_object(Bucket=bucket, Key="k")
        assert got["Body"].read() == bytes_of(size, f"{round} {won[0]}")
        etag = got["ETag"]


def test_of_32_completed_uploads_one_succeeds(s3, bucket):
    uploads = []
    for number in range(WRITERS):
        upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=bytes_of(20_000, number))
        uploads.append((upload, {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}))
    won = race(lambda number: s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=uploads[number][0], MultipartUpload=uploads[number][1], IfNoneMatch="*",
    ))
    assert len(won) == 1, won
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == bytes_of(20_000, won[0])


def test_counting_by_compare_and_swap_loses_nothing(s3, bucket):
    """Threads count up a number in an object; each success is one step."""
    s3.put_object(Bucket=bucket, Key="counter", Body=b"0")
    steps, threads_count = 10, 8

    def count():
        for _ in range(steps):
            while True:
                got = s3.get_object(Bucket=bucket, Key="counter")
                value = int(got["Body"].read())
                try:
                    s3.put_object(Bucket=bucket, Key="counter", Body=str(value + 1).encode(), IfMatch=got["ETag"])
                    break
                except ClientError as error:
                    assert error.response["Error"]["Code"] in LOST

    threads = [threading.Thread(target=count) for _ in range(threads_count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert s3.get_object(Bucket=bucket, Key="counter")["Body"].read() == str(steps * threads_count).encode()


def test_conditions_of_a_put(s3, bucket):
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfMatch='"00000000000000000000000000000000"')
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch='"00000000000000000000000000000000"')
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    s3.delete_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"3", IfNoneMatch="*")


def test_other_conditions_on_writes_are_not_ignored(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    with refused("NotImplemented", 501):
        s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfNoneMatch='"00000000000000000000000000000000"')
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"


def test_conditions_of_a_completion(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"first")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"second")
    finish = {"Bucket": bucket, "Key": "k", "UploadId": upload, "MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}}
    with refused("PreconditionFailed", 412):
        s3.complete_multipart_upload(**finish, IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.complete_multipart_upload(**finish, IfMatch='"00000000000000000000000000000000"')
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"
    etag = s3.head_object(Bucket=bucket, Key="k")["ETag"]
    s3.complete_multipart_upload(**finish, IfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"second"


def test_conditions_of_a_delete(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch=NO_ETAG)
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "ETag": NO_ETAG}]})
    assert [entry["Code"] for entry in done["Errors"]] == ["PreconditionFailed"]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    with refused("NoSuchKey", 404):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    with refused("PreconditionFailed", 412):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch="*")
    s3.put_object(Bucket=bucket, Key="k", Body=b"2")
    s3.delete_object(Bucket=bucket, Key="k", IfMatch="*")


def test_of_32_deletions_of_one_object_one_succeeds(s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    start, results = threading.Barrier(WRITERS), []

    def delete():
        start.wait()
        try:
            s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
            results.append("won")
        except ClientError as error:
            results.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=delete) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["NoSuchKey"] * (WRITERS - 1) + ["won"]


def test_of_32_copies_on_a_condition_one_succeeds(s3, bucket):
    for number in range(WRITERS):
        s3.put_object(Bucket=bucket, Key=f"source{number}", Body=bytes_of(200_000, number))
    won = race(lambda number: s3.copy_object(
        Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": f"source{number}"}, IfNoneMatch="*",
    ))
    assert len(won) == 1, won
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == bytes_of(200_000, won[0])


def test_conditions_of_a_copy_on_both_sides(s3, bucket):
    source = s3.put_object(Bucket=bucket, Key="source", Body=b"1")["ETag"]
    target = s3.put_object(Bucket=bucket, Key="k", Body=b"2")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="source")["LastModified"]
    copy = {"Bucket": bucket, "Key": "k", "CopySource": {"Bucket": bucket, "Key": "source"}}
    for conditions in (
        {"IfNoneMatch": "*"}, {"IfMatch": NO_ETAG}, {"CopySourceIfMatch": NO_ETAG}, {"CopySourceIfNoneMatch": source},
        {"CopySourceIfModifiedSince": modified}, {"CopySourceIfUnmodifiedSince": modified - timedelta(seconds=1)},
    ):
        with refused("PreconditionFailed", 412):
            s3.copy_object(**copy, **conditions)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"
    s3.copy_object(**copy, IfMatch=target, CopySourceIfMatch=source, CopySourceIfUnmodifiedSince=modified)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"


def test_delete_objects_wants_a_digest_of_its_document(home, s3, bucket):
    key = Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")

    def ask(headers):
        request = Request("POST", f"/{bucket}", [("delete", "")], {"Host": "h", **headers}, body).sign(key)
        return send(home.address, request.bytes())

    answer = ask({})
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert ask({"Content-MD5": md5_base64(b"other")}).code == "BadDigest"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"
    assert ask({"Content-MD5": md5_base64(body)}).status == 200
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")
