"""What this store does not do is answered with NotImplemented: a header that changes the meaning is never ignored."""

import pytest

from samples import refused
from wire import Key, Request, send


@pytest.fixture(scope="module")
def key(home):
    return Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])


MEANINGFUL = {
    "x-amz-server-side-encryption": ["aws:kms", "aws:kms:dsse"],
    "x-amz-server-side-encryption-aws-kms-key-id": ["a"],
    "x-amz-server-side-encryption-bucket-key-enabled": ["true"],
    "x-amz-acl": ["public-read", "public-read-write", "authenticated-read", "nonsense"],
    "x-amz-grant-read": ['uri="http://acs.amazonaws.com/groups/global/AllUsers"'],
    "x-amz-grant-full-control": ["id=1"],
    "x-amz-storage-class": ["GLACIER", "DEEP_ARCHIVE", "nonsense"],
    "x-amz-write-offset-bytes": ["5"],
    "x-amz-expected-bucket-owner": ["111122223333"],
}
"""Header → values that would make the put mean something else."""

OTHER_CODES = {
    "x-amz-storage-class": {"InvalidStorageClass"}, "x-amz-acl": {"AccessControlListNotSupported", "InvalidArgument"},
    "x-amz-grant-read": {"AccessControlListNotSupported"}, "x-amz-grant-full-control": {"AccessControlListNotSupported"},
    "x-amz-expected-bucket-owner": {"AccessDenied"},
}
"""Where AWS itself has a refusal that fits as well as NotImplemented."""


@pytest.mark.parametrize("header", MEANINGFUL)
def test_header_that_changes_the_meaning_is_refused(home, s3, bucket, key, header):
    s3.put_object(Bucket=bucket, Key="source", Body=b"x")
    for value in MEANINGFUL[header]:
        for more in ({}, {"x-amz-copy-source": f"/{bucket}/source"}):
            request = Request("PUT", f"/{bucket}/k", headers={"Host": "h", header: value, **more}, body=b"" if more else b"x")
            answer = send(home.address, request.sign(key).bytes())
            assert answer.code in {"NotImplemented"} | OTHER_CODES.get(header, set()), (value, more, answer.status, answer.body)
        upload = Request("POST", f"/{bucket}/k", [("uploads", "")], {"Host": "h", header: value})
        if header != "x-amz-write-offset-bytes":
            assert send(home.address, upload.sign(key).bytes()).status >= 400, value
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")


def test_harmless_headers_are_taken(s3, bucket):
    """What today's clients send by themselves, and what asks for what is done anyway."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="private", StorageClass="STANDARD")
    s3.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "k"}, ACL="private", TaggingDirective="COPY")


BUCKET_SETTINGS = [
    "accelerate", "acl", "analytics", "cors", "encryption", "inventory", "lifecycle", "logging", "metrics", "notification",
    "ownershipControls", "policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment", "tagging", "website",
    "intelligent-tiering", "metadataTable", "metadataConfiguration", "abac", "session",
]
OBJECT_SETTINGS = ["acl", "torrent", "restore", "select", "encryption", "annotation", "invented-tomorrow"]


DELETED = ["cors", "encryption", "lifecycle", "policy", "publicAccessBlock", "replication", "tagging", "website"]
"""Settings whose deletion succeeds, also where there is nothing."""


@pytest.mark.parametrize("setting", BUCKET_SETTINGS)
def test_bucket_settings_are_not_taken_for_other_calls(home, s3, bucket, key, setting):
    """`PUT /bucket?acl` is no CreateBucket, and `DELETE /bucket?policy` must not delete the bucket."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for method in ("GET", "PUT", "DELETE", "POST"):
        request = Request(method, f"/{bucket}", [(setting, "")], {"Host": "h"})
        answer = send(home.address, request.sign(key).bytes())
        fine = (501, "NotImplemented"), (405, "MethodNotAllowed")
        if method == "GET":
            # AWS's own words for "was never set", or what is set in every bucket.
            told = answer.status in (200, 404) or (answer.status, answer.code) in fine
        elif method == "DELETE" and setting in DELETED:
            told = answer.status == 204
        elif method == "PUT":
            # A setting without a document is none.
            told = 400 <= answer.status < 500 or (answer.status, answer.code) in fine
        else:
            told = (answer.status, answer.code) in fine
        assert told, (method, answer.status, answer.body)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


@pytest.mark.parametrize("setting", OBJECT_SETTINGS)
def test_object_settings_are_not_taken_for_other_calls(home, s3, bucket, key, setting):
    s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    for method in ("GET", "PUT", "DELETE", "POST"):
        request = Request(method, f"/{bucket}/k", [(setting, "")], {"Host": "h"}, b"x" if method in ("PUT", "POST") else b"")
        answer = send(home.address, request.sign(key).bytes())
        # The only list of grants that there is can be read.
        fine = (method, setting, answer.status) == ("GET", "acl", 200) or (setting == "acl" and answer.code == "MalformedXML")
        assert fine or (answer.status, answer.code) in ((501, "NotImplemented"), (405, "MethodNotAllowed")), (method, answer.status, answer.body)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"


def test_versions_of_an_object_are_not_ignored(s3, bucket):
    """Deleting version X must never delete the present object."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    for call in (s3.get_object, s3.head_object, s3.delete_object):
        with pytest.raises(s3.exceptions.ClientError) as caught:
            call(Bucket=bucket, Key="k", VersionId="3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in {400, 404, 501}
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"


def test_versions_in_delete_objects_are_not_ignored(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    try:
        done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "VersionId": "3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY"}]})
        assert [entry["Code"] for entry in done["Errors"]] in (["NoSuchVersion"], ["NotImplemented"], ["InvalidArgument"])
    except s3.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "NotImplemented"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"


def test_unknown_methods_are_refused(home, bucket, key):
    for method in ("PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"):
        target = f"/{bucket}/k" if method != "CONNECT" else "h:1"
        request = Request(method, target, headers={"Host": "h"}).sign(key)
        answer = send(home.address, request.bytes())
        assert 400 <= answer.status <= 501, (method, answer.status)
