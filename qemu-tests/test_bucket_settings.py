"""Settings of buckets by boto3: what was put is got, what was never put is answered as AWS answers it, and all of it survives a restart."""

import pytest

from samples import refused

NEVER_SET = [
    ("get_bucket_tagging", "NoSuchTagSet"), ("get_bucket_cors", "NoSuchCORSConfiguration"),
    ("get_bucket_policy", "NoSuchBucketPolicy"),
    ("get_bucket_policy_status", "NoSuchBucketPolicy"), ("get_public_access_block", "NoSuchPublicAccessBlockConfiguration"),
    ("get_bucket_website", "NoSuchWebsiteConfiguration"), ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
    ("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError"),
    ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
]


@pytest.mark.parametrize("call, code", NEVER_SET)
def test_what_was_never_set_is_not_found(s3, bucket, call, code):
    with refused(code, 404):
        getattr(s3, call)(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        getattr(s3, call)(Bucket=f"{bucket}-none")


def fields(answer):
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_probes_tell_what_every_bucket_is_like(s3, bucket):
    assert fields(s3.get_bucket_logging(Bucket=bucket)) == {}
    assert fields(s3.get_bucket_accelerate_configuration(Bucket=bucket)) == {}
    assert fields(s3.get_bucket_notification_configuration(Bucket=bucket)) == {}
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    rules = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    acl = s3.get_bucket_acl(Bucket=bucket)
    (grant,) = acl["Grants"]
    assert grant["Permission"] == "FULL_CONTROL" and grant["Grantee"]["ID"] == acl["Owner"]["ID"] and grant["Grantee"]["Type"] == "CanonicalUser"


def test_asking_for_what_is_succeeds_and_for_more_does_not(s3, bucket):
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={})
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "BucketOwner"})
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]})
    for delete in (s3.delete_bucket_website, s3.delete_bucket_replication, s3.delete_bucket_encryption):
        assert delete(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("NotImplemented", 501):
        s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"})
    with refused("NotImplemented", 501):
        s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    with refused("NotImplemented", 501):
        s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": {"TargetBucket": "a", "TargetPrefix": "b"}})


def test_lists_of_grants_are_the_owners_full_control_or_refused(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="bucket-owner-full-control")
    acl = s3.get_object_acl(Bucket=bucket, Key="k")
    assert [grant["Permission"] for grant in acl["Grants"]] == ["FULL_CONTROL"]
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    s3.put_object_acl(Bucket=bucket, Key="k", AccessControlPolicy={"Grants": acl["Grants"], "Owner": acl["Owner"]})
    everybody = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}
    public = {"Grants": [{"Grantee": everybody, "Permission": "READ"}], "Owner": acl["Owner"]}
    for call in (
        lambda: s3.put_object_acl(Bucket=bucket, Key="k", ACL="public-read"),
        lambda: s3.put_bucket_acl(Bucket=bucket, ACL="public-read"),
        lambda: s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=public),
        lambda: s3.put_object(Bucket=bucket, Key="new", Body=b"", ACL="public-read"),
        lambda: s3.put_object(Bucket=bucket, Key="new", Body=b"", GrantRead="id=1"),
        lambda: s3.create_bucket(Bucket=f"{bucket}-public", ACL="public-read"),
    ):
        with refused("AccessControlListNotSupported", 400):
            call()
    with refused("NoSuchKey"):
        s3.get_object_acl(Bucket=bucket, Key="new")
    with refused("NoSuchKey"):
        s3.put_object_acl(Bucket=bucket, Key="new", ACL="private")


def test_tags_of_a_bucket(s3, bucket):
    tags = [{"Key": "team", "Value": "red & blue"}, {"Key": "ü", "Value": ""}]
    with refused("InvalidTag", 400):
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    tags[0]["Value"] = "red + blue"
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    with refused("InvalidTag", 400):
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [tags[0], tags[0]]})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    s3.delete_bucket_tagging(Bucket=bucket)
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)


def test_settings_go_with_their_bucket(s3, bucket):
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)


def test_settings_are_the_owners(home, s3, bucket):
    reader = home.ask("key", "create", f"reader-{bucket}")
    home.ask("key", "allow", reader["access_key"], "--bucket", bucket, "--read", "--write")
    client = home.client(reader)
    for call in (
        lambda: client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": []}),
        lambda: client.delete_bucket_cors(Bucket=bucket),
        lambda: client.get_bucket_policy(Bucket=bucket),
        lambda: client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={}),
    ):
        with refused("AccessDenied", 403):
            call()
    with refused("NoSuchTagSet"):
        client.get_bucket_tagging(Bucket=bucket)
    home.ask("key", "allow", reader["access_key"], "--bucket", bucket, "--owner")
    client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": []})


def test_settings_survive_a_restart(own_home):
    s3 = own_home.s3
    s3.create_bucket(Bucket="kept")
    s3.put_bucket_tagging(Bucket="kept", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    own_home.kill("metadata")
    own_home.until_serving()
    assert s3.get_bucket_tagging(Bucket="kept")["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert own_home.stop() == 0
    own_home.run()
    assert own_home.s3.get_bucket_tagging(Bucket="kept")["TagSet"] == [{"Key": "a", "Value": "b"}]
