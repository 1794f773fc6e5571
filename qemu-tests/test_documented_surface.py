"""docs/S3.md is true: what it calls missing is answered with NotImplemented, and nothing else is."""

import re

import pytest

from home import REPOSITORY
from wire import Key, Request, send

ROW = re.compile(r"^\| (\w+) \| `(\w+) (\S+?)( x-amz-copy-source)?` \| (yes|no) \|", re.M)
TABLE = ROW.findall((REPOSITORY / "docs" / "S3.md").read_text())


@pytest.fixture(scope="module")
def bucket(s3):
    s3.create_bucket(Bucket="surface")
    return "surface"


@pytest.fixture(scope="module")
def key(home):
    return Key(home.ready["access_key"], home.ready["secret_key"], home.ready["region"])


def test_table_is_whole():
    assert len(TABLE) > 100
    assert len({operation for operation, *_ in TABLE}) == len(TABLE)


# The bucket goes last, and comes back.
@pytest.mark.parametrize("operation, method, target, copies, done", sorted(TABLE, key=lambda row: row[0] == "DeleteBucket"))
def test_operation_is_what_the_table_says(home, s3, bucket, key, operation, method, target, copies, done):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    path, _, query = target.replace("{Bucket}", bucket).replace("{Key}", "k").partition("?")
    pairs = [tuple(pair.partition("=")[::2]) for pair in query.split("&") if pair]
    headers = {"Host": "h"} | ({"x-amz-copy-source": f"/{bucket}/k"} if copies else {})
    answer = send(home.address, Request(method, path, pairs, headers).sign(key).bytes(), method)
    if method == "HEAD":
        assert (answer.status == 501) == (done == "no"), answer.status
    else:
        named = answer.code == "NotImplemented" and operation.encode() in answer.body
        assert named == (done == "no"), (answer.status, answer.body)
    s3.delete_object(Bucket=bucket, Key="k")
