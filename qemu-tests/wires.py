"""What joins homes that stand apart: network namespaces, one for each home, and a wire between any two that can be cut, slow and lossy.

Run as a process of its own by homes.py: it makes the namespaces, which nobody else names, so that they end with it whatever becomes of the tests.
The machine's own network is not touched. Each home has a TUN device, whose other end is here: every packet between two homes passes `Wires.forward`.
(Not tc-netem(8): most kernels of test machines lack it, and it knows a device, not a direction between two.) Besides, each home has a device that
leads to the clients only, for S3.

Speaks lines of JSON: on its input commands, on its output one answer to each.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
MTU = 9000
"""Large, because each packet costs a turn of this program."""
HELD_MAX = 20_000
"""Packets under way; those beyond are lost, as in a router."""
ECHO_S = 0.05
"""A packet that comes twice comes for the second time within this."""

LIBC = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    """A function of libc that gives -1 at failure."""
    if getattr(LIBC, name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def enter(namespace):
    """This thread, and what it starts from now on, is in the network of this descriptor."""
    call("setns", namespace, CLONE_NEWNET)


def new_namespace():
    """A network of its own; this process is in it, and has its descriptor."""
    call("unshare", CLONE_NEWNET)
    ip("link", "set", "lo", "up")
    return os.open("/proc/self/ns/net", os.O_RDONLY)


def ip(*words):
    """ip(8) in the present namespace."""
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(map(str, words))}: {done.stderr.strip()}")


def mesh_address(number, line=0):
    """Where the home is for other homes; its line may get another address. In the range for tests of networks, RFC 2544."""
    return f"198.18.{line}.{number + 1}"


def clients_address(number):
    """Where the home is for its clients."""
    return f"198.19.{number}.1"


def tun():
    """A TUN device in the present namespace."""
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", b"mesh", IFF_TUN | IFF_NO_PI))
    ip("link", "set", "mesh", "mtu", MTU, "txqueuelen", 5_000, "up")
    ip("route", "add", "198.18.0.0/16", "dev", "mesh")
    return end


class Wires:
    """Homes are numbers from 0 on. A `fault` is of one direction between two: `cut`, `delay` and `jitter` in seconds, `loss` and `twice` as probabilities."""

    def __init__(self, homes):
        self.clients = new_namespace()
        self.homes, self.ends, self.faults, self.lines = [], [], {}, {}
        for number in range(homes):
            home = new_namespace()
            self.homes.append(home)
            self.ends.append(tun())
            self.change_line(number, 0)
            ip("link", "add", "s3", "type", "veth", "peer", "name", f"home{number}", "netns", f"/proc/{os.getpid()}/fd/{self.clients}")
            ip("address", "add", f"{clients_address(number)}/24", "dev", "s3")
            ip("link", "set", "s3", "up")
            enter(self.clients)
            ip("address", "add", f"198.19.{number}.2/24", "dev", f"home{number}")
            ip("link", "set", f"home{number}", "up")
        self.chance = random.Random()
        self.capture = None
        self.under_way, self.count = [], 0
        self.last_due = {}

    def change_line(self, number, line):
        """The home has this address from now on, and no other."""
        enter(self.homes[number])
        ip("address", "flush", "dev", "mesh")
        ip("address", "add", f"{mesh_address(number, line)}/32", "dev", "mesh")
        ip("route", "replace", "198.18.0.0/16", "dev", "mesh", "src", mesh_address(number, line))
        self.lines = {address: home for address, home in self.lines.items() if home != number}
        self.lines[bytes(map(int, mesh_address(number, line).split(".")))] = number

    def obey(self, order):
        """A command: `faults` replaces all faults, `line` gives a home another address, `capture` keeps every packet in a file."""
        if "faults" in order:
            self.chance = random.Random(order.get("seed"))
            self.faults = {(one, other): fault for one, other, fault in order["faults"]}
        if "line" in order:
            self.change_line(*order["line"])
        if "capture" in order:
            if self.capture:
                self.capture.close()
            self.capture = open(order["capture"], "wb") if order["capture"] else None
        return {}

    def forward(self, one, packet):
        """A packet from this home."""
        other = self.lines.get(packet[16:20])
        if packet[0] >> 4 != 4 or other is None or other == one:
            return
        if self.capture:
            self.capture.write(packet)
        way = (one, other)
        fault = self.faults.get(way)
        if not fault and not self.under_way:
            return self.deliver(other, packet)
        fault = fault or {}
        if fault.get("cut") or self.chance.random() < fault.get("loss", 0) or len(self.under_way) > HELD_MAX:
            return
        # Packets of one direction do not overtake each other, but for those that come twice.
        due = time.monotonic() + fault.get("delay", 0) + self.chance.random() * fault.get("jitter", 0)
        due = self.last_due[way] = max(due, self.last_due.get(way, 0))
        self.hold(due, other, packet)
        if self.chance.random() < fault.get("twice", 0):
            self.hold(due + self.chance.random() * ECHO_S, other, packet)

    def hold(self, due, other, packet):
        self.count += 1
        heapq.heappush(self.under_way, (due, self.count, other, packet))

    def deliver(self, other, packet):
        try:
            os.write(self.ends[other], packet)
        except OSError:
            pass  # Nobody is at home, or its queue is full: lost.

    def serve(self):
        """Until its input ends."""
        poll = select.epoll()
        by_end = {end: number for number, end in enumerate(self.ends)}
        for end in [0, *self.ends]:
            poll.register(end, select.EPOLLIN)
        orders = b""
        while True:
            wait = self.under_way[0][0] - time.monotonic() if self.under_way else 1
            for end, _ in poll.poll(max(0, wait)):
                if end == 0:
                    said = os.read(0, 65_536)
                    if not said:
                        return
                    *lines, orders = (orders + said).split(b"\n")
                    for line in lines:
                        tell(self.obey(json.loads(line)))
                    continue
                for _ in range(64):
                    try:
                        packet = os.read(end, MTU + 100)
                    except BlockingIOError:
                        break
                    self.forward(by_end[end], packet)
            now = time.monotonic()
            while self.under_way and self.under_way[0][0] <= now:
                _, _, other, packet = heapq.heappop(self.under_way)
                self.deliver(other, packet)


def tell(words):
    os.write(1, json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    try:
        wires = Wires(int(sys.argv[1]))
    except OSError as error:
        tell({"error": str(error)})
        sys.exit(1)
    tell({"clients": wires.clients, "homes": wires.homes})
    wires.serve()
