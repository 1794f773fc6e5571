"""A bucket as a directory: s3fs and rclone mount, wherever FUSE is there."""

import os
import shutil
import subprocess
import time

import pytest

from clients import assert_same, big, environment, need, tree  # noqa: F401 - fixtures
from home import until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK), reason="this machine gives no FUSE: /dev/fuse cannot be opened",
)


@pytest.fixture(params=["s3fs", "rclone"])
def mounted(request, home, bucket, tmp_path):
    """The bucket, mounted by one of the two."""
    need(request.param)
    need("fusermount3")
    where = tmp_path / "mounted"
    where.mkdir()
    s3fs = ["s3fs", bucket, where, "-f", "-o", f"url={home.url},use_path_request_style,endpoint={home.ready['region']},retries=1"]
    remote = ["--s3-provider=Other", "--s3-env-auth", f"--s3-endpoint={home.url}", f"--s3-region={home.ready['region']}", "--config="]
    rclone = ["rclone", "mount", *remote, "--vfs-cache-mode=writes", "--vfs-write-back=0s", "--dir-cache-time=0s", f":s3:{bucket}", where]
    with (tmp_path / "mount.log").open("wb") as log:
        started = subprocess.Popen(
            {"s3fs": s3fs, "rclone": rclone}[request.param], env=environment(home, tmp_path),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
    try:
        until(lambda: os.path.ismount(where) or started.poll() is not None, 60, f"{request.param} mounts")
        assert os.path.ismount(where), (tmp_path / "mount.log").read_text(errors="replace")[-4000:]
        yield where
    finally:
        subprocess.run(["fusermount3", "-u", "-z", where], check=False, capture_output=True)
        started.terminate()
        started.wait(60)


def test_files_are_written_read_renamed_and_removed(mounted, s3, bucket, tree, big):
    def there(key):
        """The object's bytes, or None: a mount may write behind our back."""
        try:
            return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except s3.exceptions.NoSuchKey:
            return None

    shutil.copytree(tree, mounted / "tree")
    assert_same(tree, mounted / "tree")
    shutil.copy(big, mounted / "big")
    until(lambda: there("big") == big.read_bytes(), 60, "the large file is an object")
    until(lambda: there("tree/names/a b") == (tree / "names/a b").read_bytes(), 60, "the small file is an object")
    s3.put_object(Bucket=bucket, Key="from outside", Body=b"seen")
    until(lambda: "from outside" in os.listdir(mounted), 60, "an object is a file")
    assert (mounted / "from outside").read_bytes() == b"seen"
    (mounted / "from outside").rename(mounted / "renamed")
    until(lambda: there("renamed") == b"seen" and there("from outside") is None, 60, "it was renamed")
    with (mounted / "renamed").open("ab") as file:
        file.write(b" and extended")
    until(lambda: there("renamed") == b"seen and extended", 60, "it was extended")
    (mounted / "renamed").unlink()
    until(lambda: there("renamed") is None, 60, "it was removed")
    # A directory without a file is none to rclone: it has gone before its turn.
    shutil.rmtree(mounted / "tree", ignore_errors=True)
    until(lambda: "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix="tree/"), 60, "the directory was removed")
