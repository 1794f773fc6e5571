"""The power is cut while clients write, at many points: nothing acknowledged is lost, and the node comes back by itself.

One machine runs under load on a disk that logs every write and flush; then the log is replayed to many disks that a cut may leave
(power_cut.py). Some of them go into a machine again. Most are looked at faster: the file system's journal is replayed and judged by e2fsck,
and the node is started on the files by `trousseau up`, which is the same program without the machine around it.
"""

import random
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass

import pytest

from home import Home
from machine import Image, Machine, node_toml
from power_cut import CutDisk, WriteLog
from samples import INLINE_MAX, KIB, MIB, PACKED_MAX

LOAD_S = 30
THREADS = 4
KEYS_PER_THREAD = 8
SIZES = [(1, INLINE_MAX), (INLINE_MAX + 1, PACKED_MAX), (PACKED_MAX + 1, 300 * KIB), (MIB, 2 * MIB)]
WEIGHTS = [8, 6, 4, 1]
CUTS_OF_FIRST_BOOT = 1
CUTS_BOOTED = 2
CUTS_JUDGED = 20
DATA_AT = 65 << 20
"""Where `trousseau image` puts the data partition."""

ABSENT = None


@dataclass
class Change:
    """One write or deletion, and where the log of the disk stood before and after it. `after` is None if no answer came."""

    content: bytes | None
    before: int
    after: int | None


class Writer(threading.Thread):
    """Changes keys of its own, one after the other, until the machine is gone."""

    def __init__(self, number, seed, machine, log):
        super().__init__(daemon=True)
        self.chance = random.Random(f"{seed} writer {number}")
        self.client = machine.client(read_timeout=60)
        self.number, self.log = number, log
        self.history = {f"w{number}/{key}": [Change(ABSENT, 0, 0)] for key in range(KEYS_PER_THREAD)}
        self.done = threading.Event()

    def run(self):
        while not self.done.is_set():
            key = self.chance.choice(sorted(self.history))
            content = ABSENT if self.chance.random() < 0.15 else self.body(key)
            change = Change(content, self.log.position(), None)
            self.history[key].append(change)
            try:
                if content is ABSENT:
                    self.client.delete_object(Bucket="home", Key=key)
                else:
                    self.client.put_object(Bucket="home", Key=key, Body=content)
            except Exception:  # noqa: BLE001 - whatever it is called: the power was cut, and this one is in doubt
                return
            change.after = self.log.position()

    def body(self, key):
        low, high = self.chance.choices(SIZES, WEIGHTS)[0]
        head = f"{key} {len(self.history[key])} ".encode()
        return (head + self.chance.randbytes(self.chance.randint(low, high)))[:high]

    def acknowledged(self):
        return sum(change.after is not None for changes in self.history.values() for change in changes) - KEYS_PER_THREAD


def possible(changes, position):
    """What a key may hold on a disk that is cut where the log stood at `position`."""
    begun = [change for change in changes if change.before <= position]
    acknowledged = [number for number, change in enumerate(begun) if change.after is not None and change.after <= position]
    return [change.content for change in begun[max(acknowledged):]]


def check(client, writers, position):
    """Compares every object with what it may be; gives how many there were."""
    seen = 0
    for writer in writers:
        for key, changes in writer.history.items():
            try:
                content = client.get_object(Bucket="home", Key=key)["Body"].read()
                seen += 1
            except client.exceptions.NoSuchKey:
                content = ABSENT
            allowed = possible(changes, position)
            assert content in allowed, (
                f"{key} holds {content[:40] if content else content}, which can only be {[body and body[:40] for body in allowed]}"
            )
    return seen


