"""RenameObject: another key in one step, on conditions, and harmless to repeat."""

import threading

import pytest
from botocore.exceptions import ClientError

from samples import MIB, SIZES, bytes_of, keys_of, refused
from wire import Key, Request, send

NO_ETAG = '"00000000000000000000000000000000"'


@pytest.mark.parametrize("size", SIZES)
def test_a_renamed_object_is_the_same_under_its_new_key_alone(s3, bucket, size):
    body = bytes_of(size)
    s3.put_object(Bucket=bucket, Key="old", Body=body, Metadata={"m": "1"}, Tagging="t=1", ContentType="text/x")
    before = s3.head_object(Bucket=bucket, Key="old")
    s3.rename_object(Bucket=bucket, Key="new", RenameSource="old")
    answer = s3.get_object(Bucket=bucket, Key="new")
    assert answer["Body"].read() == body
    for name in ("ETag", "LastModified", "Metadata", "ContentType"):
        assert answer[name] == before[name]
    assert answer["TagCount"] == 1
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="old")
    assert keys_of(s3.list_objects_v2(Bucket=bucket)) == ["new"]


def test_an_object_of_parts_is_renamed(s3, bucket):
    bodies = [bytes_of(5 * MIB), bytes_of(MIB, 1)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="old")["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(Bucket=bucket, Key="old", UploadId=upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    s3.complete_multipart_upload(Bucket=bucket, Key="old", UploadId=upload, MultipartUpload={"Parts": parts})
    s3.put_object(Bucket=bucket, Key="new", Body=bytes_of(200_000))
    s3.rename_object(Bucket=bucket, Key="new", RenameSource="old")
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"".join(bodies)


def test_sources_are_url_encoded_keys(home, s3, bucket):
    key = Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])
    for number, (name, header) in enumerate([
        ("a b", "a%20b"), ("ü/ö", "%C3%BC/%C3%B6"), ("a+b", "a+b"), ("a%b", "a%25b"), ("with/bucket", f"/{bucket}/with/bucket"),
    ]):
        s3.put_object(Bucket=bucket, Key=name, Body=name.encode())
        request = Request("PUT", f"/{bucket}/new{number}", [("renameObject", "")], {"Host": "h", "x-amz-rename-source": header})
        assert send(home.address, request.sign(key).bytes()).status == 200, header
        assert s3.get_object(Bucket=bucket, Key=f"new{number}")["Body"].read() == name.encode()
    for header in ("", "%zz", "/", f"/{bucket}/"):
        request = Request("PUT", f"/{bucket}/x", [("renameObject", "")], {"Host": "h", "x-amz-rename-source": header})
        answer = send(home.address, request.sign(key).bytes())
        assert (answer.status, answer.code) in ((400, "InvalidArgument"), (404, "NoSuchKey")), header


def test_conditions_of_a_rename(s3, bucket):
    source = s3.put_object(Bucket=bucket, Key="old", Body=b"1")["ETag"]
    target = s3.put_object(Bucket=bucket, Key="new", Body=b"22")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="old")["LastModified"]
    for conditions in (
        {"SourceIfMatch": NO_ETAG}, {"SourceIfNoneMatch": source}, {"SourceIfNoneMatch": "*"}, {"SourceIfModifiedSince": modified},
        {"DestinationIfMatch": NO_ETAG}, {"DestinationIfNoneMatch": "*"}, {"DestinationIfNoneMatch": target},
    ):
        with refused("PreconditionFailed", 412):
            s3.rename_object(Bucket=bucket, Key="new", RenameSource="old", **conditions)
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"22"
    s3.rename_object(
        Bucket=bucket, Key="new", RenameSource="old", SourceIfMatch=source, SourceIfUnmodifiedSince=modified, DestinationIfMatch=target,
    )
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == b"1"
    with refused("NoSuchKey", 404):
        s3.rename_object(Bucket=bucket, Key="new", RenameSource="old")


def test_a_rename_repeated_with_its_token_succeeds(s3, bucket):
    s3.put_object(Bucket=bucket, Key="old", Body=b"1")
    for _ in range(3):
        s3.rename_object(Bucket=bucket, Key="new", RenameSource="old", ClientToken="t1")
    with refused("IdempotencyParameterMismatch", 400):
        s3.rename_object(Bucket=bucket, Key="new", RenameSource="other", ClientToken="t1")
    with refused("NoSuchKey", 404):
        s3.rename_object(Bucket=bucket, Key="new", RenameSource="old", ClientToken="t2")


def test_of_32_renames_to_one_key_one_succeeds(s3, bucket):
    for number in range(32):
        s3.put_object(Bucket=bucket, Key=f"old{number}", Body=str(number).encode())
    start, won, codes = threading.Barrier(32), [], []

    def rename(number):
        start.wait()
        try:
            s3.rename_object(Bucket=bucket, Key="new", RenameSource=f"old{number}", DestinationIfNoneMatch="*")
            won.append(number)
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=rename, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and codes == ["PreconditionFailed"] * 31
    assert s3.get_object(Bucket=bucket, Key="new")["Body"].read() == str(won[0]).encode()
    assert len(keys_of(s3.list_objects_v2(Bucket=bucket))) == 32


def test_a_rename_is_never_seen_half_done(s3, bucket):
    """At every moment exactly one of the keys is there: listings, which are one read, say so."""
    s3.put_object(Bucket=bucket, Key="a", Body=b"x")
    stop = threading.Event()
    seen = []

    def look():
        while not stop.is_set():
            seen.append(tuple(keys_of(s3.list_objects_v2(Bucket=bucket))))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(60):
        one, other = ("a", "b") if number % 2 == 0 else ("b", "a")
        s3.rename_object(Bucket=bucket, Key=other, RenameSource=one)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(seen) <= {("a",), ("b",)} and seen


def test_a_bucket_with_versions_keeps_its_keys(s3, bucket):
    s3.put_object(Bucket=bucket, Key="old", Body=b"1")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    with refused("InvalidBucketState", 409):
        s3.rename_object(Bucket=bucket, Key="new", RenameSource="old")
