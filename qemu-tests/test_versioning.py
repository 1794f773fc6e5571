"""Versions: every write is kept, a deletion only hides, and each version can be named."""

import threading

import pytest

from samples import INLINE_MAX, MIB, PACKED_MAX, bytes_of, keys_of, refused
from wire import Key, Request, send


@pytest.fixture
def versioned(s3, bucket):
    """A bucket with versions."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def put(s3, bucket, key, body=b"x", **more):
    """Puts an object and gives its version."""
    return s3.put_object(Bucket=bucket, Key=key, Body=body, **more).get("VersionId")


def get(s3, bucket, key, version=None):
    named = {"VersionId": version} if version else {}
    return s3.get_object(Bucket=bucket, Key=key, **named)["Body"].read()


def versions_of(s3, bucket, **more):
    """All versions and markers, page by page: (key, version, is latest, is marker), in the listing's order of keys."""
    found = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, **more):
        lines = [(entry, False) for entry in page.get("Versions", [])] + [(entry, True) for entry in page.get("DeleteMarkers", [])]
        found += [(entry["Key"], entry["VersionId"], entry["IsLatest"], marker) for entry, marker in lines]
    return found


def test_a_bucket_never_had_versions_has_them_and_has_them_suspended(s3, bucket):
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert put(s3, bucket, "k") is None
    for status in ("Enabled", "Suspended", "Enabled"):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status
    with refused("MalformedXML", 400):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Off"})
    with refused("IllegalVersioningConfigurationException", 400):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={})
    with refused("NotImplemented", 501):
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled", "MFADelete": "Enabled"})


@pytest.mark.parametrize("size", [10, INLINE_MAX, INLINE_MAX + 1, PACKED_MAX + 1, 5 * MIB])
def test_every_version_is_read_by_its_name(s3, versioned, size):
    bodies = [bytes_of(size, number) for number in range(4)]
    versions = [put(s3, versioned, "k", body) for body in bodies]
    assert len(set(versions)) == 4 and None not in versions
    for version, body in zip(versions, bodies):
        assert get(s3, versioned, "k", version) == body
        head = s3.head_object(Bucket=versioned, Key="k", VersionId=version)
        assert (head["VersionId"], head["ContentLength"]) == (version, size)
    answer = s3.get_object(Bucket=versioned, Key="k")
    assert (answer["VersionId"], answer["Body"].read()) == (versions[3], bodies[3])
    assert s3.get_object(Bucket=versioned, Key="k", VersionId=versions[1], Range="bytes=2-5")["Body"].read() == bodies[1][2:6]


def test_what_was_there_before_is_the_version_null(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    version = put(s3, bucket, "k", b"after")
    assert get(s3, bucket, "k", "null") == b"before"
    assert versions_of(s3, bucket) == [("k", version, True, False), ("k", "null", False, False)]
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert versions_of(s3, bucket) == [("k", version, True, False)]


def test_a_deletion_hides_and_its_marker_can_be_taken_away(s3, versioned):
    version = put(s3, versioned, "k", b"kept")
    done = s3.delete_object(Bucket=versioned, Key="k")
    marker = done["VersionId"]
    assert done["DeleteMarker"] is True and marker != version
    with refused("NoSuchKey", 404) as caught:
        s3.get_object(Bucket=versioned, Key="k")
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)
    with refused("404"):
        s3.head_object(Bucket=versioned, Key="k")
    assert keys_of(s3.list_objects_v2(Bucket=versioned)) == []
    for call, code in ((s3.get_object, "MethodNotAllowed"), (s3.head_object, "405")):
        with refused(code, 405) as caught:
            call(Bucket=versioned, Key="k", VersionId=marker)
        headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
        assert (headers["x-amz-delete-marker"], headers["allow"]) == ("true", "DELETE")
        assert "last-modified" in headers
    assert get(s3, versioned, "k", version) == b"kept"
    assert versions_of(s3, versioned) == [("k", version, False, False), ("k", marker, True, True)]
    done = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker)
    assert (done["DeleteMarker"], done["VersionId"]) == (True, marker)
    assert get(s3, versioned, "k") == b"kept"
    assert keys_of(s3.list_objects_v2(Bucket=versioned)) == ["k"]


