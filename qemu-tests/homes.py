"""Nodes that are one cluster and stand apart: each in a network of its own with an address of its own, with faults on the wires between them.

    with Homes.of(3) as homes:
        homes.fault(0, 1, cut=True)        # what n0 sends does not reach n1
        homes[2].put("hello", b"bytes")
        homes.heal()

As root only. While there are such homes this thread, and threads that it starts, are in the clients' network, from which every home's S3 is reached.
"""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster import Cluster
from home import Home
from wires import clients_address, enter, mesh_address

MESH_PORT = 3901
FAULTS = {"cut", "delay", "jitter", "loss", "twice"}


class Homes(Cluster):
    """A Cluster whose nodes know each other by the addresses of their homes. `at_most`: how many nodes there will ever be."""

    def __init__(self, at_most=3):
        super().__init__()
        self.faults = {}
        self.line = {}
        self.entered = False
        self.outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.wires = subprocess.Popen([sys.executable, Path(__file__).with_name("wires.py"), str(at_most)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            answer = self.wires.stdout.readline()
            made = json.loads(answer or '{"error": "it said nothing"}')
            if "error" in made:
                pytest.skip(f"THREE HOMES ARE NOT TESTED: this machine gives no networks of their own (root, /dev/net/tun, ip): {made['error']}")
            self.networks = [f"/proc/{self.wires.pid}/fd/{network}" for network in made["homes"]]
            clients = os.open(f"/proc/{self.wires.pid}/fd/{made['clients']}", os.O_RDONLY)
            try:
                enter(clients)
                self.entered = True
            finally:
                os.close(clients)
        except BaseException:
            self.end()
            raise

    def new_home(self):
        return self.house(len(self.homes))

    def house(self, number):
        """A node of nobody's yet, in this network."""
        return Home(host=clients_address(number), inside=["nsenter", f"--net={self.networks[number]}"])

    @contextmanager
    def network_of(self, number):
        """What this thread does in the block, it does in that home's network."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(self.networks[number], os.O_RDONLY)
        try:
            enter(there)
            yield
        finally:
            enter(here)
            os.close(here)
            os.close(there)

    def mesh(self):
        return self.mesh_of(len(self.homes))

    def mesh_of(self, number):
        return f"{mesh_address(number, self.line.get(number, 0))}:{MESH_PORT}"

    def change_line(self, number):
        """The provider gives a home, whose node does not run, another address; the node's arguments say so."""
        words = self[number].arguments
        at = words.index(self.mesh_of(number))
        self.line[number] = self.line.get(number, 0) + 1
        words[at] = self.mesh_of(number)
        self.order(line=[number, self.line[number]])

    # What is wrong with the wires.

    def order(self, **words):
        """Tells the wires something; they have done it when this comes back."""
        self.wires.stdin.write(json.dumps(words).encode() + b"\n")
        self.wires.stdin.flush()
        return json.loads(self.wires.stdout.readline())

    def fault(self, one, other, **fault):
        """From now on this is wrong with what `one` sends to `other` (see Wires), and nothing else."""
        assert set(fault) <= FAULTS, fault
        self.faults[one, other] = fault
        self.tell_faults()

    def cut_off(self, some):
        """Nothing passes between these and the others, either way."""
        others = set(range(len(self.networks))) - set(some)
        for one in some:
            for other in others:
                self.faults[one, other] = self.faults[other, one] = {"cut": True}
        self.tell_faults()

    def everywhere(self, **fault):
        """The same is wrong with every way."""
        assert set(fault) <= FAULTS, fault
        every = range(len(self.networks))
        self.faults = {(one, other): fault for one in every for other in every if one != other}
        self.tell_faults()

    def heal(self):
        """Nothing is wrong with any wire."""
        self.faults = {}
        self.tell_faults()

    def tell_faults(self):
        self.order(faults=[[*way, fault] for way, fault in self.faults.items()], seed=len(self.faults))

    # What can be seen of them.

    def capture(self, path):
        """Keeps every packet between homes in this file; `None` ends that."""
        self.order(capture=str(path) if path else None)

    def end(self):
        try:
            super().end()
        finally:
            self.leave()

    def __exit__(self, *failure):
        try:
            super().__exit__(*failure)
        finally:
            self.leave()

    def leave(self):
        """Everything that was made of networks ends with the wires' process and the nodes."""
        if self.outside is None:
            return
        if self.entered:
            enter(self.outside)
        os.close(self.outside)
        self.outside = None
        self.wires.stdin.close()
        self.wires.stdout.close()
        self.wires.wait()
