"""GetObjectAttributes: what is asked for, and nothing else; checksums of every kind."""

import pytest

from samples import MIB, bytes_of, refused

ALL = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]


def upload_parts(s3, bucket, key, bodies, **more):
    """A multipart object out of `bodies`; gives the answer to its completion and the parts'."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **more)["UploadId"]
    algorithm = {"ChecksumAlgorithm": more["ChecksumAlgorithm"]} if "ChecksumAlgorithm" in more else {}
    answers, parts = [], []
    for number, body in bodies.items():
        answer = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body, **algorithm)
        answers.append(answer)
        sums = {name: value for name, value in answer.items() if name.startswith("Checksum") and name != "ChecksumType"}
        parts.append({"PartNumber": number, "ETag": answer["ETag"], **(sums if algorithm else {})})
    done = s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    return done, answers


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"])
def test_attributes_of_an_object_in_one_piece(s3, bucket, algorithm):
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"12345", ChecksumAlgorithm=algorithm)
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=ALL)
    assert (got["ETag"], got["ObjectSize"], got["StorageClass"]) == (put["ETag"].strip('"'), 5, "STANDARD")
    assert got["Checksum"] == {f"Checksum{algorithm}": put[f"Checksum{algorithm}"], "ChecksumType": "FULL_OBJECT"}
    assert "ObjectParts" not in got
    assert got["LastModified"] == s3.head_object(Bucket=bucket, Key="k")["LastModified"]


@pytest.mark.parametrize("algorithm, kind", [
    ("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT"), ("CRC32C", "COMPOSITE"), ("CRC32C", "FULL_OBJECT"), ("SHA1", "COMPOSITE"),
    ("SHA256", "COMPOSITE"), ("CRC64NVME", "FULL_OBJECT"),
])
def test_attributes_of_an_object_of_parts(s3, bucket, algorithm, kind):
    bodies = {1: bytes_of(5 * MIB), 4: bytes_of(5 * MIB, 1), 9: b"end"}
    done, answers = upload_parts(s3, bucket, "k", bodies, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=ALL)
    name = f"Checksum{algorithm}"
    assert got["Checksum"] == {name: done[name], "ChecksumType": kind}
    assert got["ObjectSize"] == 10 * MIB + 3
    parts = got["ObjectParts"]
    assert (parts["TotalPartsCount"], parts["IsTruncated"]) == (3, False)
    expected = [
        {"PartNumber": number, "Size": len(body), name: answer[name]} for (number, body), answer in zip(bodies.items(), answers)
    ]
    assert parts["Parts"] == expected


def test_only_what_was_asked_for_is_told(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"12345")
    told = set(ALL) - {"ObjectParts"}
    for name in told:
        got = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=[name])
        assert set(got) & set(ALL) == {name}
    with refused("InvalidArgument", 400):
        s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["Colour"])
    with refused("NoSuchKey", 404):
        s3.get_object_attributes(Bucket=bucket, Key="missing", ObjectAttributes=ALL)


def test_parts_come_in_pages_and_without_those_that_were_left_out(s3, bucket):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etags = {
        number: s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=bytes_of(5 * MIB, number))["ETag"]
        for number in (1, 2, 3, 4)
    }
    chosen = [{"PartNumber": number, "ETag": etags[number]} for number in (1, 3, 4)]
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": chosen})
    seen, marker = [], 0
    while True:
        parts = s3.get_object_attributes(
            Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], MaxParts=2, PartNumberMarker=marker,
        )["ObjectParts"]
        assert (parts["TotalPartsCount"], parts["MaxParts"], parts["PartNumberMarker"]) == (3, 2, marker)
        seen += [part["PartNumber"] for part in parts["Parts"]]
        marker = parts["NextPartNumberMarker"]
        if not parts["IsTruncated"]:
            break
    assert seen == [1, 3, 4]


def test_attributes_of_versions(s3, bucket):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"22")["VersionId"]
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    for version, size in ((first, 1), (second, 2)):
        got = s3.get_object_attributes(Bucket=bucket, Key="k", VersionId=version, ObjectAttributes=["ObjectSize"])
        assert (got["VersionId"], got["ObjectSize"]) == (version, size)
    with refused("MethodNotAllowed", 405) as caught:
        s3.get_object_attributes(Bucket=bucket, Key="k", VersionId=marker, ObjectAttributes=ALL)
    assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["x-amz-delete-marker"] == "true"
