"""Encryption at rest: by the bucket's default, by header, and by a key that the client keeps."""

import base64
import hashlib
import re
import threading

import pytest

from home import Home
from samples import MIB, PART_MIN, SIZES, bytes_of, refused
from test_post_object import post
from wire import Key, Request, send

KEY = bytes(range(32))
OTHER = bytes(range(1, 33))


def customer(key, prefix="SSECustomer"):
    """The parameters of a key, as botocore makes them by itself for most operations, but not for all."""
    md5 = base64.b64encode(hashlib.md5(key).digest()).decode()
    return {f"{prefix}Algorithm": "AES256", f"{prefix}Key": base64.b64encode(key).decode(), f"{prefix}KeyMD5": md5}


CUSTOMER = customer(KEY)
STRANGER = customer(OTHER)
SOURCE = customer(KEY, "CopySourceSSECustomer")
KEY_MD5 = CUSTOMER["SSECustomerKeyMD5"]
MANAGED = {"ServerSideEncryption": "AES256"}
DEFAULT = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}]}

KINDS = {"managed": (MANAGED, {}), "customer": (CUSTOMER, CUSTOMER)}
"""Parameters of a put, and of what reads it again."""


def upload(s3, bucket, key, parts, part_parameters, **parameters):
    """A multipart object; the answers to its creation and its completion."""
    started = s3.create_multipart_upload(Bucket=bucket, Key=key, **parameters)
    where = {"Bucket": bucket, "Key": key, "UploadId": started["UploadId"]}
    done = [s3.upload_part(**where, PartNumber=number, Body=body, **part_parameters) for number, body in enumerate(parts, 1)]
    listed = [{"PartNumber": number, "ETag": answer["ETag"]} for number, answer in enumerate(done, 1)]
    return started, s3.complete_multipart_upload(**where, MultipartUpload={"Parts": listed})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_objects_come_back_as_they_were_put(s3, bucket, kind, size):
    put, get = KINDS[kind]
    body = bytes_of(size)
    stored = s3.put_object(Bucket=bucket, Key="k", Body=body, **put)
    found = s3.get_object(Bucket=bucket, Key="k", **get)
    assert found["Body"].read() == body
    head = s3.head_object(Bucket=bucket, Key="k", **get)
    for answer in (stored, found, head):
        if kind == "managed":
            assert answer["ServerSideEncryption"] == "AES256"
            assert answer["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        else:
            assert answer["SSECustomerAlgorithm"] == "AES256" and answer["SSECustomerKeyMD5"] == KEY_MD5
            assert re.fullmatch('"[0-9a-f]{32}"', answer["ETag"]) and hashlib.md5(body).hexdigest() not in answer["ETag"]
            assert answer["ETag"] == stored["ETag"]
    assert head["ContentLength"] == size
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == size


@pytest.mark.parametrize("kind", KINDS)
def test_any_range_can_be_read(s3, bucket, kind, chance):
    """Chunks are 65,520 bytes of the object, blocks 4 MiB of what is stored."""
    put, get = KINDS[kind]
    size = 9 * MIB + 13
    body = bytes_of(size)
    s3.put_object(Bucket=bucket, Key="k", Body=body, **put)
    borders = [0, 1, 65_519, 65_520, 65_521, 64 * 65_520, 4 * MIB, 8 * MIB, size - 1]
    ranges = [(first, min(size - 1, first + length)) for first in borders for length in (0, 1, 65_520)]
    ranges += [tuple(sorted((chance.randrange(size), chance.randrange(size)))) for _ in range(20)]
    for first, last in ranges:
        part = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={first}-{last}", **get)
        assert part["Body"].read() == body[first:last + 1], (first, last)
    assert s3.get_object(Bucket=bucket, Key="k", Range="bytes=-5", **get)["Body"].read() == body[-5:]


@pytest.mark.parametrize("kind", KINDS)
def test_multipart_objects_are_encrypted_part_by_part(s3, bucket, kind, chance):
    put, get = KINDS[kind]
    parts = [bytes_of(PART_MIN + 3, 1), bytes_of(PART_MIN, 2), bytes_of(1000, 3)]
    whole = b"".join(parts)
    started, completed = upload(s3, bucket, "k", parts, get, **put)
    head = s3.head_object(Bucket=bucket, Key="k", **get)
    if kind == "managed":
        assert started["ServerSideEncryption"] == completed["ServerSideEncryption"] == head["ServerSideEncryption"] == "AES256"
        md5s = b"".join(hashlib.md5(part).digest() for part in parts)
        assert head["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-3"'
    else:
        assert started["SSECustomerKeyMD5"] == head["SSECustomerKeyMD5"] == KEY_MD5
    assert s3.get_object(Bucket=bucket, Key="k", **get)["Body"].read() == whole
    assert s3.get_object(Bucket=bucket, Key="k", PartNumber=2, **get)["Body"].read() == parts[1]
    for _ in range(15):
        first, last = sorted((chance.randrange(len(whole)), chance.randrange(len(whole))))
        assert s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={first}-{last}", **get)["Body"].read() == whole[first:last + 1]
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectSize", "ObjectParts"], **get)
    assert attributes["ObjectSize"] == len(whole) and attributes["ObjectParts"]["TotalPartsCount"] == 3


def test_parts_bring_the_uploads_key_and_no_other(s3, bucket):
    where = {"Bucket": bucket, "Key": "k"}
    started = s3.create_multipart_upload(**where, **CUSTOMER)["UploadId"]
    for parameters in ({}, STRANGER):
        with refused("InvalidRequest", 400):
            s3.upload_part(**where, UploadId=started, PartNumber=1, Body=b"x", **parameters)
    plain = s3.create_multipart_upload(**where)["UploadId"]
    with refused("InvalidRequest", 400):
        s3.upload_part(**where, UploadId=plain, PartNumber=1, Body=b"x", **CUSTOMER)
    part = s3.upload_part(**where, UploadId=started, PartNumber=1, Body=b"x", **CUSTOMER)
    assert s3.list_parts(**where, UploadId=started, **CUSTOMER)["Parts"][0]["Size"] == 1
    done = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    with refused("InvalidRequest", 400):
        s3.complete_multipart_upload(**where, UploadId=started, MultipartUpload=done, **STRANGER)
    s3.complete_multipart_upload(**where, UploadId=started, MultipartUpload=done, **CUSTOMER)
    assert s3.get_object(**where, **CUSTOMER)["Body"].read() == b"x"


def test_without_its_key_an_object_cannot_be_read(s3, bucket):
    s3.put_object(Bucket=bucket, Key="theirs", Body=b"secret", **CUSTOMER)
    s3.put_object(Bucket=bucket, Key="ours", Body=b"plain")
    s3.put_object(Bucket=bucket, Key="managed", Body=b"managed", **MANAGED)
    asked = ["ObjectSize"]
    for parameters, code, status in [({}, "InvalidRequest", 400), (STRANGER, "AccessDenied", 403)]:
        with refused(code, status):
            s3.get_object(Bucket=bucket, Key="theirs", **parameters)
        with refused(str(status), status):
            s3.head_object(Bucket=bucket, Key="theirs", **parameters)
        with refused(code, status):
            s3.get_object_attributes(Bucket=bucket, Key="theirs", ObjectAttributes=asked, **parameters)
    for key in ("ours", "managed"):
        with refused("InvalidRequest", 400):
            s3.get_object(Bucket=bucket, Key=key, **CUSTOMER)
    assert s3.get_object_attributes(Bucket=bucket, Key="theirs", ObjectAttributes=asked, **CUSTOMER)["ObjectSize"] == 6
    s3.delete_object(Bucket=bucket, Key="theirs")


@pytest.mark.parametrize("size", [5, 20_000, 5 * MIB])
def test_copies_are_encrypted_as_they_ask(s3, bucket, size):
    body = bytes_of(size)
    sources = {"plain": ({}, {}), "managed": (MANAGED, {}), "customer": (CUSTOMER, SOURCE)}
    copies = {"plain": ({}, {}), "managed": (MANAGED, {}), "customer": (STRANGER, STRANGER)}
    for source, (put, read) in sources.items():
        s3.put_object(Bucket=bucket, Key=source, Body=body, **put)
        for name, (asked, get) in copies.items():
            copied = s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": source}, **read, **asked)
            found = s3.get_object(Bucket=bucket, Key="copy", **get)
            assert found["Body"].read() == body, (source, name)
            assert found.get("ServerSideEncryption") == copied.get("ServerSideEncryption") == ("AES256" if name == "managed" else None)
            assert ("SSECustomerAlgorithm" in found) == ("SSECustomerAlgorithm" in copied) == (name == "customer")
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "customer"})
    with refused("AccessDenied", 403):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "customer"}, **customer(OTHER, "CopySourceSSECustomer"))


