"""A whole computer, emulated by QEMU: UEFI firmware starts the image that `trousseau image` made, as a PC would.

    with Machine.start(disk=image.copy()) as machine:
        machine.put("hello", b"bytes")
        machine.press_power_button()
        machine.until_off()

Nothing on it but what the image brings; the tests see its console (the serial line), its S3 and its ssh through forwarded ports of
127.0.0.1, and its power button. QEMU is ended by the pid that we started, by nothing else.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from home import Store, free_port, program, s3_client, until

FIRMWARE = Path("/usr/share/OVMF")
ACCESS_KEY = "GKaaaabbbbccccdddd"
SECRET_KEY = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

BOOT_WITHIN = 240
OFF_WITHIN = 120
"""Seconds, for an emulated processor on a busy machine; what it really took is printed."""

READY = re.compile(r"trousseau: ready name=(\S+) s3=(\S+)")
SERVES = re.compile(r"trousseau: serves (\d+) ms after the kernel began, (\d+) ms after init did")
KERNEL_ENTRY = "Linux version "
FIRMWARE_LINE = "BdsDxe: starting "

PROCESSOR = "max,-tsc,-tsc-deadline"
BOARD = "q35,hpet=off"
"""Everything that QEMU can emulate, but for two clocks. The kernel measures the speed of the time stamp counter against another timer, which
goes wrong by a factor where emulation is preempted, and its clock with it; and an emulated HPET that is late for its own
first tick never ticks. Without them the ACPI timer and the oldest of all timers serve."""

DISKS = {
    "virtio": ["-device", "virtio-blk-pci,drive=disk,write-cache=on"],
    "nvme": ["-device", "nvme,drive=disk,serial=trousseau"],
    "sata": ["-device", "ide-hd,drive=disk"],
    "usb": ["-device", "qemu-xhci", "-device", "usb-storage,drive=disk"],
}
"""What the disk hangs on. q35 has an AHCI controller of its own."""


def node_toml(name="attic", more="", admin=(), s3="", clock=()):
    """The text of a configuration with the keys that these tests use. `clock`: time servers; the public ones are not asked by tests."""
    return f"""\
name = "{name}"
{more}
[clock]
servers = {json.dumps(list(clock))}
[s3]
access_key = "{ACCESS_KEY}"
secret_key = "{SECRET_KEY}"
{s3}
[ssh]
admin = {json.dumps(list(admin))}
"""


class Image:
    """A disk image as a person gets it: made once, written to a disk of its own for every machine."""

    def __init__(self, text, size="1G", services=(), directory=None, built=None):
        """`text`: of node.toml. `services`: manifests for --service. `built`: another build."""
        self.directory = Path(directory or tempfile.mkdtemp(prefix="trousseau-image-"))
        self.path = self.directory / "node.img"
        configuration = self.directory / "node.toml"
        configuration.write_text(text)
        done = make_image("--node", configuration, "-o", self.path, "--size", size, "--json",
                          *(word for manifest in services for word in ("--service", manifest)), built=built)
        assert done.returncode == 0, done.stderr
        self.facts = json.loads(done.stdout)

    def copy(self, name="disk"):
        """A fresh disk with this image on it."""
        return copy_disk(self.path, Path(tempfile.mkdtemp(prefix="trousseau-disk-")) / name)

    def remove(self):
        shutil.rmtree(self.directory)


def make_image(*words, built=None):
    """`trousseau image WORDS…`; with the kernel that the variable TROUSSEAU_KERNEL names, if it is there."""
    given = os.environ.get("TROUSSEAU_KERNEL")
    words = [*words, *(("--kernel", given) if given else ())]
    command = [built or program(), "image", *map(str, words)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def copy_disk(source, target):
    """With its holes."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)
    return target


