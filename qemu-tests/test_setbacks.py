"""Setbacks of one home that the others make good: the end of any process, a long absence, a full disk, damaged blocks, a damaged database."""

import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from cluster import SHARDS, Cluster
from faults import PROCESSES
from home import START_WITHIN, STOP_WITHIN, until
from samples import MIB, bytes_of, keys_of, refused
from small_disk import small_disk

AGAIN_WITHIN = 120
LOG_KEPT = 2_048
"""Entries of a shard's log that are kept for nodes that are away (services/metadata/src/raft/group.rs)."""


@pytest.mark.parametrize("name", PROCESSES)
def test_each_process_of_a_home_may_end_at_any_time(cluster, name):
    """Among other nodes, too: init ends the node, everybody else is started anew and the node goes on."""
    home = cluster[1]
    home.put("before", name.encode())
    home.kill(name)
    if name == "init":
        home.launcher.wait(STOP_WITHIN)
        cluster.restart(1)
    home.until_serving()
    assert home.launcher.poll() is None
    assert home.get("before") == cluster[0].get("before") == name.encode()
    until(lambda: all(service["state"] == "ready" for service in home.services().values()), START_WITHIN, "all of its processes run")


def test_a_home_that_was_away_for_long_has_everything_when_it_is_back(cluster, report):
    """For longer than the others keep the log for it: it gets the rows themselves."""
    cluster[0].put("kept/before", b"before")
    cluster[0].put("gone/before", b"before")
    cluster[2].kill_tree()
    cluster[0].s3.delete_object(Bucket="home", Key="gone/before")

    def write(number):
        home = cluster[number % 2]
        home.put(f"kept/{number:05}", b"%d" % number)
        if number % 100 == 0:
            home.put(f"large/{number:05}", bytes_of(100_000, number))

    count = LOG_KEPT * 3 // 2
    begin = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(count)))
    report(f"{count} puts without it: {time.monotonic() - begin:.1f} s")
    begin = time.monotonic()
    back = cluster.restart(2)
    back.until_serving()
    report(f"it serves again after {time.monotonic() - begin:.1f} s")
    # It has a vote and the rows: with it, either of the others can be done without.
    for other in (1, 0):
        cluster.until_alike(AGAIN_WITHIN)
        cluster[other].kill_tree()
        listed = [key for page in back.s3.get_paginator("list_objects_v2").paginate(Bucket="home", Prefix="kept/") for key in keys_of(page)]
        assert listed == [*(f"kept/{number:05}" for number in range(count)), "kept/before"]
        assert keys_of(back.s3.list_objects_v2(Bucket="home", Prefix="gone/")) == []
        assert back.get("kept/01234") == b"1234"
        for number in range(0, count, 100):
            assert back.get(f"large/{number:05}") == bytes_of(100_000, number)
        cluster.restart(other).until_serving()


