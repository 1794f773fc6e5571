#!/usr/bin/env python3
"""Makes data.template: the empty ext4 file system that a first boot writes to the data partition and then grows.

    init/machine/ext4/make-template.py        (needs mke2fs 1.47 or later; the same version gives the same bytes)

Format: the number of pieces, then each piece, all little-endian: u32 number of a 64-byte piece, and its 64 bytes. Whatever is not listed is zero.
"""
import os, struct, subprocess, tempfile
from pathlib import Path

MIB = 128                       # ext4::TEMPLATE_BYTES
FEATURES = ",".join([
    "verity",                   # blocks can be sealed by their hash
    "metadata_csum_seed",       # the UUID may be changed without rewriting every checksum
    "meta_bg", "^resize_inode", # grows to any size: no table has to be reserved for it
    "64bit",
])
ONE = "74726f75-7373-4561-8075-646174610002"

with tempfile.TemporaryDirectory() as directory:
    image = Path(directory) / "image"
    subprocess.run(
        ["/sbin/mke2fs", "-q", "-t", "ext4", "-b", "4096", "-I", "256", "-O", FEATURES, "-L", "trousseau-data", "-U", ONE,
         "-i", "65536",         # few, large files: an inode table of 0.4 % instead of 1.6 %
         "-m", "0",             # nobody here is root enough to use a reserve
         "-e", "remount-ro",    # ext4.rs says why
         "-J", "size=32",       # fixed for life; enough for grouped commits, little on a stick
         "-E", f"lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0,hash_seed={ONE}",
         str(image), f"{MIB}M"],
        check=True, env={"E2FSPROGS_FAKE_TIME": "1", "PATH": os.environ["PATH"]})
    data = image.read_bytes()

pieces = [struct.pack("<I", at // 64) + data[at:at + 64] for at in range(0, len(data), 64) if data[at:at + 64].count(0) != 64]
target = Path(__file__).with_name("data.template")
target.write_bytes(struct.pack("<I", len(pieces)) + b"".join(pieces))
print(target, len(pieces), "pieces,", target.stat().st_size, "bytes")
