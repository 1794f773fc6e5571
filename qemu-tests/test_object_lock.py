"""Object lock: what is retained or held stays, whoever asks and whichever way."""

from datetime import datetime, timedelta, timezone

import pytest

from samples import bytes_of, refused
from wire import Key, Request, send


def until(**more):
    """That far from now, in whole seconds."""
    return (datetime.now(timezone.utc) + timedelta(**more)).replace(microsecond=0)


@pytest.fixture
def locked(s3, bucket):
    """A bucket that was made with an object lock."""
    name = f"{bucket}-locked"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def put(s3, bucket, key="k", **more):
    return s3.put_object(Bucket=bucket, Key=key, Body=b"x", **more)["VersionId"]


def test_a_bucket_made_with_a_lock_has_versions_for_ever(s3, locked):
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    assert s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"] == {"ObjectLockEnabled": "Enabled"}
    with refused("InvalidBucketState", 409):
        s3.put_bucket_versioning(Bucket=locked, VersioningConfiguration={"Status": "Suspended"})


def test_a_bucket_gets_a_lock_later_if_it_has_versions(s3, bucket):
    with refused("ObjectLockConfigurationNotFoundError", 404):
        s3.get_object_lock_configuration(Bucket=bucket)
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Years": 2}}}
    with refused("InvalidBucketState", 409):
        s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=configuration)
    assert s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == configuration
    for wrong, code in (
        ({"Mode": "GOVERNANCE", "Days": 0}, "InvalidArgument"), ({"Mode": "GOVERNANCE", "Days": -1}, "InvalidArgument"),
        ({"Mode": "GOVERNANCE", "Days": 1, "Years": 1}, "MalformedXML"), ({"Mode": "governance", "Days": 1}, "MalformedXML"),
        ({"Days": 1}, "MalformedXML"),
    ):
        with refused(code, 400):
            s3.put_object_lock_configuration(
                Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": wrong}},
            )


def test_the_default_retention_is_given_to_whatever_is_written(s3, locked):
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}
    s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule})
    put(s3, locked, "put")
    s3.copy_object(Bucket=locked, Key="copy", CopySource={"Bucket": locked, "Key": "put"})
    upload = s3.create_multipart_upload(Bucket=locked, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=locked, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    s3.complete_multipart_upload(
        Bucket=locked, Key="parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    for key in ("put", "copy", "parts"):
        head = s3.head_object(Bucket=locked, Key=key)
        assert head["ObjectLockMode"] == "GOVERNANCE"
        assert until(days=2) < head["ObjectLockRetainUntilDate"] <= until(days=3, minutes=1)
        with refused("AccessDenied", 403):
            s3.delete_object(Bucket=locked, Key=key, VersionId=head["VersionId"])
        # Hiding it is no deletion.
        assert s3.delete_object(Bucket=locked, Key=key)["DeleteMarker"] is True
    explicit = until(hours=1)
    put(s3, locked, "explicit", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=explicit)
    head = s3.head_object(Bucket=locked, Key="explicit")
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", explicit)


def test_governance_can_be_bypassed_by_saying_so(s3, locked):
    version = put(s3, locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until(days=1))
    with refused("AccessDenied", 403):
        s3.delete_object(Bucket=locked, Key="k", VersionId=version)
    done = s3.delete_objects(Bucket=locked, Delete={"Objects": [{"Key": "k", "VersionId": version}]})
    assert [entry["Code"] for entry in done["Errors"]] == ["AccessDenied"]
    s3.head_object(Bucket=locked, Key="k", VersionId=version)
    s3.delete_object(Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=True)
    with refused("404"):
        s3.head_object(Bucket=locked, Key="k", VersionId=version)
    version = put(s3, locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until(days=1))
    done = s3.delete_objects(
        Bucket=locked, Delete={"Objects": [{"Key": "k", "VersionId": version}]}, BypassGovernanceRetention=True,
    )
    assert "Errors" not in done


def test_only_who_may_change_the_bucket_bypasses_governance(home, s3, locked):
    writer = home.ask("key", "create", f"writer-{locked}")
    home.ask("key", "allow", writer["access_key"], "--bucket", locked, "--read", "--write")
    theirs = home.client(writer)
    version = put(theirs, locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until(days=1))
    with refused("AccessDenied", 403):
        theirs.delete_object(Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=True)
    with refused("AccessDenied", 403):
        theirs.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})
    s3.head_object(Bucket=locked, Key="k", VersionId=version)


