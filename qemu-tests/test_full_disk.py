"""A full disk: a put is refused clearly, reading goes on, deleting works, and then there is room again."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from home import NOBODY, USERS, Home, until
from samples import MIB, bytes_of, keys_of, refused
from small_disk import DISK_MIB, small_disk


@pytest.fixture(params=USERS)
def home_on_a_small_disk(request):
    """A node whose data lie on a file system of their own."""
    with small_disk() as disk:
        if request.param == "nobody":
            os.chown(disk, NOBODY, NOBODY)
        with Home.start(user=request.param, data=disk / "data") as home:
            yield home


def put_until_refused(home, prefix, size, at_most):
    """Puts objects from eight threads until one is refused; gives the keys of those that were acknowledged, and the refusals."""
    stored, refusals = [], []

    def put(number):
        if refusals:
            return
        key = f"{prefix}/{number}"
        try:
            home.s3.put_object(Bucket="home", Key=key, Body=bytes_of(size, number))
            stored.append((key, number))
        except ClientError as error:
            refusals.append(error.response)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(put, range(at_most)))
    return stored, refusals


def test_full_disk(home_on_a_small_disk):
    home = home_on_a_small_disk
    home.put("before", b"was here first")
    home.put("versioned", b"kept", bucket="versions")
    home.s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    before = home.restarts()

    large, refusals = put_until_refused(home, "large", 6 * MIB, DISK_MIB)
    assert refusals, "the disk became full"
    middle, more = put_until_refused(home, "middle", 40_000, DISK_MIB * 25)
    refusals += more
    # Small objects lie in metadata; they may find room in its reserve, but never so much that nothing could be deleted.
    small, more = put_until_refused(home, "small", 8_000, 20_000)
    refusals += more
    for answer in refusals:
        assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("InsufficientStorage", 507), answer

    if more:
        # Hiding an object takes room, too; deleting a version gives it back.
        with refused("InsufficientStorage", 507):
            home.s3.delete_object(Bucket="versions", Key="versioned")
        home.s3.delete_object(Bucket="versions", Key="versioned", VersionId="null")

    stored = [(key, number, 6 * MIB) for key, number in large]
    stored += [(key, number, 40_000) for key, number in middle] + [(key, number, 8_000) for key, number in small[::50]]
    for key, number, size in stored:
        assert home.get(key) == bytes_of(size, number), key
    listed = [
        key for page in home.s3.get_paginator("list_objects_v2").paginate(Bucket="home") for key in keys_of(page)
    ]
    assert len(listed) == len(large) + len(middle) + len(small) + 1, "nothing that was refused is visible"
    assert home.ask("status")["ready"] is True

    # It can be stopped and started when it is full, too.
    assert home.stop() == 0
    home.run()
    before = home.restarts()
    assert home.get("before") == b"was here first"

    for key, number in large:
        home.s3.delete_object(Bucket="home", Key=key)
    assert "Contents" not in home.s3.list_objects_v2(Bucket="home", Prefix="large/")

    def fits_again():
        try:
            home.put("after/large", bytes_of(20 * MIB))
            home.put("after/small", b"x")
            return True
        except ClientError as error:
            assert error.response["Error"]["Code"] == "InsufficientStorage"
            return False

    until(fits_again, 120, "the space of deleted objects can be used again")
    assert home.get("after/large") == bytes_of(20 * MIB)
    assert home.restarts() == before, "no process ended because the disk was full"
