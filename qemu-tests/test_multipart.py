"""Multipart uploads: the object appears whole at completion, and only out of the parts that were listed."""

import hashlib
import threading

import pytest

from samples import MIB, PART_MIN, bytes_of, refused


def begin(s3, bucket, key="k", **more):
    return s3.create_multipart_upload(Bucket=bucket, Key=key, **more)["UploadId"]


def add(s3, bucket, upload, number, body, key="k"):
    """Uploads a part and gives its entry in the list for completion."""
    part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)
    assert part["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    return {"PartNumber": number, "ETag": part["ETag"]}


def finish(s3, bucket, upload, parts, key="k", **more):
    return s3.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, **more,
    )


def etag_of_parts(bodies):
    digests = b"".join(hashlib.md5(body).digest() for body in bodies)
    return f'"{hashlib.md5(digests).hexdigest()}-{len(bodies)}"'


def test_parts_become_one_object(s3, bucket):
    bodies = [bytes_of(PART_MIN), bytes_of(9 * MIB + 1, 1), bytes_of(100, 2)]
    upload = begin(s3, bucket, ContentType="text/x", Metadata={"a": "b"})
    # In any order, with gaps between the numbers, and one of them twice.
    add(s3, bucket, upload, 7, b"to be replaced")
    parts = {number: add(s3, bucket, upload, number, body) for number, body in [(900, bodies[2]), (2, bodies[0]), (7, bodies[1])]}
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")

    done = finish(s3, bucket, upload, [parts[2], parts[7], parts[900]])
    whole = b"".join(bodies)
    assert (done["ETag"], done["Bucket"], done["Key"]) == (etag_of_parts(bodies), bucket, "k")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == whole
    assert (got["ETag"], got["ContentType"], got["Metadata"]) == (done["ETag"], "text/x", {"a": "b"})
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (entry["Size"], entry["ETag"]) == (len(whole), done["ETag"])

    for first, last in [(0, 0), (PART_MIN - 1, PART_MIN), (len(whole) - 1, len(whole) - 1), (4 * MIB - 1, 12 * MIB)]:
        part = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={first}-{last}")
        assert part["Body"].read() == whole[first:last + 1]
    s3.delete_object(Bucket=bucket, Key="k")
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")


def test_one_part_of_an_object_can_be_read(s3, bucket):
    bodies = [bytes_of(PART_MIN), bytes_of(PART_MIN + 3, 1), bytes_of(17, 2)]
    upload = begin(s3, bucket)
    finish(s3, bucket, upload, [add(s3, bucket, upload, number, body) for number, body in enumerate(bodies, 1)])
    for number, body in enumerate(bodies, 1):
        got = s3.get_object(Bucket=bucket, Key="k", PartNumber=number)
        assert (got["Body"].read(), got["PartsCount"]) == (body, 3)
        assert s3.head_object(Bucket=bucket, Key="k", PartNumber=number)["ContentLength"] == len(body)
    with refused("InvalidPartNumber", 416):
        s3.get_object(Bucket=bucket, Key="k", PartNumber=4)


def test_upload_of_only_some_parts_leaves_the_others_out(s3, bucket):
    upload = begin(s3, bucket)
    add(s3, bucket, upload, 1, bytes_of(PART_MIN))
    second = add(s3, bucket, upload, 2, b"only this")
    finish(s3, bucket, upload, [second])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"only this"


def test_wrong_completions_are_refused_and_change_nothing(s3, bucket):
    upload = begin(s3, bucket)
    one = add(s3, bucket, upload, 1, bytes_of(PART_MIN))
    two = add(s3, bucket, upload, 2, bytes_of(PART_MIN, 1))
    three = add(s3, bucket, upload, 3, b"small")
    four = add(s3, bucket, upload, 4, b"end")
    with refused("InvalidPartOrder", 400):
        finish(s3, bucket, upload, [two, one])
    with refused("InvalidPartOrder", 400):
        finish(s3, bucket, upload, [one, one])
    with refused("InvalidPart", 400):
        finish(s3, bucket, upload, [one, two | {"ETag": one["ETag"]}])
    with refused("InvalidPart", 400):
        finish(s3, bucket, upload, [one, {"PartNumber": 5, "ETag": two["ETag"]}])
    with refused("EntityTooSmall", 400):
        finish(s3, bucket, upload, [one, three, four])
    with refused("MalformedXML", 400):
        finish(s3, bucket, upload, [])
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")
    finish(s3, bucket, upload, [one, two, four])
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == 2 * PART_MIN + 3