def test_deleting_what_is_not_there_makes_a_marker_all_the_same(s3, versioned):
    assert s3.delete_object(Bucket=versioned, Key="never")["DeleteMarker"] is True
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=versioned)
    (_, marker, latest, is_marker), = versions_of(s3, versioned)
    assert latest and is_marker
    s3.delete_object(Bucket=versioned, Key="never", VersionId=marker)
    s3.delete_bucket(Bucket=versioned)


def test_the_version_before_is_current_when_the_current_one_is_deleted(s3, versioned):
    versions = [put(s3, versioned, "k", bytes_of(100_000, number)) for number in range(3)]
    for number in (2, 1, 0):
        assert get(s3, versioned, "k") == bytes_of(100_000, number)
        done = s3.delete_object(Bucket=versioned, Key="k", VersionId=versions[number])
        assert done["VersionId"] == versions[number] and "DeleteMarker" not in done
    with refused("NoSuchKey", 404):
        get(s3, versioned, "k")
    assert versions_of(s3, versioned) == []


def test_suspended_versioning_writes_over_the_version_null_only(s3, versioned):
    first = put(s3, versioned, "k", b"1")
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Suspended"})
    assert put(s3, versioned, "k", b"2") == "null"
    assert put(s3, versioned, "k", b"3") == "null"
    assert (get(s3, versioned, "k"), get(s3, versioned, "k", first)) == (b"3", b"1")
    done = s3.delete_object(Bucket=versioned, Key="k")
    assert (done["DeleteMarker"], done["VersionId"]) == (True, "null")
    assert versions_of(s3, versioned) == [("k", first, False, False), ("k", "null", True, True)]
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Enabled"})
    fourth = put(s3, versioned, "k", b"4")
    assert versions_of(s3, versioned) == [("k", fourth, True, False), ("k", first, False, False), ("k", "null", False, True)]


def test_versions_that_do_not_exist_and_that_cannot(s3, versioned):
    version = put(s3, versioned, "k")
    other = put(s3, versioned, "other")
    for call in (s3.get_object, s3.get_object_tagging):
        with refused("NoSuchVersion", 404):
            call(Bucket=versioned, Key="k", VersionId=other)
        with refused("InvalidArgument", 400):
            call(Bucket=versioned, Key="k", VersionId="3sL4kqtJlcpXroDTDmJ.rmSpXd3dIbrHY")
    with refused("NoSuchVersion", 404):
        s3.get_object(Bucket=versioned, Key="k", VersionId="null")
    s3.delete_object(Bucket=versioned, Key="k", VersionId=other)
    with refused("InvalidArgument", 400):
        s3.delete_object(Bucket=versioned, Key="k", VersionId="x")
    assert get(s3, versioned, "k", version) == b"x"


def test_a_listing_of_versions_in_pages_is_the_whole_one(s3, versioned):
    names = ["a/1", "a/2", "b", "b/x", "ä ü", "\x01", "c/d/e"]
    written = {}
    for number in range(4):
        for name in names:
            written.setdefault(name, []).insert(0, put(s3, versioned, name, str(number).encode()))
    expected = [(name, version, at == 0, False) for name in sorted(names, key=str.encode) for at, version in enumerate(written[name])]
    for page in (1, 3, 1000):
        assert versions_of(s3, versioned, PaginationConfig={"PageSize": page}) == expected
    only = [line for line in expected if line[0].startswith("a/")]
    assert versions_of(s3, versioned, Prefix="a/", PaginationConfig={"PageSize": 2}) == only
    pages = list(s3.get_paginator("list_object_versions").paginate(Bucket=versioned, Delimiter="/", PaginationConfig={"PageSize": 2}))
    prefixes = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
    assert prefixes == ["a/", "b/", "c/"]
    plain = [entry["Key"] for page in pages for entry in page.get("Versions", [])]
    assert sorted(set(plain)) == ["\x01", "b", "ä ü"] and len(plain) == 12
    behind = s3.list_object_versions(Bucket=versioned, KeyMarker="b", VersionIdMarker=written["b"][1])
    assert [(entry["Key"], entry["VersionId"]) for entry in behind["Versions"]][:2] == [("b", written["b"][2]), ("b", written["b"][3])]
    with refused("InvalidArgument", 400):
        s3.list_object_versions(Bucket=versioned, VersionIdMarker=written["b"][0])
    with refused("InvalidArgument", 400):
        s3.list_object_versions(Bucket=versioned, KeyMarker="b", VersionIdMarker="nonsense")


