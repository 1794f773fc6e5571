"""What is deleted is freed on every disk of a cluster, also while others write the same bytes, and also on a disk that was away. Nothing that is referenced is lost."""

import itertools
import threading
import time

from cluster import Cluster
from home import until
from samples import MIB, bytes_of

FREED_WITHIN = 600
"""Seconds: garbage is left alone for one minute, and looked at twice in each."""

BODIES = [bytes_of(size, number) for number, size in enumerate((20_000, 70_000, MIB, 5 * MIB))]


def blocks(home):
    return {path.name for path in (home.data / "blocks/files").glob("*/*")}


def alike(cluster):
    """Every block is on every disk."""
    until(lambda: len({frozenset(blocks(home)) for home in cluster}) == 1, 120, "all nodes have the same blocks")
    return blocks(cluster[0])


def gone(cluster, names):
    until(lambda: not any(blocks(home) & names for home in cluster), FREED_WITHIN, "the garbage is gone from every disk")


class Writers:
    """Each keeps writing and deleting objects of the same few contents by way of one home, and remembers what it was told is stored."""

    def __init__(self, cluster):
        self.stop, self.kept, self.failures, self.writes = threading.Event(), {}, [], 0
        self.threads = [threading.Thread(target=self.write, args=(number, home)) for number, home in enumerate(cluster)]
        for thread in self.threads:
            thread.start()

    def write(self, number, home):
        client = home.s3
        try:
            for turn in itertools.count():
                if self.stop.is_set():
                    return
                key, body = f"busy-{number}/{turn % 7}", BODIES[(turn + number) % len(BODIES)]
                client.put_object(Bucket="home", Key=key, Body=body)
                self.kept[key] = body
                self.writes += 1
                if turn % 3 == 0:
                    client.delete_object(Bucket="home", Key=key)
                    del self.kept[key]
        except Exception as failure:  # a thread must not end silently
            self.failures.append(failure)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        assert not self.failures, self.failures


def test_what_is_deleted_is_freed_on_all_disks_while_others_write():
    with Cluster.of(3) as cluster:
        cluster[0].put("stays", bytes_of(3 * MIB, 99))
        before = alike(cluster)
        doomed = [f"doomed/{number}" for number in range(12)]
        for number, key in enumerate(doomed):
            cluster[number % 3].put(key, bytes_of(MIB + number, 1_000 + number))
        upload = cluster[1].s3.create_multipart_upload(Bucket="home", Key="never")["UploadId"]
        cluster[1].s3.upload_part(Bucket="home", Key="never", UploadId=upload, PartNumber=1, Body=bytes_of(6 * MIB, 2_000))
        garbage = alike(cluster) - before
        assert len(garbage) >= 14
        writers = Writers(cluster)
        try:
            for key in doomed:
                cluster[2].s3.delete_object(Bucket="home", Key=key)
            cluster[0].s3.abort_multipart_upload(Bucket="home", Key="never", UploadId=upload)
            began = time.monotonic()
            gone(cluster, garbage)
            print(f"freed on all disks after {time.monotonic() - began:.0f} s, {writers.writes} writes meanwhile")
            # And on, while what the writers have replaced is swept again and again.
            until(lambda: time.monotonic() - began > 60, FREED_WITHIN, "some more sweeps")
        finally:
            writers.end()
        assert writers.kept
        for home in cluster:
            assert home.get("stays") == bytes_of(3 * MIB, 99)
            for key, body in writers.kept.items():
                assert home.get(key) == body, (home.name, key)
        for key in [*writers.kept, "stays"]:
            cluster[0].s3.delete_object(Bucket="home", Key=key)
        until(lambda: not any(blocks(home) for home in cluster), FREED_WITHIN, "nothing is left on any disk")


def test_a_disk_that_was_away_is_cleared_too_and_gives_nothing_back():
    with Cluster.of(3) as cluster:
        cluster[0].put("stays", bytes_of(MIB, 1))
        before = alike(cluster)
        cluster[0].put("doomed", bytes_of(9 * MIB, 2))
        garbage = alike(cluster) - before
        cluster[2].kill_tree()
        cluster[1].s3.delete_object(Bucket="home", Key="doomed")
        until(lambda: not any(blocks(home) & garbage for home in (cluster[0], cluster[1])), FREED_WITHIN, "the two others free it")
        back = cluster.restart(2)
        assert blocks(back) >= garbage

        def swept():
            # A block must have been found twice, a minute apart; then this node tells the others what its repair may have given them back.
            assert back.trousseau("sweep").returncode == 0
            time.sleep(5)
            return not any(blocks(home) & garbage for home in cluster)

        until(swept, FREED_WITHIN, "all three are free of it")
        assert all(home.get("stays") == bytes_of(MIB, 1) for home in cluster)
