"""Buckets, and which access key may do what with them: by S3 and by the command line."""

import uuid
from datetime import datetime, timedelta, timezone

import pytest
from botocore.exceptions import ClientError
from botocore.handlers import validate_bucket_name

from samples import refused


@pytest.fixture
def name():
    return f"b-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def stranger(home):
    """A key that was given no right at all."""
    return home.ask("key", "create", f"stranger-{uuid.uuid4().hex[:8]}")


def names(s3):
    return {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}


# Buckets.

def test_life_of_a_bucket(s3, name):
    with refused("404"):
        s3.head_bucket(Bucket=name)
    created = s3.create_bucket(Bucket=name)
    assert created["Location"] == f"/{name}"
    s3.head_bucket(Bucket=name)
    (entry,) = [bucket for bucket in s3.list_buckets()["Buckets"] if bucket["Name"] == name]
    assert abs(entry["CreationDate"] - datetime.now(timezone.utc)) < timedelta(minutes=5)

    s3.put_object(Bucket=name, Key="k", Body=b"x")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=name)
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)
    assert name not in names(s3)
    for call in (lambda: s3.put_object(Bucket=name, Key="k", Body=b""), lambda: s3.delete_bucket(Bucket=name), lambda: s3.list_objects(Bucket=name)):
        with refused("NoSuchBucket", 404):
            call()


def test_bucket_made_again_is_empty(s3, name):
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"old")
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)
    s3.create_bucket(Bucket=name)
    with refused("NoSuchKey"):
        s3.get_object(Bucket=name, Key="k")


def test_creating_twice(home, s3, name, stranger):
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    try:
        s3.create_bucket(Bucket=name)  # us-east-1 answers 200 to the owner, other regions 409.
    except ClientError as error:
        assert error.response["Error"]["Code"] == "BucketAlreadyOwnedByYou"
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
    maker = home.ask("key", "create", f"maker-{name}", "--create-buckets")
    with refused("BucketAlreadyExists", 409):
        home.client(maker).create_bucket(Bucket=name)


WRONG_NAMES = ["ab", "x" * 64, "Upper", "under_score", "-dash", "dash-", ".dot", "two..dots", "192.168.1.1", "xn--a", "a-s3alias", "ü-ber"]


@pytest.mark.parametrize("wrong", WRONG_NAMES)
def test_names_that_s3_forbids(home, wrong):
    s3 = home.client()
    s3.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
    with refused("InvalidBucketName", 400):
        s3.create_bucket(Bucket=wrong)


def test_region_of_a_bucket(home, s3, name):
    s3.create_bucket(Bucket=name)
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None  # us-east-1 is written as nothing.
    assert s3.head_bucket(Bucket=name)["BucketRegion"] == home.ready["region"]
    with pytest.raises(ClientError) as caught:
        s3.create_bucket(Bucket=f"{name}-far", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    assert caught.value.response["Error"]["Code"] in {"InvalidLocationConstraint", "IllegalLocationConstraintException"}
    assert f"{name}-far" not in names(s3)


def test_deleting_a_bucket_with_an_upload_under_way(s3, name):
    s3.create_bucket(Bucket=name)
    upload = s3.create_multipart_upload(Bucket=name, Key="k")["UploadId"]
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=name)
    s3.abort_multipart_upload(Bucket=name, Key="k", UploadId=upload)
    s3.delete_bucket(Bucket=name)


# Keys.

def everything(s3, bucket):
    """Name → one call of each operation, on a bucket that holds `k` and an upload."""
    return {
        "get": ("read", lambda: s3.get_object(Bucket=bucket, Key="k")),
        "head": ("read", lambda: s3.head_object(Bucket=bucket, Key="k")),
        "list": ("read", lambda: s3.list_objects(Bucket=bucket)),
        "list v2": ("read", lambda: s3.list_objects_v2(Bucket=bucket)),
        "uploads": ("write", lambda: s3.list_multipart_uploads(Bucket=bucket)),
        "location": ("read", lambda: s3.get_bucket_location(Bucket=bucket)),
        "head bucket": ("read", lambda: s3.head_bucket(Bucket=bucket)),
        "put": ("write", lambda: s3.put_object(Bucket=bucket, Key="new", Body=b"x")),
        "delete": ("write", lambda: s3.delete_object(Bucket=bucket, Key="new")),
        "delete many": ("write", lambda: s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "new"}]})),
        "begin": ("write", lambda: s3.create_multipart_upload(Bucket=bucket, Key="m")),
        "delete bucket": ("owner", lambda: s3.delete_bucket(Bucket=bucket)),
    }


def outcome(call):
    try:
        call()
        return "done"
    except ClientError as error:
        return error.response["Error"]["Code"]