def test_a_listing_of_versions_tells_what_a_listing_of_objects_tells(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345", ChecksumAlgorithm="SHA256")
    entry, = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert (entry["Key"], entry["VersionId"], entry["IsLatest"], entry["Size"]) == ("k", "null", True, 5)
    assert entry["ChecksumAlgorithm"] == ["SHA256"] and entry["ETag"] == s3.head_object(Bucket=bucket, Key="k")["ETag"]


def test_many_versions_of_one_key(s3, versioned):
    """More than a page, and more than the state reads at once."""
    versions = []
    lock = threading.Lock()

    def write(count):
        for _ in range(count):
            version = put(s3, versioned, "k")
            with lock:
                versions.append(version)

    threads = [threading.Thread(target=write, args=(150,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    listed = [version for _, version, _, _ in versions_of(s3, versioned)]
    assert len(listed) == 1200 and set(listed) == set(versions)
    assert listed[0] == s3.head_object(Bucket=versioned, Key="k")["VersionId"]


def test_a_version_can_be_copied_and_brought_back(s3, versioned):
    old = put(s3, versioned, "k", bytes_of(MIB, 1))
    put(s3, versioned, "k", b"new")
    source = {"Bucket": versioned, "Key": "k", "VersionId": old}
    done = s3.copy_object(Bucket=versioned, Key="copy", CopySource=source)
    assert done["CopySourceVersionId"] == old and done["VersionId"] != old
    assert get(s3, versioned, "copy") == bytes_of(MIB, 1)
    back = s3.copy_object(Bucket=versioned, Key="k", CopySource=source)["VersionId"]
    assert (get(s3, versioned, "k"), get(s3, versioned, "k", back)) == (bytes_of(MIB, 1),) * 2
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=versioned, Key="copy", CopySource={"Bucket": versioned, "Key": "k"})
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=versioned, Key="copy", CopySource={"Bucket": versioned, "Key": "k", "VersionId": marker})
    # The deleted version's blocks are the copy's, too.
    s3.delete_object(Bucket=versioned, Key="k", VersionId=old)
    assert get(s3, versioned, "copy") == bytes_of(MIB, 1)


def test_a_multipart_upload_makes_a_version_out_of_versions(s3, versioned):
    old = put(s3, versioned, "k", bytes_of(6 * MIB, 1))
    put(s3, versioned, "k", b"new")
    upload = s3.create_multipart_upload(Bucket=versioned, Key="whole")["UploadId"]
    source = {"Bucket": versioned, "Key": "k", "VersionId": old}
    first = s3.upload_part_copy(Bucket=versioned, Key="whole", UploadId=upload, PartNumber=1, CopySource=source)
    assert first["CopySourceVersionId"] == old
    second = s3.upload_part(Bucket=versioned, Key="whole", UploadId=upload, PartNumber=2, Body=b"end")
    parts = [{"PartNumber": 1, "ETag": first["CopyPartResult"]["ETag"]}, {"PartNumber": 2, "ETag": second["ETag"]}]
    finish = {"Bucket": versioned, "Key": "whole", "UploadId": upload, "MultipartUpload": {"Parts": parts}}
    version = s3.complete_multipart_upload(**finish)["VersionId"]
    assert s3.complete_multipart_upload(**finish)["VersionId"] == version
    newer = put(s3, versioned, "whole", b"newer")
    assert get(s3, versioned, "whole", version) == bytes_of(6 * MIB, 1) + b"end"
    assert s3.get_object(Bucket=versioned, Key="whole", VersionId=version, PartNumber=2)["Body"].read() == b"end"
    s3.delete_object(Bucket=versioned, Key="whole", VersionId=version)
    with refused("NoSuchVersion", 404):
        get(s3, versioned, "whole", version)
    assert get(s3, versioned, "whole", newer) == b"newer"


def test_delete_objects_takes_versions(s3, versioned):
    first, second = put(s3, versioned, "k", b"1"), put(s3, versioned, "k", b"2")
    hidden = put(s3, versioned, "hidden")
    wanted = [{"Key": "k", "VersionId": second}, {"Key": "hidden"}, {"Key": "k", "VersionId": "nonsense"}]
    done = s3.delete_objects(Bucket=versioned, Delete={"Objects": wanted})
    gone = {entry["Key"]: entry for entry in done["Deleted"]}
    assert gone["k"]["VersionId"] == second and "DeleteMarker" not in gone["k"]
    assert gone["hidden"]["DeleteMarker"] is True
    marker = gone["hidden"]["DeleteMarkerVersionId"]
    error, = done["Errors"]
    assert (error["Code"], error["VersionId"]) == ("InvalidArgument", "nonsense")
    assert get(s3, versioned, "k") == b"1"
    done = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "hidden", "VersionId": marker}]})
    assert done["Deleted"] == [{"Key": "hidden", "VersionId": marker, "DeleteMarker": True, "DeleteMarkerVersionId": marker}]
    assert get(s3, versioned, "hidden", hidden) == b"x" == get(s3, versioned, "hidden")
    s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "k", "VersionId": first}], "Quiet": True})
    assert {key for key, *_ in versions_of(s3, versioned)} == {"hidden"}


