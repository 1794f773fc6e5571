"""CopyObject: the same bytes under another name, with the old metadata or with new."""

from datetime import timedelta

import pytest

from samples import MIB, ODD_KEYS, SIZES, bytes_of, refused
from wire import Key, Request, send


@pytest.fixture
def other_bucket(s3, bucket):
    s3.create_bucket(Bucket=f"{bucket}-other")
    return f"{bucket}-other"


@pytest.mark.parametrize("size", SIZES)
def test_copy_outlives_its_source(s3, bucket, other_bucket, size):
    body = bytes_of(size)
    etag = s3.put_object(Bucket=bucket, Key="source", Body=body)["ETag"]
    for where in (bucket, other_bucket):
        done = s3.copy_object(Bucket=where, Key="copy", CopySource={"Bucket": bucket, "Key": "source"})
        assert done["CopyObjectResult"]["ETag"] == etag
    s3.delete_object(Bucket=bucket, Key="source")
    for where in (bucket, other_bucket):
        assert s3.get_object(Bucket=where, Key="copy")["Body"].read() == body


def test_copy_of_a_multipart_object(s3, bucket, other_bucket):
    bodies = [bytes_of(5 * MIB), bytes_of(6 * MIB, 1)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="source")["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(Bucket=bucket, Key="source", UploadId=upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    s3.complete_multipart_upload(Bucket=bucket, Key="source", UploadId=upload, MultipartUpload={"Parts": parts})
    for where in (bucket, other_bucket):
        s3.copy_object(Bucket=where, Key="copy", CopySource={"Bucket": bucket, "Key": "source"})
    s3.delete_object(Bucket=bucket, Key="source")
    for where in (bucket, other_bucket):
        assert s3.get_object(Bucket=where, Key="copy")["Body"].read() == b"".join(bodies)
        assert s3.get_object(Bucket=where, Key="copy", Range="bytes=5242870-5242890")["Body"].read() == b"".join(bodies)[5242870:5242891]


def test_metadata_is_copied_or_replaced(s3, bucket):
    source = {"Bucket": bucket, "Key": "source"}
    s3.put_object(**source, Body=b"x", ContentType="text/old", CacheControl="no-cache", Metadata={"old": "1"})
    s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    kept = s3.head_object(Bucket=bucket, Key="kept")
    assert (kept["ContentType"], kept["CacheControl"], kept["Metadata"]) == ("text/old", "no-cache", {"old": "1"})
    # New headers beside COPY change nothing.
    s3.copy_object(Bucket=bucket, Key="kept", CopySource=source, MetadataDirective="COPY", ContentType="text/new", Metadata={"new": "2"})
    kept = s3.head_object(Bucket=bucket, Key="kept")
    assert (kept["ContentType"], kept["Metadata"]) == ("text/old", {"old": "1"})

    s3.copy_object(Bucket=bucket, Key="new", CopySource=source, MetadataDirective="REPLACE", ContentType="text/new", Metadata={"new": "2"})
    new = s3.head_object(Bucket=bucket, Key="new")
    assert (new["ContentType"], new["Metadata"]) == ("text/new", {"new": "2"})
    assert "CacheControl" not in new
    with refused("InvalidArgument", 400):
        s3.copy_object(Bucket=bucket, Key="bad", CopySource=source, MetadataDirective="MAYBE")


def test_copy_onto_itself_needs_a_change(s3, bucket):
    source = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**source, Body=bytes_of(100_000), Metadata={"old": "1"})
    with refused("InvalidRequest", 400):
        s3.copy_object(**source, CopySource=source)
    s3.copy_object(**source, CopySource=source, MetadataDirective="REPLACE", Metadata={"new": "2"})
    got = s3.get_object(**source)
    assert (got["Body"].read(), got["Metadata"]) == (bytes_of(100_000), {"new": "2"})


@pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
def test_source_of_any_name(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    s3.copy_object(Bucket=bucket, Key="the copy", CopySource={"Bucket": bucket, "Key": key})
    assert s3.get_object(Bucket=bucket, Key="the copy")["Body"].read() == key.encode()


def test_source_is_encoded_in_any_way(home, s3, bucket):
    key = Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])
    s3.put_object(Bucket=bucket, Key="a b/ü", Body=b"x")
    for source in (f"/{bucket}/a%20b/%C3%BC", f"{bucket}/a%20b/%C3%BC", f"{bucket}%2Fa%20b%2F%C3%BC", f"/{bucket}/a b/%c3%bc"):
        request = Request("PUT", f"/{bucket}/copy", headers={"Host": "h", "x-amz-copy-source": source}).sign(key)
        answer = send(home.address, request.bytes())
        assert answer.status == 200, (source, answer.body)


def test_missing_sources(s3, bucket):
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "missing"})
    with refused("NoSuchBucket", 404):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": "nobody-made-this", "Key": "k"})
    for source in ("", "no-slash", "/", f"{bucket}/"):
        with refused("InvalidArgument", 400):
            s3.copy_object(Bucket=bucket, Key="copy", CopySource=source)
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="copy")


def test_conditions_on_the_source(s3, bucket):
    source = {"Bucket": bucket, "Key": "source"}
    etag = s3.put_object(**source, Body=b"x")["ETag"]
    modified = s3.head_object(**source)["LastModified"]
    before, after = modified - timedelta(hours=1), modified + timedelta(seconds=1)
    copy = {"Bucket": bucket, "Key": "copy", "CopySource": source}
    for wrong in (
        {"CopySourceIfMatch": '"00"'}, {"CopySourceIfNoneMatch": etag}, {"CopySourceIfModifiedSince": modified},
        {"CopySourceIfUnmodifiedSince": before},
    ):
        with refused("PreconditionFailed", 412):
            s3.copy_object(**copy, **wrong)
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="copy")
    for right in (
        {"CopySourceIfMatch": etag}, {"CopySourceIfNoneMatch": '"00"'}, {"CopySourceIfModifiedSince": before},
        {"CopySourceIfUnmodifiedSince": after}, {"CopySourceIfMatch": etag, "CopySourceIfUnmodifiedSince": before},
    ):
        s3.copy_object(**copy, **right)


def test_checksum_goes_along(s3, bucket):
    source = {"Bucket": bucket, "Key": "source"}
    put = s3.put_object(**source, Body=bytes_of(50_000), ChecksumAlgorithm="SHA256")
    done = s3.copy_object(Bucket=bucket, Key="copy", CopySource=source)
    assert done["CopyObjectResult"]["ChecksumSHA256"] == put["ChecksumSHA256"]
    assert s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")["ChecksumSHA256"] == put["ChecksumSHA256"]