class Machine(Store):
    """A running computer. `Machine.start(disk)` switches it on and waits for S3."""

    running = []  # Machines that are not ended: conftest.py shows their consoles when a test fails.

    @classmethod
    def start(cls, disk, **options):
        """Options: see `__init__`."""
        machine = cls(disk, **options)
        try:
            machine.switch_on()
            machine.until_ready()
        except BaseException:
            machine.end()
            raise
        return machine

    def __init__(self, disk, bus="virtio", card="virtio-net-pci", write_log=None, memory_mb=512, processors=2, devices=()):
        """`bus`: one of DISKS. `card`: QEMU's name of a network card. `write_log`: a file that gets every write and every flush."""
        self.own = Path(tempfile.mkdtemp(prefix="trousseau-machine-"))
        self.disk = Path(disk)
        self.bus, self.card, self.write_log = bus, card, write_log
        self.memory_mb, self.processors, self.devices = memory_mb, processors, list(devices)
        self.port, self.ssh_port = free_port(), free_port()
        self.console_path = self.own / "console"
        self.process = None
        self._s3 = None
        self.seen = 0
        # The firmware writes its settings (the boot order) into a copy of the empty ones.
        shutil.copy(FIRMWARE / "OVMF_VARS_4M.fd", self.own / "settings")

    def switch_on(self):
        """Starts the machine and waits for nothing."""
        drive = f"file,filename={self.disk},cache.no-flush=on"  # the disk outlives QEMU, not the host
        if self.write_log:
            Path(self.write_log).touch()
            block = f"driver=blklogwrites,node-name=disk,file.driver={drive.replace(',', ',file.')}"
            block += f",log.driver=file,log.filename={self.write_log},log.cache.no-flush=on"
        else:
            block = f"driver=raw,node-name=disk,file.driver={drive.replace(',', ',file.')}"
        forwards = f"hostfwd=tcp:127.0.0.1:{self.port}-:3900,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"
        settings = self.own / "settings"
        # QEMU begins it anew, but not at once: nobody is to find in it what the machine said in the life before.
        self.console_path.unlink(missing_ok=True)
        self.seen = 0
        self.process = subprocess.Popen([
            "qemu-system-x86_64", "-name", "trousseau", "-nodefaults", "-display", "none",
            "-machine", BOARD, "-accel", "tcg,thread=multi", "-cpu", PROCESSOR,
            "-smp", str(self.processors), "-m", str(self.memory_mb),
            "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE / 'OVMF_CODE_4M.fd'}",
            "-drive", f"if=pflash,format=raw,unit=1,file={settings}",
            "-blockdev", block, *DISKS[self.bus],
            "-netdev", f"user,id=net,{forwards}", "-device", f"{self.card},netdev=net,romfile=",
            "-serial", f"file:{self.console_path}",
            "-qmp", f"unix:{self.own / 'qmp'},server=on,wait=off",
            "-gdb", f"unix:{self.own / 'debugger'},server=on,wait=off",
            *self.devices,
        ], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=(self.own / "qemu").open("w"))
        self.switched_on = time.monotonic()
        if self not in Machine.running:
            Machine.running.append(self)

    # The console.

    def console(self):
        """Everything that stood on the serial console so far, without what only moves the cursor."""
        with suppress(FileNotFoundError):
            text = self.console_path.read_text(errors="replace")
            return re.sub(r"\x1b\[[0-9;=?]*[A-Za-z]", "", text).replace("\r", "")
        return ""

    def until_console(self, pattern, within=BOOT_WITHIN):
        """Waits for a line behind those already waited for; gives the match."""
        def found():
            match = re.compile(pattern).search(self.console(), self.seen)
            if not match and self.process.poll() is not None:
                raise AssertionError(f"QEMU ended ({self.process.returncode}): {(self.own / 'qemu').read_text()}\n{self.console()[-3000:]}")
            return match

        match = until(found, within, f"{pattern!r} on the console, which says:\n{self.console()[-6000:]}")
        self.seen = match.end()
        return match

    def until_ready(self):
        """Waits until the machine says that it serves; keeps how long it took: `boot_s` since the kernel's first line, as seen from outside,
        and as the machine itself counts since the beginning of its kernel (`kernel_ms`) and of its init (`init_ms`)."""
        self.until_console(KERNEL_ENTRY)
        begin = time.monotonic()
        self.firmware_s = begin - self.switched_on
        serves = self.until_console(SERVES)
        match = self.until_console(READY)
        self.boot_s = time.monotonic() - begin
        self.kernel_ms, self.init_ms = int(serves[1]), int(serves[2])
        self.name, self.s3_address = match.group(1), match.group(2)
        return self

    def until_serving(self, within=BOOT_WITHIN):
        """Waits until an object can be put and read, whatever the console says."""
        def serves():
            assert self.is_on(), f"QEMU ended: {(self.own / 'qemu').read_text()}"
            try:
                self.put("until-serving", b"x" * 40_000)
                return self.get("until-serving") == b"x" * 40_000
            except (ClientError, BotoCoreError, HTTPClientError):
                return False

        until(serves, within, f"S3 serves; the console says:\n{self.console()[-6000:]}")

    # The power.

    def _monitor(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(30)
            monitor.connect(str(self.own / "qmp"))
            lines = monitor.makefile("rw")
            lines.readline()  # the greeting
            for words in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                lines.write(json.dumps(words))
                lines.flush()
                while "return" not in (answer := json.loads(lines.readline())):
                    assert "event" in answer, answer

    def press_power_button(self):
        """As a finger would: the machine decides what follows."""
        self._monitor("system_powerdown")

    def press_keys(self, *keys):
        """On the keyboard, together; QEMU's names."""
        self._monitor("send-key", keys=[{"type": "qcode", "data": key} for key in keys])

    def until_ready_again(self):
        """Waits for the next start. Connections of the life before lead nowhere: QEMU still has them, and the machine knows of none."""
        self.until_console(FIRMWARE_LINE)
        self._s3 = None
        self.switched_on = time.monotonic()
        return self.until_ready()

    def until_off(self, within=OFF_WITHIN):
        """Waits until the machine has switched itself off."""
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still on after {within} s:\n{self.console()[-3000:]}") from None
        assert status == 0, f"QEMU ended with {status}"
        self._forget()

    def cut_power(self):
        """Now. What the disk was not told to keep may be lost (see power_cut.py)."""
        self.process.kill()
        self.process.wait()
        self._forget()

    def is_on(self):
        return self.process is not None and self.process.poll() is None

    def _forget(self):
        self._s3 = None
        self.seen = len(self.console())
        if self in Machine.running:
            Machine.running.remove(self)

    def end(self):
        """Cuts the power if it is still on, and forgets all but the disk."""
        if self.is_on():
            self.cut_power()
        if self in Machine.running:
            Machine.running.remove(self)
        shutil.rmtree(self.own, ignore_errors=True)

    last_words = None

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        if failure[0]:
            Machine.last_words = f"console of {self.own.name}:\n" + "\n".join(self.console().splitlines()[-200:])
        self.end()

    # What a client sees.

    def client(self, **config):
        """A boto3 client for the key of node.toml; an emulated processor gets time to answer."""
        settings = {"connect_timeout": 30, "max_pool_connections": 32} | config
        return s3_client(f"http://127.0.0.1:{self.port}", ACCESS_KEY, SECRET_KEY, "us-east-1", **settings)

    @property
    def s3(self):
        if self._s3 is None:
            self._s3 = self.client()
        return self._s3

    # What the operator sees.

    def ssh(self, key, *words, user="root", options=(), timeout=180):
        """OpenSSH's client with a private key and nothing of the person's own configuration; gives the finished process."""
        command = ["ssh", "-F", "none", "-p", str(self.ssh_port), "-i", str(key)]
        for option in ("IdentitiesOnly=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"):
            command += ["-o", option]
        command += [*options, f"{user}@127.0.0.1", *map(str, words)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)


@cache
def ssh_key(name="admin"):
    """A fresh key pair of this run; gives the path of its private half."""
    directory = Path(tempfile.mkdtemp(prefix="trousseau-key-"))
    path = directory / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)
    return path


def public(key):
    """The line for node.toml of a key pair."""
    return key.with_suffix(".pub").read_text().strip()
