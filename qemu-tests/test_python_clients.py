"""MinIO's client for Python. (boto3 is what most other tests use.)"""

import io
import urllib.request
from datetime import timedelta
from urllib.parse import urlsplit

import minio
import pytest
from minio.commonconfig import CopySource, Tags
from minio.deleteobjects import DeleteObject

from clients import big  # noqa: F401 - a fixture


@pytest.fixture
def client(home):
    return minio.Minio(
        endpoint=urlsplit(home.url).netloc, access_key=home.ready["access_key"], secret_key=home.ready["secret_key"], secure=False,
    )


def test_minio_uses_the_store(client, bucket, big, tmp_path):
    other = f"{bucket}-minio"
    client.make_bucket(bucket_name=other)
    assert client.bucket_exists(bucket_name=other)
    assert other in [one.name for one in client.list_buckets()]
    client.put_object(
        bucket_name=other, object_name="a b/ü", data=io.BytesIO(b"hello"), length=5, content_type="text/plain", metadata={"who": "me"},
    )
    answer = client.get_object(bucket_name=other, object_name="a b/ü")
    assert answer.read() == b"hello"
    answer.close()
    answer.release_conn()
    about = client.stat_object(bucket_name=other, object_name="a b/ü")
    assert (about.size, about.content_type, about.metadata["x-amz-meta-who"]) == (5, "text/plain", "me")

    client.fput_object(bucket_name=other, object_name="large", file_path=str(big), part_size=7 << 20)
    client.fget_object(bucket_name=other, object_name="large", file_path=str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == big.read_bytes()
    client.put_object(bucket_name=other, object_name="stream", data=big.open("rb"), length=-1, part_size=5 << 20)
    assert client.stat_object(bucket_name=other, object_name="stream").size == big.stat().st_size
    client.copy_object(bucket_name=other, object_name="copy", source=CopySource(bucket_name=other, object_name="large"))

    tags = Tags.new_object_tags()
    tags["k"] = "v"
    client.set_object_tags(bucket_name=other, object_name="copy", tags=tags)
    assert client.get_object_tags(bucket_name=other, object_name="copy") == {"k": "v"}

    listed = [one.object_name for one in client.list_objects(bucket_name=other, recursive=True)]
    assert listed == ["a b/ü", "copy", "large", "stream"]
    url = client.presigned_get_object(bucket_name=other, object_name="a b/ü", expires=timedelta(minutes=1))
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.read() == b"hello"
    with pytest.raises(minio.error.S3Error, match="NoSuchKey"):
        client.stat_object(bucket_name=other, object_name="absent")

    objects = [DeleteObject(name) for name in listed]
    assert list(client.remove_objects(bucket_name=other, delete_object_list=objects)) == []
    client.remove_bucket(bucket_name=other)
