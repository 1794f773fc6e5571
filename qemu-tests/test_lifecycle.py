"""Lifecycles by boto3: rules as they were put, and what a pass removes. (Days are counted in tests of the state machine, whose clock can be set.)"""

from datetime import datetime, timezone

import pytest

from samples import keys_of, refused

TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)

RULES = [
    {"ID": "old form", "Prefix": "a/", "Status": "Disabled", "Expiration": {"Date": TODAY}},
    {"ID": "all", "Filter": {"Prefix": ""}, "Status": "Enabled", "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
    {"ID": "markers", "Filter": {"Prefix": "m/"}, "Status": "Enabled", "Expiration": {"ExpiredObjectDeleteMarker": True}},
    {
        "ID": "and", "Status": "Enabled", "Expiration": {"Days": 30},
        "Filter": {"And": {"Prefix": "x/", "Tags": [{"Key": "k", "Value": "v"}, {"Key": "l", "Value": ""}], "ObjectSizeGreaterThan": 5, "ObjectSizeLessThan": 500}},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 2},
    },
    {"ID": "tag", "Filter": {"Tag": {"Key": "k", "Value": "v"}}, "Status": "Enabled", "Expiration": {"Days": 1}},
    {"ID": "size", "Filter": {"ObjectSizeGreaterThan": 0}, "Status": "Enabled", "Expiration": {"Days": 1}},
]


def put(s3, bucket, *rules):
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": list(rules)})


def expired(**filters):
    """A rule by which everything that it is about is due since midnight."""
    return {"ID": "due", "Filter": filters or {"Prefix": ""}, "Status": "Enabled", "Expiration": {"Date": TODAY}}


def test_rules_are_kept_in_every_form(s3, bucket):
    put(s3, bucket, *RULES)
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == RULES
    s3.delete_bucket_lifecycle(Bucket=bucket)
    with refused("NoSuchLifecycleConfiguration", 404):
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)


@pytest.mark.parametrize("rule, code", [
    ({"Filter": {}, "Expiration": {"Days": 0}}, "InvalidArgument"), ({"Filter": {}}, "InvalidRequest"),
    ({"Filter": {}, "Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}, "NotImplemented"),
    ({"Expiration": {"Days": 1}}, "MalformedXML"),
])
def test_rules_that_cannot_be_are_refused(s3, bucket, rule, code):
    with refused(code):
        put(s3, bucket, {"Status": "Enabled"} | rule)


def test_pass_removes_what_is_due_and_nothing_else(home, s3, bucket):
    for key in ("log/1", "log/2", "data/1"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * 70_000)
    s3.put_object(Bucket=bucket, Key="log/kept", Body=b"small")
    put(s3, bucket, expired(And={"Prefix": "log/", "ObjectSizeGreaterThan": 100}))
    removed = home.ask("lifecycle")["removed"]
    assert removed == 2
    assert keys_of(s3.list_objects_v2(Bucket=bucket)) == ["data/1", "log/kept"]
    assert home.ask("lifecycle")["removed"] == 0


def test_tags_choose_what_is_due(home, s3, bucket):
    s3.put_object(Bucket=bucket, Key="red", Body=b"x", Tagging="team=red")
    s3.put_object(Bucket=bucket, Key="blue", Body=b"x", Tagging="team=blue")
    put(s3, bucket, expired(Tag={"Key": "team", "Value": "red"}))
    home.ask("lifecycle")
    assert keys_of(s3.list_objects_v2(Bucket=bucket)) == ["blue"]


def test_in_a_bucket_with_versions_what_expires_can_be_had_back(home, s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["VersionId"]
    put(s3, bucket, expired())
    home.ask("lifecycle")
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key="k")
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=version)["Body"].read() == b"x"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    assert len(s3.list_object_versions(Bucket=bucket)["DeleteMarkers"]) == 1
    put(s3, bucket, {"ID": "markers", "Filter": {"Prefix": ""}, "Status": "Enabled", "Expiration": {"ExpiredObjectDeleteMarker": True}})
    home.ask("lifecycle")
    assert "DeleteMarkers" not in s3.list_object_versions(Bucket=bucket)


def test_requests_are_served_while_a_pass_removes_much(home, s3, bucket):
    for number in range(300):
        s3.put_object(Bucket=bucket, Key=f"old/{number}", Body=b"x")
    put(s3, bucket, expired(Prefix="old/"))
    s3.put_object(Bucket=bucket, Key="new", Body=b"x")
    assert home.ask("lifecycle")["removed"] == 300
    assert keys_of(s3.list_objects_v2(Bucket=bucket)) == ["new"]
