"""What a disk may hold after the power was cut: computed from the log of everything that a machine wrote and flushed.

QEMU's driver `blklogwrites` logs each write and each flush in the order in which the disk finished them (the format is that of Linux's
dm-log-writes). A disk may lose any write that no flush followed, and may have kept any other: `CutDisk.after` chooses.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from machine import copy_disk

SECTOR = 512
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
MAGIC = 0x6A736677736872


@dataclass
class Entry:
    """One write, flush or discard; `end` is where it ends in the log."""

    sector: int
    sectors: int
    flags: int
    data_at: int
    end: int


class WriteLog:
    """A log that may still be growing."""

    def __init__(self, path):
        self.path = Path(path)

    def position(self):
        """How far the log has got: whatever the machine says after this moment rests on no more than the disk had been given."""
        return os.stat(self.path).st_size

    def entries(self):
        """All of them, in order."""
        entries = []
        with self.path.open("rb") as log:
            magic, version, _, sector_bytes = struct.unpack("<QQQI", log.read(28))
            assert (magic, version, sector_bytes) == (MAGIC, 1, SECTOR), "not a log of writes"
            at, size = SECTOR, self.position()
            while at + SECTOR <= size:
                log.seek(at)
                sector, sectors, flags, _ = struct.unpack("<QQQQ", log.read(32))
                if not sectors and not flags:
                    break  # The cut came before this one was written down.
                data = 0 if flags & DISCARD else sectors * SECTOR
                end = at + SECTOR + data
                if end > size:
                    break
                entries.append(Entry(sector, sectors, flags, at + SECTOR, end))
                at = end
        return entries


class CutDisk:
    """The disk before the log began, and the log: gives the disks that cuts may leave, from the first cut to the last."""

    def __init__(self, before, log):
        self.log = log
        self.entries = log.entries()
        # Everything that is durable for certain, up to the last cut asked for.
        self.durable = copy_disk(before, Path(before).with_name("durable"))
        self.applied = 0

    def flushes(self):
        """The numbers of the entries that are flushes."""
        return [number for number, entry in enumerate(self.entries) if entry.flags & FLUSH]

    def position(self, cut):
        """Where the log stood behind so many entries: what was acknowledged up to here must be there after this cut."""
        return self.entries[cut - 1].end if cut else 0

    def after(self, cut, chance, target):
        """Writes to `target` one disk that a cut behind the first `cut` entries may leave. Cuts are asked for in rising order.

        All that a flush followed is there. Of the writes since the last flush, which the disk held in its memory, each is there, or not,
        or torn at a sector: so later ones may have arrived before earlier ones.
        """
        flushed = max((number + 1 for number in self.flushes() if number < cut), default=0)
        assert flushed >= self.applied, "cuts are asked for in rising order"
        lost = chance.random()  # Sometimes nearly all arrived, sometimes nearly nothing.
        with self.log.path.open("rb") as log:
            with self.durable.open("r+b") as disk:
                for entry in self.entries[self.applied:flushed]:
                    apply(entry, log, disk, entry.sectors)
            self.applied = flushed
            copy_disk(self.durable, target)
            with target.open("r+b") as disk:
                for entry in self.entries[flushed:cut]:
                    if entry.flags & FUA or chance.random() >= lost:
                        torn = not entry.flags & FUA and chance.random() < 0.2
                        apply(entry, log, disk, chance.randint(0, entry.sectors) if torn else entry.sectors)
        return target


def apply(entry, log, disk, sectors):
    """Makes the first `sectors` of a write."""
    disk.seek(entry.sector * SECTOR)
    if entry.flags & DISCARD:
        disk.write(bytes(sectors * SECTOR))
    else:
        log.seek(entry.data_at)
        disk.write(log.read(sectors * SECTOR))