def test_compliance_is_for_all(s3, locked):
    version = put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until(days=1))
    for bypass in (False, True):
        with refused("AccessDenied", 403):
            s3.delete_object(Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=bypass)
        for retention in ({"Mode": "COMPLIANCE", "RetainUntilDate": until(hours=1)}, {"Mode": "GOVERNANCE", "RetainUntilDate": until(days=2)}, {}):
            with refused("AccessDenied", 403):
                s3.put_object_retention(Bucket=locked, Key="k", Retention=retention, BypassGovernanceRetention=bypass)
    later = until(days=2)
    s3.put_object_retention(Bucket=locked, Key="k", Retention={"Mode": "COMPLIANCE", "RetainUntilDate": later})
    assert s3.get_object_retention(Bucket=locked, Key="k")["Retention"] == {"Mode": "COMPLIANCE", "RetainUntilDate": later}


def test_a_governance_retention_is_made_longer_and_by_bypass_shorter(s3, locked):
    version = put(s3, locked)
    with refused("NoSuchObjectLockConfiguration", 404):
        s3.get_object_retention(Bucket=locked, Key="k")

    def retain(mode, when, **more):
        s3.put_object_retention(Bucket=locked, Key="k", VersionId=version, Retention={"Mode": mode, "RetainUntilDate": when}, **more)

    retain("GOVERNANCE", until(days=1))
    retain("GOVERNANCE", until(days=2))
    for mode, when in (("GOVERNANCE", until(hours=1)), ("COMPLIANCE", until(days=3))):
        with refused("AccessDenied", 403):
            retain(mode, when)
    retain("GOVERNANCE", until(hours=1), BypassGovernanceRetention=True)
    with refused("InvalidArgument", 400):
        retain("GOVERNANCE", until(hours=-1), BypassGovernanceRetention=True)
    s3.put_object_retention(Bucket=locked, Key="k", Retention={}, BypassGovernanceRetention=True)
    s3.delete_object(Bucket=locked, Key="k", VersionId=version)


def test_a_retention_ends(s3, locked):
    import time

    version = put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until(seconds=2))
    with refused("AccessDenied", 403):
        s3.delete_object(Bucket=locked, Key="k", VersionId=version)
    time.sleep(3)
    s3.delete_object(Bucket=locked, Key="k", VersionId=version)


def test_a_legal_hold_keeps_until_it_is_released(s3, locked):
    version = put(s3, locked)
    with refused("NoSuchObjectLockConfiguration", 404):
        s3.get_object_legal_hold(Bucket=locked, Key="k")
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "ON"})
    assert s3.get_object_legal_hold(Bucket=locked, Key="k", VersionId=version)["LegalHold"] == {"Status": "ON"}
    assert s3.head_object(Bucket=locked, Key="k")["ObjectLockLegalHoldStatus"] == "ON"
    for bypass in (False, True):
        with refused("AccessDenied", 403):
            s3.delete_object(Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=bypass)
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "OFF"})
    assert s3.get_object_legal_hold(Bucket=locked, Key="k")["LegalHold"] == {"Status": "OFF"}
    s3.delete_object(Bucket=locked, Key="k", VersionId=version)
    held = put(s3, locked, ObjectLockLegalHoldStatus="ON")
    with refused("AccessDenied", 403):
        s3.delete_object(Bucket=locked, Key="k", VersionId=held)
    with refused("MalformedXML", 400):
        s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "on"})