def test_object_is_encrypted_by_a_copy_onto_itself(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 70_000, Metadata={"a": "b"})
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k"})
    s3.copy_object(Bucket=bucket, Key="k", CopySource={"Bucket": bucket, "Key": "k"}, **MANAGED)
    found = s3.get_object(Bucket=bucket, Key="k")
    assert found["Body"].read() == b"x" * 70_000 and found["ServerSideEncryption"] == "AES256" and found["Metadata"] == {"a": "b"}


def test_parts_are_copied_between_keys(s3, bucket):
    body = bytes_of(PART_MIN + 70_000)
    s3.put_object(Bucket=bucket, Key="source", Body=body, **CUSTOMER)
    where = {"Bucket": bucket, "Key": "k"}
    started = s3.create_multipart_upload(**where, **STRANGER)["UploadId"]
    copy = {**where, "UploadId": started, "CopySource": {"Bucket": bucket, "Key": "source"}, **SOURCE, **STRANGER}
    first = s3.upload_part_copy(**copy, PartNumber=1)
    second = s3.upload_part_copy(**copy, PartNumber=2, CopySourceRange="bytes=65519-65601")
    parts = [{"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]} for number, done in [(1, first), (2, second)]]
    s3.complete_multipart_upload(**where, UploadId=started, MultipartUpload={"Parts": parts})
    assert s3.get_object(**where, **STRANGER)["Body"].read() == body + body[65519:65602]


def test_bucket_encrypts_by_default(s3, bucket):
    with refused("ServerSideEncryptionConfigurationNotFoundError", 404):
        s3.get_bucket_encryption(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="before", Body=b"x")
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=DEFAULT)
    assert s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"] == DEFAULT
    assert s3.put_object(Bucket=bucket, Key="put", Body=b"x")["ServerSideEncryption"] == "AES256"
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "before"})
    upload(s3, bucket, "multipart", [b"x"], {})
    s3.put_object(Bucket=bucket, Key="theirs", Body=b"x", **CUSTOMER)
    for key in ("put", "copy", "multipart"):
        found = s3.get_object(Bucket=bucket, Key=key)
        assert found["ServerSideEncryption"] == "AES256" and found["Body"].read() == b"x", key
    assert "ServerSideEncryption" not in s3.head_object(Bucket=bucket, Key="before")
    assert s3.head_object(Bucket=bucket, Key="theirs", **CUSTOMER)["SSECustomerKeyMD5"] == KEY_MD5
    s3.delete_bucket_encryption(Bucket=bucket)
    assert "ServerSideEncryption" not in s3.put_object(Bucket=bucket, Key="after", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="put")["Body"].read() == b"x"