def test_conditions_look_at_the_current_version(s3, versioned):
    etag = s3.put_object(Bucket=versioned, Key="k", Body=b"1")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=versioned, Key="k", Body=b"2", IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.delete_object(Bucket=versioned, Key="k", IfMatch='"00000000000000000000000000000000"')
    assert s3.delete_object(Bucket=versioned, Key="k", IfMatch=etag)["DeleteMarker"] is True
    # Deleted, the key is free for a first write, and there is nothing to match.
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=versioned, Key="k", Body=b"2", IfMatch=etag)
    s3.put_object(Bucket=versioned, Key="k", Body=b"3", IfNoneMatch="*")
    assert len(versions_of(s3, versioned)) == 3


def test_a_version_cannot_be_named_where_one_is_made(home, s3, versioned):
    key = Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])
    request = Request("PUT", f"/{versioned}/k", [("versionId", "null")], {"Host": "h"}, b"x").sign(key)
    answer = send(home.address, request.bytes())
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    empty = Request("GET", f"/{versioned}/k", [("versionId", "")], {"Host": "h"}).sign(key)
    answer = send(home.address, empty.bytes())
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_versions_survive_a_restart(own_home):
    home = own_home
    bodies = [bytes_of(size, number) for number, size in enumerate((10, 20_000, 200_000, 5 * MIB))]
    home.s3.create_bucket(Bucket="home")
    home.put("k", bodies[0])
    home.s3.put_bucket_versioning(Bucket="home", VersioningConfiguration={"Status": "Enabled"})
    versions = ["null"] + [put(home.s3, "home", "k", body) for body in bodies[1:]]
    home.s3.delete_object(Bucket="home", Key="k")
    home.stop()
    home.run()
    listed = versions_of(home.s3, "home")
    assert {version for _, version, _, marker in listed if not marker} == set(versions)
    for version, body in zip(versions, bodies):
        assert get(home.s3, "home", "k", version) == body