@pytest.fixture(scope="module")
def recorded(request, tmp_path_factory):
    """A first boot and a time of load, recorded: the disk as it was before, the log, who wrote what, and where the log stood when S3 was ready."""
    seed = request.config.getoption("seed")
    directory = tmp_path_factory.mktemp("power")
    image = Image(node_toml(), size="512M", directory=directory)
    disk = image.copy()
    log = WriteLog(directory / "writes")
    with Machine.start(disk, write_log=log.path) as machine:
        machine.s3.create_bucket(Bucket="home")
        ready = log.position()
        writers = [Writer(number, seed, machine, log) for number in range(THREADS)]
        for writer in writers:
            writer.start()
        time.sleep(LOAD_S)
        machine.cut_power()
        for writer in writers:
            writer.done.set()
            writer.join()
    shutil.rmtree(disk.parent)
    return CutDisk(image.path, log), ready, writers


def cuts(entries, first, last, count, chance):
    """Numbers of entries between two positions of the log, spread evenly, with a different place in each part."""
    inside = [number for number in range(1, len(entries) + 1) if first < entries[number - 1].end <= last]
    assert len(inside) >= count, "the machine has hardly written"
    part = len(inside) / count
    return [inside[int(part * (number + chance.random()))] for number in range(count)]


@pytest.mark.timeout(1200)
def test_no_acknowledged_object_is_lost_by_a_power_cut(recorded, chance, report, tmp_path):
    disk, ready, writers = recorded
    acknowledged = sum(writer.acknowledged() for writer in writers)
    assert acknowledged >= 20, f"only {acknowledged} operations were acknowledged: this proves nothing"
    end = disk.entries[-1].end
    plan = [(cut, boot_first) for cut in cuts(disk.entries, 0, ready, CUTS_OF_FIRST_BOOT, chance)]
    plan += [(cut, boot_again) for cut in cuts(disk.entries, ready, end, CUTS_BOOTED, chance)]
    plan += [(cut, judge) for cut in cuts(disk.entries, ready, end, CUTS_JUDGED, chance)]
    objects = 0
    for cut, look in sorted(plan, key=lambda one: one[0]):
        left = disk.after(cut, chance, tmp_path / "left")
        try:
            objects += look(left, writers, disk.position(cut))
        except BaseException:
            report(f"cut behind entry {cut} of {len(disk.entries)} (flushes: {len(disk.flushes())})")
            raise
    report(
        f"{len(plan)} cuts of {len(disk.entries)} writes and flushes ({len(disk.flushes())} flushes): "
        f"{acknowledged} operations acknowledged, {objects} objects found again",
    )


def boot_first(disk, _writers, _position):
    """A cut during the first boot: the next one finishes what it began."""
    with Machine.start(disk) as machine:
        machine.put("hello", b"after all")
        assert machine.get("hello") == b"after all"
    return 0


def boot_again(disk, writers, position):
    with Machine.start(disk) as machine:
        seen = check(machine.s3, writers, position)
        machine.put("hello", b"after all")
        assert machine.get("hello") == b"after all"
    return seen


def judge(disk, writers, position):
    """The journal is replayed; then nothing may be wrong with the file system, nor with what is in it."""
    # Alone, since e2fsck forgets where a partition begins when it has replayed the journal.
    partition, data = disk.with_name("partition"), disk.with_name("data")
    subprocess.run(["dd", f"if={disk}", f"of={partition}", "bs=1M", f"skip={DATA_AT >> 20}", "conv=sparse"], check=True, capture_output=True)
    replayed = subprocess.run(["/sbin/e2fsck", "-y", "-E", "journal_only", partition], capture_output=True, text=True)
    assert replayed.returncode in (0, 1), replayed.stdout + replayed.stderr
    judged = subprocess.run(["/sbin/e2fsck", "-fn", partition], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout
    data.mkdir()
    subprocess.run(["/sbin/debugfs", "-R", f"rdump / {data}", partition], check=True, capture_output=True)
    partition.unlink()
    shutil.rmtree(data / "lost+found")
    with Home.start(data=data) as home:
        seen = check(home.s3, writers, position)
    shutil.rmtree(data, ignore_errors=True)
    return seen
