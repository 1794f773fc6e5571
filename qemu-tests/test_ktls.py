"""TLS in the machine's kernel between two processes that were given descriptors (qemu-tests/ktls is the program; it is all there is in the machine)."""

import os
import subprocess
from pathlib import Path

from home import REPOSITORY, program
from machine import BOARD, PROCESSOR

ENDINGS = {"hang-up": "it was hung up in order", "crash": "it was cut off", "half-message": "it was cut off"}
"""How a client may end its connection, and what the server at the other node finds."""
CIPHERS = ["AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305"]


def kernel():
    """Where the machine's kernel is; it is built if need be."""
    given = os.environ.get("TROUSSEAU_KERNEL")
    built = given or subprocess.run([REPOSITORY / "init/kernel/build"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return Path(built) / "bzImage"


def test_two_processes_that_know_of_no_tls_speak_it(tmp_path):
    init = tmp_path / "init"
    init.write_bytes(program("ktls").read_bytes())
    init.chmod(0o755)
    initramfs = tmp_path / "initramfs"
    with initramfs.open("wb") as file:
        packed = subprocess.Popen(["cpio", "-o", "--quiet", "-H", "newc", "-D", tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        compressed = subprocess.Popen(["lz4", "-l", "-c"], stdin=packed.stdout, stdout=file)
        packed.stdin.write(b"init\n")
        packed.stdin.close()
        assert (packed.wait(), compressed.wait()) == (0, 0)
    done = subprocess.run([
        "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot", "-machine", BOARD, "-accel", "tcg", "-cpu", PROCESSOR, "-m", "256",
        "-kernel", kernel(), "-initrd", initramfs, "-serial", "stdio",
    ], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    said = [line.split("ktls: ")[1].strip() for line in done.stdout.splitlines() if "ktls: " in line]
    expected = []
    for cipher in CIPHERS:
        expected += [f"{cipher}, both ends have keys", "the reader found the text"]
        expected += [f"{cipher}, the reader has none", "the reader found a record of TLS"]
    # The bus's own code, and two services that talk as between nodes.
    expected += ["the bus finds that the kernel does TLS"]
    for ending, found in ENDINGS.items():
        expected += [f"{ending}: the answer is the question: true", f"the server found: {found}"]
    assert said == [*expected, "that was all"], done.stdout + done.stderr