def test_default_counts_for_every_put_that_begins_after_it(s3, bucket):
    """Also where other threads of the front end remember the bucket as it was."""
    for round in range(5):
        for key in range(16):
            s3.put_object(Bucket=bucket, Key=str(key), Body=b"warm")
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=DEFAULT)
        answers = []
        threads = [threading.Thread(target=lambda key=key: answers.append(s3.put_object(Bucket=bucket, Key=f"k{key}", Body=b"x"))) for key in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.get("ServerSideEncryption") for answer in answers] == ["AES256"] * 16
        s3.delete_bucket_encryption(Bucket=bucket)


def test_what_is_not_done_is_refused_by_name(s3, bucket):
    def rule(**how):
        return {"Rules": [{"ApplyServerSideEncryptionByDefault": how}]}

    with refused("NotImplemented", 501):
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rule(SSEAlgorithm="aws:kms"))
    with refused("InvalidArgument", 400):
        s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=rule(SSEAlgorithm="AES256", KMSMasterKeyID="k"))
    with refused("NotImplemented", 501):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="aws:kms")
    with refused("InvalidArgument", 400):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption="AES256", **CUSTOMER)
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")


def test_headers_that_do_not_agree_are_refused(home, s3, bucket):
    key = Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])
    prefix = "x-amz-server-side-encryption-customer"
    right = {f"{prefix}-algorithm": "AES256", f"{prefix}-key": base64.b64encode(KEY).decode(), f"{prefix}-key-MD5": KEY_MD5}

    def put(headers, method="PUT"):
        return send(home.address, Request(method, f"/{bucket}/k", headers={"Host": "h", **headers}, body=b"x" if method == "PUT" else b"").sign(key).bytes())

    for name in right:
        answer = put({other: value for other, value in right.items() if other != name})
        assert answer.code == "InvalidArgument" and right[f"{prefix}-key"].encode() not in answer.body
    wrong = base64.b64encode(hashlib.md5(OTHER).digest()).decode()
    assert put(right | {f"{prefix}-key-MD5": wrong}).code == "InvalidArgument"
    assert put(right | {f"{prefix}-key": base64.b64encode(b"short").decode()}).code == "InvalidArgument"
    assert put(right | {f"{prefix}-algorithm": "AES128"}).code == "InvalidEncryptionAlgorithmError"
    # A proxy tells that the key came in clear.
    assert put(right | {"X-Forwarded-Proto": "http"}).code == "InvalidRequest"
    assert put(right | {"X-Forwarded-Proto": "https"}).status == 200
    assert put(right, "DELETE").code == "InvalidRequest"
    assert put({"x-amz-server-side-encryption": "AES256"}, "GET").code == "InvalidArgument"


