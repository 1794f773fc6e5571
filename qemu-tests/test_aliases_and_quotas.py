"""What an operator gives a bucket beside its name: further names, and bounds to what it holds."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from samples import KIB, PART_MIN, refused


def listed(home, name):
    return next(row for row in home.ask("bucket", "list") if row["name"] == name)


def test_a_bucket_answers_to_its_alias(home, s3, bucket):
    alias = f"{bucket}-alias"
    with refused("NoSuchBucket", 404):
        s3.list_objects_v2(Bucket=alias)
    home.ask("bucket", "alias", "add", bucket, alias)
    s3.put_object(Bucket=alias, Key="k", Body=b"by alias")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"by alias"
    assert s3.list_objects_v2(Bucket=alias)["Name"] == alias
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": alias, "Key": "k"})
    s3.put_bucket_versioning(Bucket=alias, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    assert listed(home, bucket)["aliases"] == [alias]
    assert alias not in {one["Name"] for one in s3.list_buckets()["Buckets"]}
    home.ask("bucket", "alias", "remove", bucket, alias)
    with refused("NoSuchBucket", 404):
        s3.get_object(Bucket=alias, Key="k")


def test_rights_and_policies_hold_by_each_name(home, s3, bucket):
    alias = f"{bucket}-alias"
    home.ask("bucket", "alias", "add", bucket, alias)
    key = home.ask("key", "create", f"of {bucket}")
    app = home.client(key)
    with refused("AccessDenied", 403):
        app.list_objects_v2(Bucket=alias)
    home.ask("key", "allow", key["access_key"], "--bucket", alias, "--read")
    for name in (bucket, alias):
        app.list_objects_v2(Bucket=name)
        with refused("AccessDenied", 403):
            app.put_object(Bucket=name, Key="k", Body=b"")
    deny = '{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::%s/*"}}' % bucket
    s3.put_bucket_policy(Bucket=alias, Policy=deny)
    for name in (bucket, alias):
        with refused("AccessDenied", 403):
            s3.put_object(Bucket=name, Key="k", Body=b"")


def test_a_name_is_one_buckets_only_and_free_after_its_deletion(home, s3, bucket):
    alias, other = f"{bucket}-alias", f"{bucket}-other"
    s3.create_bucket(Bucket=other)
    home.ask("bucket", "alias", "add", bucket, alias)
    for name, wanted in ((other, alias), (other, bucket), (bucket, bucket), (bucket, "No_Name"), (f"{bucket}-none", "free-name")):
        assert home.trousseau("bucket", "alias", "add", name, wanted).returncode == 1, (name, wanted)
    with pytest.raises(ClientError) as failure:
        s3.create_bucket(Bucket=alias)
    assert failure.value.response["Error"]["Code"] in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou")
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=alias)
    assert listed(home, alias)["aliases"] == []


def test_a_quota_of_bytes_is_exact_on_every_way_of_adding(home, s3, bucket):
    home.ask("bucket", "quota", bucket, "--max-size", "6MiB")
    assert home.ask("bucket", "info", bucket)["max_bytes"] == 6 << 20
    exceeded = lambda: refused("QuotaExceeded", 403)  # noqa: E731
    s3.put_object(Bucket=bucket, Key="a", Body=bytes(3 << 20))
    with exceeded():
        s3.put_object(Bucket=bucket, Key="b", Body=bytes((3 << 20) + 1))
    with exceeded():
        s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"}) and s3.copy_object(
            Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "a"})
    s3.delete_object(Bucket=bucket, Key="b")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=bytes(PART_MIN))
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    with exceeded():
        s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload=parts)
    assert listed(home, bucket)["bytes"] == 3 << 20
    s3.delete_object(Bucket=bucket, Key="a")
    s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload=parts)
    s3.rename_object(Bucket=bucket, Key="renamed", RenameSource="parts")
    s3.put_object(Bucket=bucket, Key="renamed", Body=bytes(6 << 20))
    home.ask("bucket", "quota", bucket, "--none")
    s3.put_object(Bucket=bucket, Key="more", Body=bytes(1 << 20))


def test_older_versions_count(home, s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    home.ask("bucket", "quota", bucket, "--max-objects", "2")
    versions = [s3.put_object(Bucket=bucket, Key="k", Body=b"x")["VersionId"] for _ in range(2)]
    with refused("QuotaExceeded", 403):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.delete_object(Bucket=bucket, Key="k", VersionId=versions[0])
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")


def test_a_quota_is_exact_under_races(home, s3, bucket):
    home.ask("bucket", "quota", bucket, "--max-objects", "20", "--max-size", "100KiB")

    def put(number):
        try:
            s3.put_object(Bucket=bucket, Key=f"k{number}", Body=bytes(KIB))
            return 1
        except ClientError as error:
            assert error.response["Error"]["Code"] == "QuotaExceeded"
            return 0

    with ThreadPoolExecutor(16) as many:
        assert sum(many.map(put, range(60))) == 20
    row = listed(home, bucket)
    assert (row["objects"], row["bytes"], row["max_objects"], row["max_bytes"]) == (20, 20 * KIB, 20, 100 * KIB)


@pytest.mark.parametrize("words", [
    ["bucket", "quota", "b", "--max-size"], ["bucket", "quota", "b", "--max-size", "much"], ["bucket", "quota", "b", "--max-objects", "-1"],
    ["bucket", "alias", "b"], ["bucket", "website", "b", "--indexx", "x"],
])
def test_wrong_words_are_told(home, words):
    done = home.trousseau(*words)
    assert done.returncode in (1, 2) and done.stderr.startswith("trousseau: "), done
