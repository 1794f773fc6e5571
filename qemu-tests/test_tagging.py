"""Tags of objects: by call, by header, on copies and uploads, of each version its own."""

import pytest

from samples import refused
from wire import Key, Request, send

TAGS = [{"Key": "colour", "Value": "red"}, {"Key": "a b", "Value": ""}, {"Key": "ü", "Value": "+-=._:/@"}]


def tags_of(s3, bucket, key, **more):
    return s3.get_object_tagging(Bucket=bucket, Key=key, **more)["TagSet"]


def test_tags_come_back_and_are_replaced_and_removed(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"m": "1"})
    before = s3.head_object(Bucket=bucket, Key="k")
    assert tags_of(s3, bucket, "k") == [] and "TagCount" not in s3.get_object(Bucket=bucket, Key="k")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": TAGS})
    assert tags_of(s3, bucket, "k") == TAGS
    answer = s3.get_object(Bucket=bucket, Key="k")
    assert answer["TagCount"] == 3
    for name in ("ETag", "LastModified", "Metadata", "ContentLength"):
        assert answer[name] == before[name]
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": TAGS[:1]})
    assert tags_of(s3, bucket, "k") == TAGS[:1]
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert tags_of(s3, bucket, "k") == []
    with refused("NoSuchKey", 404):
        tags_of(s3, bucket, "missing")
    with refused("NoSuchKey", 404):
        s3.put_object_tagging(Bucket=bucket, Key="missing", Tagging={"TagSet": TAGS})


def test_a_header_brings_tags(s3, bucket):
    s3.put_object(Bucket=bucket, Key="put", Body=b"x", Tagging="colour=red&a+b=&%C3%BC=%2B-%3D._%3A%2F%40")
    assert tags_of(s3, bucket, "put") == TAGS
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts", Tagging="colour=red")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
    s3.complete_multipart_upload(
        Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert tags_of(s3, bucket, "parts") == TAGS[:1]
    s3.put_object(Bucket=bucket, Key="put", Body=b"y")
    assert tags_of(s3, bucket, "put") == [], "another object has its own tags"


def test_a_copy_takes_its_sources_tags_or_others(s3, bucket):
    source = {"Bucket": bucket, "Key": "source"}
    s3.put_object(**source, Body=b"x", Tagging="colour=red")
    s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    s3.copy_object(Bucket=bucket, Key="kept too", CopySource=source, MetadataDirective="REPLACE", TaggingDirective="COPY")
    s3.copy_object(Bucket=bucket, Key="new", CopySource=source, TaggingDirective="REPLACE", Tagging="colour=blue")
    s3.copy_object(Bucket=bucket, Key="none", CopySource=source, TaggingDirective="REPLACE")
    assert tags_of(s3, bucket, "kept") == TAGS[:1] == tags_of(s3, bucket, "kept too")
    assert tags_of(s3, bucket, "new") == [{"Key": "colour", "Value": "blue"}]
    assert tags_of(s3, bucket, "none") == []
    with refused("InvalidArgument", 400):
        s3.copy_object(Bucket=bucket, Key="c", CopySource=source, TaggingDirective="FORGET")


def test_each_version_has_its_own_tags(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1", Tagging="n=1")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2", Tagging="n=2")["VersionId"]
    done = s3.put_object_tagging(Bucket=bucket, Key="k", VersionId=first, Tagging={"TagSet": TAGS})
    assert done["VersionId"] == first
    answer = s3.get_object_tagging(Bucket=bucket, Key="k", VersionId=first)
    assert (answer["VersionId"], answer["TagSet"]) == (first, TAGS)
    assert tags_of(s3, bucket, "k") == [{"Key": "n", "Value": "2"}]
    assert s3.delete_object_tagging(Bucket=bucket, Key="k", VersionId=second)["VersionId"] == second
    assert (tags_of(s3, bucket, "k"), tags_of(s3, bucket, "k", VersionId=first)) == ([], TAGS)
    assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 2, "tagging makes no version"
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    with refused("NoSuchKey", 404):
        tags_of(s3, bucket, "k")
    with refused("MethodNotAllowed", 405):
        tags_of(s3, bucket, "k", VersionId=marker)


@pytest.mark.parametrize("tags, code", [
    ([{"Key": f"k{number}", "Value": "v"} for number in range(11)], "BadRequest"),
    ([{"Key": "k", "Value": "1"}, {"Key": "k", "Value": "2"}], "InvalidTag"),
    ([{"Key": "k" * 129, "Value": ""}], "InvalidTag"),
    ([{"Key": "k", "Value": "v" * 257}], "InvalidTag"),
    ([{"Key": "aws:k", "Value": ""}], "InvalidTag"),
    ([{"Key": "k", "Value": "<"}], "InvalidTag"),
])
def test_tags_that_break_the_rules_are_refused(s3, bucket, tags, code):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="old=1")
    with refused(code, 400):
        s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})
    assert tags_of(s3, bucket, "k") == [{"Key": "old", "Value": "1"}]


def test_longest_tags(s3, bucket):
    tags = [{"Key": "ü" * 127 + str(number), "Value": "ü" * 256} for number in range(10)]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": tags})
    assert tags_of(s3, bucket, "k") == tags


def test_tags_in_a_header_that_is_no_query_are_refused(home, bucket):
    key = Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])
    for header, code in (("a=1&a=2", "InvalidArgument"), ("a=%zz", "InvalidArgument"), ("=1", "InvalidTag"), ("a=%3C", "InvalidTag")):
        request = Request("PUT", f"/{bucket}/k", headers={"Host": "h", "x-amz-tagging": header}, body=b"x").sign(key)
        answer = send(home.address, request.bytes())
        assert (answer.status, answer.code) == (400, code), header