def test_protection_by_header_on_a_copy_and_on_an_upload(s3, locked):
    later = until(days=5)
    protect = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": later, "ObjectLockLegalHoldStatus": "ON"}
    put(s3, locked, "source", **protect)
    s3.copy_object(Bucket=locked, Key="plain", CopySource={"Bucket": locked, "Key": "source"})
    assert "ObjectLockMode" not in s3.head_object(Bucket=locked, Key="plain"), "protection is not copied"
    s3.copy_object(Bucket=locked, Key="copy", CopySource={"Bucket": locked, "Key": "source"}, **protect)
    upload = s3.create_multipart_upload(Bucket=locked, Key="parts", **protect)["UploadId"]
    part = s3.upload_part(Bucket=locked, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    s3.complete_multipart_upload(
        Bucket=locked, Key="parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    for key in ("copy", "parts"):
        head = s3.head_object(Bucket=locked, Key=key)
        assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"], head["ObjectLockLegalHoldStatus"]) == ("GOVERNANCE", later, "ON")
        with refused("AccessDenied", 403):
            s3.delete_object(Bucket=locked, Key=key, VersionId=head["VersionId"], BypassGovernanceRetention=True)


def test_a_write_on_top_leaves_the_protected_version(s3, locked):
    version = put(s3, locked, ObjectLockLegalHoldStatus="ON")
    newer = s3.put_object(Bucket=locked, Key="k", Body=bytes_of(100_000))["VersionId"]
    s3.delete_object(Bucket=locked, Key="k", VersionId=newer)
    assert s3.get_object(Bucket=locked, Key="k")["VersionId"] == version
    with refused("AccessDenied", 403):
        s3.delete_object(Bucket=locked, Key="k", VersionId=version)
    with refused("InvalidBucketState", 409):
        s3.rename_object(Bucket=locked, Key="elsewhere", RenameSource="k")


def test_a_bucket_without_a_lock_promises_no_protection(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    later = until(days=1)
    for protect in ({"ObjectLockLegalHoldStatus": "ON"}, {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": later}):
        with refused("InvalidRequest", 400):
            s3.put_object(Bucket=bucket, Key="new", Body=b"x", **protect)
        with refused("InvalidRequest", 400):
            s3.copy_object(Bucket=bucket, Key="new", CopySource={"Bucket": bucket, "Key": "k"}, **protect)
        with refused("InvalidRequest", 400):
            s3.create_multipart_upload(Bucket=bucket, Key="new", **protect)
    for call in (
        lambda: s3.put_object_legal_hold(Bucket=bucket, Key="k", LegalHold={"Status": "ON"}), lambda: s3.get_object_legal_hold(Bucket=bucket, Key="k"),
        lambda: s3.put_object_retention(Bucket=bucket, Key="k", Retention={"Mode": "GOVERNANCE", "RetainUntilDate": later}),
        lambda: s3.get_object_retention(Bucket=bucket, Key="k"),
    ):
        with refused("InvalidRequest", 400):
            call()
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="new")


def test_headers_of_protection_are_checked(home, locked):
    key = Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])
    mode, date = "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date"
    later = until(days=1).strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = {"Content-MD5": "ndTkYSaMgDT1yFZOFVxnpg=="}  # of b"x"

    def check(headers, code):
        request = Request("PUT", f"/{locked}/k", headers={"Host": "h", **headers}, body=b"x").sign(key)
        answer = send(home.address, request.bytes())
        assert (answer.status, answer.code) == ((400, code) if code else (200, None)), (headers, answer.body)

    check({mode: "GOVERNANCE", **digest}, "InvalidArgument")
    check({date: later, **digest}, "InvalidArgument")
    check({mode: "governance", date: later, **digest}, "InvalidArgument")
    check({mode: "GOVERNANCE", date: "tomorrow", **digest}, "InvalidArgument")
    check({mode: "GOVERNANCE", date: "2001-01-01T00:00:00Z", **digest}, "InvalidArgument")
    check({"x-amz-object-lock-legal-hold": "yes", **digest}, "InvalidArgument")
    check({mode: "GOVERNANCE", date: later}, "InvalidRequest")
    check({mode: "GOVERNANCE", date: later, **digest}, None)