def test_form_uploads_are_encrypted(home, s3, bucket):
    for size in (10, 20_000, 9 * MIB):
        body = bytes_of(size)
        fields = {"x-amz-server-side-encryption": "AES256"}
        form = s3.generate_presigned_post(bucket, "k", Fields=dict(fields), Conditions=[fields])
        status, headers, text = post(home, bucket, form["fields"], body)
        assert status == 204 and headers["x-amz-server-side-encryption"] == "AES256", text
        found = s3.get_object(Bucket=bucket, Key="k")
        assert found["Body"].read() == body and found["ServerSideEncryption"] == "AES256"
        names = [f"x-amz-server-side-encryption-customer-{name}" for name in ("algorithm", "key", "key-MD5")]
        fields = dict(zip(names, ["AES256", base64.b64encode(KEY).decode(), KEY_MD5]))
        form = s3.generate_presigned_post(bucket, "k", Fields=dict(fields), Conditions=[{name: value} for name, value in fields.items()])
        status, headers, text = post(home, bucket, form["fields"], body)
        assert status == 204, text
        assert s3.get_object(Bucket=bucket, Key="k", **CUSTOMER)["Body"].read() == body


def test_policy_can_demand_encryption(home, s3, bucket):
    s3.put_bucket_policy(Bucket=bucket, Policy=f"""{{"Version": "2012-10-17", "Statement": [{{"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::{bucket}/*", "Condition": {{"StringNotEquals": {{"s3:x-amz-server-side-encryption": "AES256"}}}}}}]}}""")
    with refused("AccessDenied", 403):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **MANAGED)


def test_renamed_object_keeps_its_encryption(s3, bucket):
    for name, (put, get) in KINDS.items():
        s3.put_object(Bucket=bucket, Key=name, Body=b"x" * 20_000, **put)
        s3.rename_object(Bucket=bucket, Key=f"{name}-new", RenameSource=name)
        assert s3.get_object(Bucket=bucket, Key=f"{name}-new", **get)["Body"].read() == b"x" * 20_000


def test_versions_keep_their_own_encryption(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"one", **CUSTOMER)["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"two", **MANAGED)["VersionId"]
    third = s3.put_object(Bucket=bucket, Key="k", Body=b"three")["VersionId"]
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=first, **CUSTOMER)["Body"].read() == b"one"
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=second)["Body"].read() == b"two"
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=third)["Body"].read() == b"three"


def test_nothing_of_an_encrypted_object_is_in_a_file():
    """Inlined, packed and in blocks, by a search through every file of the data directory; and a restart can read it again."""
    needle = b"the needle that must not be found"
    bodies = {size: (needle * (size // len(needle) + 1))[:size] for size in (1000, 30_000, 6 * MIB)}
    with Home.start() as home:
        home.s3.create_bucket(Bucket="home")
        for size, body in bodies.items():
            home.s3.put_object(Bucket="home", Key=f"plain-{size}", Body=body)
        assert found(home, needle), "the search finds what is not encrypted"
        for size in bodies:
            home.s3.delete_object(Bucket="home", Key=f"plain-{size}")
    with Home.start() as home:
        home.s3.create_bucket(Bucket="home")
        for size, body in bodies.items():
            home.s3.put_object(Bucket="home", Key=f"managed-{size}", Body=body, **MANAGED)
            home.s3.put_object(Bucket="home", Key=f"customer-{size}", Body=body, **CUSTOMER)
        upload(home.s3, "home", "parts", [bodies[6 * MIB], bodies[1000]], {}, **MANAGED)
        home.kill("metadata")
        home.kill("s3-frontend")
        home.until_serving()
        for size, body in bodies.items():
            assert home.s3.get_object(Bucket="home", Key=f"managed-{size}")["Body"].read() == body
            assert home.s3.get_object(Bucket="home", Key=f"customer-{size}", **CUSTOMER)["Body"].read() == body
        assert not found(home, needle) and not found(home, KEY) and not found(home, base64.b64encode(KEY))
        keys = home.data / "metadata" / "encryption-keys"
        assert keys.stat().st_mode & 0o777 == 0o600 and re.fullmatch(r"\d+ [0-9a-f]{64}\n", keys.read_text())


def found(home, needle):
    return [path for path in home.data.rglob("*") if path.is_file() and needle in path.read_bytes()]
