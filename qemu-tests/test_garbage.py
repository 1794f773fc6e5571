"""What is deleted is freed on every disk of a cluster, also while others write the same bytes, and also on a disk that was away. Nothing that is referenced is lost."""

import time

from cluster import KNOWN_WITHIN, Cluster, Writers
from home import until
from samples import MIB, bytes_of

FREED_WITHIN = 300
LOOK_EVERY = 30
"""Seconds: garbage is left alone for one minute, and looked at twice in each (services/metadata/src/sweep/shared.rs)."""
COPIED_WITHIN = 120

BODIES = [bytes_of(size, number) for number, size in enumerate((20_000, 70_000, MIB, 5 * MIB))]


def blocks(home):
    return set(home.blocks())


def until_swept(homes, is_free, what):
    """Waits until that is so. These homes are told to look now, again and again, instead of twice in a minute."""
    def swept():
        for home in homes:
            done = home.trousseau("sweep")
            assert done.returncode == 0, done.stderr
        time.sleep(5)
        return is_free()

    until(swept, FREED_WITHIN, what)


def test_what_is_deleted_is_freed_on_all_disks_while_others_write():
    with Cluster.of(3) as cluster:
        cluster[0].put("stays", bytes_of(3 * MIB, 99))
        before = cluster.until_alike(COPIED_WITHIN)
        doomed = [f"doomed/{number}" for number in range(12)]
        for number, key in enumerate(doomed):
            cluster[number % 3].put(key, bytes_of(MIB + number, 1_000 + number))
        upload = cluster[1].s3.create_multipart_upload(Bucket="home", Key="never")["UploadId"]
        cluster[1].s3.upload_part(Bucket="home", Key="never", UploadId=upload, PartNumber=1, Body=bytes_of(6 * MIB, 2_000))
        garbage = cluster.until_alike(COPIED_WITHIN) - before
        assert len(garbage) >= 14
        kept = {}

        def write(number, turn):
            """The same few contents, again and again, and now and then none."""
            key, body = f"busy-{number}/{turn % 7}", BODIES[(turn + number) % len(BODIES)]
            cluster[number].s3.put_object(Bucket="home", Key=key, Body=body)
            kept[key] = body
            if turn % 3 == 0:
                cluster[number].s3.delete_object(Bucket="home", Key=key)
                del kept[key]

        with Writers(3, write) as writers:
            for key in doomed:
                cluster[2].s3.delete_object(Bucket="home", Key=key)
            cluster[0].s3.abort_multipart_upload(Bucket="home", Key="never", UploadId=upload)
            began = time.monotonic()
            until(lambda: not any(blocks(home) & garbage for home in cluster), FREED_WITHIN, "the garbage is gone from every disk")
            print(f"freed on all disks after {time.monotonic() - began:.0f} s, {sum(writers.done)} writes meanwhile")
            # And on, while what the writers have replaced is looked at once more.
            time.sleep(LOOK_EVERY)
        assert kept
        for home in cluster:
            assert home.get("stays") == bytes_of(3 * MIB, 99)
            for key, body in kept.items():
                assert home.get(key) == body, (home.name, key)
        for key in [*kept, "stays"]:
            cluster[0].s3.delete_object(Bucket="home", Key=key)
        until_swept(cluster, lambda: not any(blocks(home) for home in cluster), "nothing is left on any disk")


def test_a_disk_that_was_away_is_cleared_too_and_gives_nothing_back():
    with Cluster.of(3) as cluster:
        cluster[0].put("stays", bytes_of(MIB, 1))
        before = cluster.until_alike(COPIED_WITHIN)
        cluster[0].put("doomed", bytes_of(9 * MIB, 2))
        garbage = cluster.until_alike(COPIED_WITHIN) - before
        cluster[2].kill_tree()
        left = [cluster[0], cluster[1]]
        cluster[1].s3.delete_object(Bucket="home", Key="doomed")
        until(lambda: not any(home.trousseau("sweep").returncode for home in left), KNOWN_WITHIN, "the two lead all shards")
        until_swept(left, lambda: not any(blocks(home) & garbage for home in left), "the two others free it")
        back = cluster.restart(2)
        assert blocks(back) >= garbage
        # A block must have been found twice, a minute apart; then this node tells the others what its repair may have given them back.
        until_swept(cluster, lambda: not any(blocks(home) & garbage for home in cluster), "all three are free of it")
        assert all(home.get("stays") == bytes_of(MIB, 1) for home in cluster)
