"""restic keeps backups in the store: it locks, packs, lists, deletes, and notices every missing byte."""

import pytest

from clients import assert_same, need, run, tree  # noqa: F401 - fixtures


@pytest.fixture
def restic(run, home, bucket, tmp_path):
    need("restic")

    def restic(*words, **more):
        return run(
            "restic", "--no-cache", *words, RESTIC_REPOSITORY=f"s3:{home.url}/{bucket}/backups", RESTIC_PASSWORD="for a test", **more,
        )
    return restic


def test_a_backup_is_made_checked_restored_and_thinned_out(restic, s3, bucket, tree, tmp_path):
    restic("init")
    restic("init", fails=True)  # there is one already
    restic("backup", tree)
    (tree / "names/new").write_bytes(b"of the second backup")
    restic("backup", tree)
    restic("check", "--read-data")
    restic("restore", "latest", "--target", tmp_path / "restored")
    assert_same(tree, tmp_path / "restored" / tree.relative_to("/"))
    restic("forget", "--keep-last=1", "--prune")
    restic("check", "--read-data")
    assert len(restic("snapshots", "--compact").decode().split("latest")) == 1
    assert restic("list", "snapshots").decode().count("\n") == 1
    restic("restore", "latest", "--target", tmp_path / "again")
    assert_same(tree, tmp_path / "again" / tree.relative_to("/"))
    # What is missing is noticed: the check reads what is really there.
    packs = s3.list_objects_v2(Bucket=bucket, Prefix="backups/data/")["Contents"]
    s3.delete_object(Bucket=bucket, Key=packs[0]["Key"])
    restic("check", fails=True)
