"""A file system of its own for a node's data, small enough to be filled.

    with small_disk() as disk, Home.start(data=disk / "data") as home:
        …
"""

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from home import STOP_WITHIN, until
from samples import MIB

DISK_MIB = 768


@contextmanager
def small_disk():
    """Ext4 in a file. (Not tmpfs: its pages count as memory of the service that wrote them, which then ends at its memory limit.)"""
    place = Path(tempfile.mkdtemp(prefix="trousseau-disk-"))
    place.chmod(0o755)
    image, disk = place / "image", place / "disk"
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_MIB * MIB)
    for command in (["mkfs.ext4", "-q", "-m", "0", image], ["mount", "-o", "loop", image, disk]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(place)
            pytest.skip(f"A FULL DISK IS NOT TESTED: this machine cannot mount a small file system: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        # The last process of a node that was killed may be ending still.
        until(lambda: subprocess.run(["umount", disk], capture_output=True).returncode == 0, STOP_WITHIN, f"{disk} is not in use any more")
        shutil.rmtree(place)