@pytest.mark.parametrize("rights", [(), ("read",), ("write",), ("read", "write"), ("read", "write", "owner")], ids=" ".join)
def test_key_can_do_what_it_was_allowed_and_no_more(home, s3, bucket, stranger, rights):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    if rights:
        home.ask("key", "allow", stranger["access_key"], "--bucket", bucket, *[f"--{right}" for right in rights])
    client = home.client(stranger)
    for name, (needed, call) in everything(client, bucket).items():
        result = outcome(call)
        if needed in rights:
            assert result not in {"AccessDenied", "403"}, name
        elif name in ("location", "head bucket"):
            assert result in {"AccessDenied", "403"} or rights, name
        else:
            assert result in {"AccessDenied", "403"}, name
    assert (bucket in names(client)) == bool(rights)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_refused_put_stores_nothing(home, s3, bucket, stranger):
    for size in (10, 100_000, 6_000_000):
        with refused("AccessDenied", 403):
            home.client(stranger).put_object(Bucket=bucket, Key="k", Body=b"x" * size)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_key_without_the_right_makes_no_bucket(home, s3, name, stranger):
    with refused("AccessDenied", 403):
        home.client(stranger).create_bucket(Bucket=name)
    assert name not in names(s3)
    maker = home.ask("key", "create", f"maker-{name}", "--create-buckets")
    client = home.client(maker)
    client.create_bucket(Bucket=name)
    client.put_object(Bucket=name, Key="k", Body=b"mine")
    assert names(client) == {name}
    with refused("AccessDenied", 403):
        home.client(stranger).get_object(Bucket=name, Key="k")


def test_copy_needs_reading_there_and_writing_here(home, s3, bucket, stranger):
    s3.put_object(Bucket=bucket, Key="secret", Body=b"x")
    own = f"{bucket}-own"
    home.ask("bucket", "create", own)
    home.ask("key", "allow", stranger["access_key"], "--bucket", own, "--read", "--write")
    client = home.client(stranger)
    with refused("AccessDenied", 403):
        client.copy_object(Bucket=own, Key="stolen", CopySource={"Bucket": bucket, "Key": "secret"})
    upload = client.create_multipart_upload(Bucket=own, Key="stolen")["UploadId"]
    with refused("AccessDenied", 403):
        client.upload_part_copy(Bucket=own, Key="stolen", UploadId=upload, PartNumber=1, CopySource={"Bucket": bucket, "Key": "secret"})
    home.ask("key", "allow", stranger["access_key"], "--bucket", bucket, "--read")
    client.copy_object(Bucket=own, Key="copied", CopySource={"Bucket": bucket, "Key": "secret"})
    with refused("AccessDenied", 403):
        client.copy_object(Bucket=bucket, Key="planted", CopySource={"Bucket": own, "Key": "copied"})


def test_right_that_was_withdrawn_is_gone_at_once(home, bucket, stranger):
    client = home.client(stranger)
    for _ in range(5):
        home.ask("key", "allow", stranger["access_key"], "--bucket", bucket, "--read", "--write")
        client.put_object(Bucket=bucket, Key="k", Body=b"x")
        home.ask("key", "deny", stranger["access_key"], "--bucket", bucket, "--write")
        with refused("AccessDenied", 403):
            client.put_object(Bucket=bucket, Key="k", Body=b"x")
        client.get_object(Bucket=bucket, Key="k")
        home.ask("key", "deny", stranger["access_key"], "--bucket", bucket, "--read")
        with refused("AccessDenied", 403):
            client.get_object(Bucket=bucket, Key="k")


def test_deleted_key_is_unknown_at_once(home, bucket, stranger):
    home.ask("key", "allow", stranger["access_key"], "--bucket", bucket, "--read")
    client = home.client(stranger)
    client.list_objects_v2(Bucket=bucket)
    home.ask("key", "delete", stranger["access_key"])
    with refused("InvalidAccessKeyId", 403):
        client.list_objects_v2(Bucket=bucket)
    assert stranger["access_key"] not in {key["access_key"] for key in home.ask("key", "list")}


def test_keys_are_listed_without_their_secrets(home, stranger):
    listed = {key["access_key"]: key for key in home.ask("key", "list")}
    assert {stranger["access_key"], home.ready["access_key"]} <= set(listed)
    assert stranger["secret_key"] not in home.trousseau("key", "list").stdout
    assert stranger["secret_key"] not in home.log()
    assert home.ready["secret_key"] not in home.log()


# The command line.

def test_buckets_by_the_command_line(home, s3, name):
    home.ask("bucket", "create", name)
    assert name in {bucket["name"] for bucket in home.ask("bucket", "list")}
    assert name in names(s3), "the first key may use every bucket"
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    refusal = home.trousseau("bucket", "delete", name)
    assert refusal.returncode == 1 and refusal.stderr.strip()
    s3.delete_object(Bucket=name, Key="k")
    home.ask("bucket", "delete", name)
    assert name not in names(s3)


@pytest.mark.parametrize("words, status", [
    (["bucket", "create", "Not A Bucket"], 1), (["bucket", "delete", "nobody-made-this"], 1), (["key", "delete", "AKNOSUCHKEY"], 1),
    (["key", "allow", "AKNOSUCHKEY", "--bucket", "nobody-made-this", "--read"], 1), (["bucket"], 2), (["key", "create"], 2),
    (["nonsense"], 2), (["status", "--nonsense"], 2), (["key", "allow", "X", "--bucket"], 2),
], ids=lambda value: " ".join(value) if isinstance(value, list) else None)
def test_refusals_of_the_command_line_say_why(home, words, status):
    done = home.trousseau(*words)
    assert done.returncode == status, done
    assert done.stderr.strip(), "a refusal has a reason"
    assert "panicked" not in done.stderr


def test_first_key_cannot_be_deleted(home, s3):
    assert home.trousseau("key", "delete", home.ready["access_key"]).returncode == 1
    s3.list_buckets()