def test_part_numbers_are_1_to_10000(s3, bucket):
    upload = begin(s3, bucket)
    for number in (0, 10_001, -1, 2**31):
        with refused("InvalidArgument", 400):
            s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"x")
    last = add(s3, bucket, upload, 10_000, b"the last possible part")
    finish(s3, bucket, upload, [last])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"the last possible part"


def test_list_of_10001_parts_is_refused(s3, bucket):
    upload = begin(s3, bucket)
    etag = add(s3, bucket, upload, 1, b"x")["ETag"]
    with pytest.raises(s3.exceptions.ClientError) as caught:
        finish(s3, bucket, upload, [{"PartNumber": number, "ETag": etag} for number in range(1, 10_001)])
    assert caught.value.response["Error"]["Code"] in {"InvalidPart", "EntityTooSmall"}, "both are wrong with it"
    with pytest.raises(s3.exceptions.ClientError) as caught:
        finish(s3, bucket, upload, [{"PartNumber": number, "ETag": etag} for number in range(1, 10_002)])
    assert caught.value.response["Error"]["Code"] in {"MalformedXML", "InvalidArgument", "TooManyParts"}


def test_unknown_uploads(s3, bucket):
    wrong = {"Bucket": bucket, "Key": "k", "UploadId": "no-such-upload"}
    with refused("NoSuchUpload", 404):
        s3.upload_part(**wrong, PartNumber=1, Body=b"x")
    with refused("NoSuchUpload", 404):
        s3.complete_multipart_upload(**wrong, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": "x"}]})
    with refused("NoSuchUpload", 404):
        s3.abort_multipart_upload(**wrong)
    with refused("NoSuchUpload", 404):
        s3.list_parts(**wrong)
    # An upload belongs to its key.
    upload = begin(s3, bucket, "one-key")
    with refused("NoSuchUpload", 404):
        s3.upload_part(Bucket=bucket, Key="other-key", UploadId=upload, PartNumber=1, Body=b"x")


def test_aborted_upload_is_gone(s3, bucket):
    upload = begin(s3, bucket)
    part = add(s3, bucket, upload, 1, bytes_of(PART_MIN))
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    with refused("NoSuchUpload", 404):
        add(s3, bucket, upload, 2, b"x")
    with refused("NoSuchUpload", 404):
        finish(s3, bucket, upload, [part])
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")


def test_completion_may_be_repeated(s3, bucket):
    """A client whose connection broke cannot know whether the first one arrived."""
    upload = begin(s3, bucket)
    part = add(s3, bucket, upload, 1, b"x")
    first = finish(s3, bucket, upload, [part])
    assert finish(s3, bucket, upload, [part])["ETag"] == first["ETag"]


def test_parts_are_listed_in_pages(s3, bucket):
    upload = begin(s3, bucket)
    numbers = [1, 2, 3, 10, 100, 1000, 10_000]
    for number in reversed(numbers):
        add(s3, bucket, upload, number, b"x" * number)
    for page in (1, 2, 3, 1000):
        pages = s3.get_paginator("list_parts").paginate(
            Bucket=bucket, Key="k", UploadId=upload, PaginationConfig={"PageSize": page},
        )
        listed = [part for answer in pages for part in answer["Parts"]]
        assert [part["PartNumber"] for part in listed] == numbers
        assert [part["Size"] for part in listed] == numbers
        assert {part["ETag"] for part in listed} == {f'"{hashlib.md5(b"x" * number).hexdigest()}"' for number in numbers}


def test_uploads_are_listed_in_pages(s3, bucket):
    keys = ["a", "a", "a", "b/1", "b/2", "c d", "ü"]
    uploads = sorted((key, begin(s3, bucket, key)) for key in keys)
    for page in (1, 2, 1000):
        pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": page})
        listed = [(entry["Key"], entry["UploadId"]) for answer in pages for entry in answer.get("Uploads", [])]
        assert [key for key, _ in listed] == sorted(keys)
        assert sorted(listed) == uploads
    answer = s3.list_multipart_uploads(Bucket=bucket, Prefix="b/")
    assert [entry["Key"] for entry in answer["Uploads"]] == ["b/1", "b/2"]
    answer = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [entry["Prefix"] for entry in answer["CommonPrefixes"]] == ["b/"]
    assert [entry["Key"] for entry in answer["Uploads"]] == ["a", "a", "a", "c d", "ü"]


def test_parts_can_be_copied_from_objects(s3, bucket):
    source = bytes_of(11 * MIB)
    s3.put_object(Bucket=bucket, Key="source / ü", Body=source)
    s3.put_object(Bucket=bucket, Key="small", Body=b"small source")
    upload = begin(s3, bucket)
    copy = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    pieces = [
        ({"Bucket": bucket, "Key": "source / ü"}, f"bytes=0-{PART_MIN - 1}", source[:PART_MIN]),
        ({"Bucket": bucket, "Key": "source / ü"}, f"bytes=3-{6 * MIB}", source[3:6 * MIB + 1]),
        ({"Bucket": bucket, "Key": "source / ü"}, None, source),
        ({"Bucket": bucket, "Key": "small"}, "bytes=6-11", b"source"),
    ]
    parts = []
    for number, (where, piece, expected) in enumerate(pieces, 1):
        bounds = {"CopySourceRange": piece} if piece else {}
        done = s3.upload_part_copy(**copy, PartNumber=number, CopySource=where, **bounds)["CopyPartResult"]
        assert done["ETag"] == f'"{hashlib.md5(expected).hexdigest()}"'
        parts.append({"PartNumber": number, "ETag": done["ETag"]})
    finish(s3, bucket, upload, parts)
    s3.delete_object(Bucket=bucket, Key="source / ü")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"".join(expected for _, _, expected in pieces)


def test_wrong_part_copies_are_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="source", Body=b"12345")
    upload = begin(s3, bucket)
    copy = {"Bucket": bucket, "Key": "k", "UploadId": upload, "PartNumber": 1}
    for piece in ("bytes=0-5", "bytes=5-9", "bytes=3-1", "bytes=-2", "bytes=0-", "0-1", "nonsense"):
        with pytest.raises(s3.exceptions.ClientError) as caught:
            s3.upload_part_copy(**copy, CopySource={"Bucket": bucket, "Key": "source"}, CopySourceRange=piece)
        assert caught.value.response["Error"]["Code"] in {"InvalidArgument", "InvalidRange", "InvalidRequest"}, piece
    with refused("NoSuchKey", 404):
        s3.upload_part_copy(**copy, CopySource={"Bucket": bucket, "Key": "missing"})
    with refused("PreconditionFailed", 412):
        s3.upload_part_copy(**copy, CopySource={"Bucket": bucket, "Key": "source"}, CopySourceIfMatch='"00"')
    assert "Parts" not in s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)


def test_overwriting_a_multipart_object_while_it_is_read(s3, bucket):
    """A reader gets one version or the other, never a mixture, also across parts."""
    def put(seed):
        upload = begin(s3, bucket)
        bodies = [bytes_of(PART_MIN, seed), bytes_of(PART_MIN, seed + 1000)]
        finish(s3, bucket, upload, [add(s3, bucket, upload, number, body) for number, body in enumerate(bodies, 1)])

    versions = {hashlib.md5(bytes_of(PART_MIN, seed) + bytes_of(PART_MIN, seed + 1000)).digest() for seed in range(6)}
    put(0)
    done = threading.Event()
    seen, failures = [], []

    def read():
        while not done.is_set():
            try:
                seen.append(hashlib.md5(s3.get_object(Bucket=bucket, Key="k")["Body"].read()).digest())
            except Exception as error:  # noqa: BLE001 - reported by the assertion below
                failures.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for seed in range(1, 6):
        put(seed)
    done.set()
    for reader in readers:
        reader.join()
    assert not failures, failures
    assert set(seen) <= versions