def test_damaged_blocks_are_mended_from_the_other_homes(cluster, chance, report):
    objects = {f"blocks/{number}": bytes_of(size, number) for number, size in enumerate([20_000, 70_000, MIB, 5 * MIB, 9 * MIB, 60_000])}
    before = cluster.until_alike(AGAIN_WITHIN)
    for number, (key, body) in enumerate(objects.items()):
        cluster[number % 3].put(key, body)
    cluster.until_alike(AGAIN_WITHIN)
    damaged = cluster[1]
    damaged.kill_tree()
    harm = {}
    files = [(name, path) for name, path in sorted(damaged.blocks().items()) if name not in before]
    for number, (name, path) in enumerate(files):
        kind = ["a changed byte", "a shorter file", "no bytes", "no file"][number % 4]
        harm[name] = kind
        size = path.stat().st_size
        if kind == "a changed byte":
            with path.open("r+b") as file:
                at = chance.randrange(size)
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << chance.randrange(8)]))
        elif kind == "no file":
            path.unlink()
        else:
            os.truncate(path, size // 2 if kind == "a shorter file" else 0)
    report(f"{len(harm)} blocks were damaged")
    back = cluster.restart(1)
    for key, body in objects.items():
        assert back.get(key) == body, key

    def is_right(name):
        try:
            return back.blocks()[name].read_bytes() == cluster[0].blocks()[name].read_bytes()
        except (KeyError, FileNotFoundError):
            return False

    until(lambda: all(map(is_right, harm)), AGAIN_WITHIN, "the blocks on the disk are right again")


def test_a_home_with_a_damaged_database_does_not_serve_it_and_says_what_to_do(chance):
    with Cluster.of(3) as cluster:
        kept = {f"kept/{number}": bytes_of(3_000, number) for number in range(200)}
        for number, (key, body) in enumerate(kept.items()):
            cluster[number % 3].put(key, body)
        damaged = cluster[1]
        damaged.kill_tree()
        files = [path for path in (damaged.data / "metadata").rglob("*") if path.is_file() and path.stat().st_size > 1_000]
        for path in files:
            with path.open("r+b") as file:
                for at in range(500, path.stat().st_size, 1_500):
                    file.seek(at)
                    file.write(chance.randbytes(4))
        damaged.run(await_ready=False)
        until(lambda: "metadata/db in the data directory is damaged, and nothing of it is served" in damaged.log(), START_WITHIN, "it says so")
        with pytest.raises((ClientError, BotoCoreError)):
            damaged.client(read_timeout=5).get_object(Bucket="home", Key="kept/0")
        for home in (cluster[0], cluster[2]):
            assert all(home.get(key) == body for key, body in kept.items())
        # What the words say to do.
        damaged.kill_tree()
        assert cluster[0].trousseau("node", "revoke", "n1").returncode == 0
        anew = cluster.add(zone="z1")
        cluster.assign(anew, AGAIN_WITHIN)
        for words in (("remove", "n1"), ("apply",)):
            until(lambda: cluster[0].trousseau("layout", *words).returncode == 0, AGAIN_WITHIN, f"layout {words}")
        told = re.compile(rf"shard (\d): the voters are .*\b{anew.name}\b")
        until(lambda: len({shard for home in cluster for shard in told.findall(home.log())}) == SHARDS, AGAIN_WITHIN, "it has a vote in each shard")
        cluster[2].kill_tree()
        for key, body in kept.items():
            assert anew.get(key) == body


def test_a_home_with_a_full_disk_does_not_hold_up_the_others(report):
    """It serves reads, too, of what it could not keep; of its reserve a part is left for that, and another one for what metadata needs."""
    with small_disk() as disk, Cluster.of(2) as cluster:
        full = cluster.add(zone="z2", data=disk / "data")
        cluster.spread(3)
        kept = {}

        def put(home, key, size):
            home.put(key, bytes_of(size, len(kept)))
            kept[key] = bytes_of(size, len(kept))

        for number in range(6):
            put(cluster[number % 3], f"before/{number}", 300_000)
        cluster.until_alike(AGAIN_WITHIN)
        blocks_before = full.blocks().keys()
        filler = disk / "filler"
        reserve = shutil.disk_usage(disk).total // 8

        def free():
            return shutil.disk_usage(disk).free

        def fill_up_to(left):
            """Until so many bytes are free."""
            filler.touch()
            subprocess.run(["fallocate", "-l", str(filler.stat().st_size + free() - left), filler], check=True)

        fill_up_to(reserve * 3 // 4)
        for number in range(30):
            put(cluster[number % 2], f"during/{number}", [2_000, 40_000, MIB, 5 * MIB][number % 4])
        for size in (40_000, MIB):
            with refused("InsufficientStorage", 507):
                full.put("refused", bytes_of(size, 0))
        put(full, "during/small", 2_000)
        free_before = free()
        report(f"{free_before >> 10} KiB are free on the full disk, {reserve >> 11} KiB are metadata's")
        for home in cluster:
            assert all(home.get(key) == body for key, body in kept.items()), home.name
        # Several readers at a time, who wait for each other's room.
        large = [key for key, body in kept.items() if len(body) == 5 * MIB]
        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(lambda key: full.get(key) == kept[key], large))
        assert full.blocks().keys() == blocks_before, "nothing of that is kept there"
        assert free() > reserve // 2, "that is not for blocks"
        # What is read twice in a moment is held for another one (object-http/blocks/remembered.rs).
        until(lambda: free() > free_before - 4 * MIB, AGAIN_WITHIN, "its space is free again")
        # Where that part of the reserve is gone, too, the others serve.
        fill_up_to(8 * MIB)
        put(cluster[0], "during/last", MIB)
        with refused("ServiceUnavailable", 503):
            full.get("during/last")
        for home in (cluster[0], cluster[1]):
            assert all(home.get(key) == body for key, body in kept.items()), home.name
        filler.unlink()
        cluster.until_alike(AGAIN_WITHIN)
        assert all(full.get(key) == body for key, body in kept.items())
        assert full.restarts()["metadata"] == 0
        full.put("after", b"room again")
        for home in cluster:
            assert home.get("after") == b"room again"
