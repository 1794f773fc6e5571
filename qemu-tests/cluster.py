"""Several real nodes that are one cluster, each a process tree of its own, as in several homes.

    with Cluster.of(3) as cluster:
        cluster[0].put("hello", b"bytes")
        cluster[1].kill_tree()
        assert cluster[2].get("hello") == b"bytes"
"""

import itertools
import threading

from home import Home, free_port, until

KNOWN_WITHIN = 120
"""Seconds until everybody knows everybody."""
COPIED_WITHIN = 60
"""Seconds until every copy is where it belongs."""
SHARDS = 8
"""Of metadata, in every cluster."""


class Cluster:
    """Nodes `n0`, `n1`, …, each a Home in a zone of its own (`z0`, `z1`, …), with `copies` of each block."""

    @classmethod
    def of(cls, nodes, copies=None, zones=None, **more):
        cluster = cls(**more)
        try:
            for number in range(nodes):
                cluster.add(zone=f"z{number % (zones or nodes)}")
            if nodes > 1:
                cluster.spread(copies or min(3, nodes))
        except BaseException:
            cluster.end()
            raise
        return cluster

    def __init__(self):
        self.homes = []

    def add(self, zone, data=None, **options):
        """One more node, invited by the first; gives it when it serves. `data`: its directory, instead of a fresh one. A list is an option given several times."""
        name = f"n{len(self.homes)}"
        home = self.new_home()
        home.data = data or home.data
        words = {"name": name, "zone": zone, "mesh": self.mesh(), **options}
        if self.homes:
            words["join"] = self.invitation()
        home.name = name
        for key, value in words.items():
            values = value if isinstance(value, list) else [value]
            home.arguments += [word for one in values for word in (f"--{key}", str(one))]
        self.homes.append(home)
        home.run()
        self.equip(home)
        return home

    def new_home(self):
        """Where the next node will be."""
        return Home()

    def mesh(self):
        """By which address the others will reach it."""
        return f"127.0.0.1:{free_port()}"

    def equip(self, home):
        """The nodes share their keys; a client repeats what a node refuses for a moment, as clients do."""
        home._s3 = home.client(self.homes[0].ready, retries={"total_max_attempts": 8, "mode": "standard"})

    def restart(self, number):
        """Starts a node again that was killed; its arguments are the same, so it brings its token, which is used up and does not matter."""
        home = self.homes[number]
        home.run()
        self.equip(home)
        return home

    def invitation(self):
        """Of the first node's."""
        return self.homes[0].invitation(KNOWN_WITHIN)

    def assign(self, home, within=KNOWN_WITHIN):
        """A node that is known, or will be, gets a role in the next layout."""
        until(lambda: self.homes[0].trousseau("layout", "assign", home.name).returncode == 0, within, f"{home.name} gets a role")

    def spread(self, copies):
        """Blocks on all nodes."""
        first = self.homes[0]
        for home in self.homes:
            until(lambda: home.name in [one["name"] for one in first.ask("members")], KNOWN_WITHIN, f"{home.name} is known")
            self.assign(home)
        for words in (("layout", "copies", str(copies)), ("layout", "apply")):
            done = first.trousseau(*words)
            assert done.returncode == 0, done.stderr
        # Until then each block has to be on the first node, too, and each shard's only voter is there.
        until(lambda: first.ask("status")["cluster"]["done"], KNOWN_WITHIN, "blocks and votes are where they belong")

    def until_nothing_is_owed(self, within=COPIED_WITHIN):
        until(lambda: not any(home.owed() for home in self.homes), within, "no copies are owed")

    def until_alike(self, within=COPIED_WITHIN):
        """Waits until every block is on every disk, and nothing is owed; gives the names of the blocks."""
        self.until_nothing_is_owed(within)
        until(lambda: len({frozenset(home.blocks()) for home in self.homes}) == 1, within, "all nodes have the same blocks")
        return set(self.homes[0].blocks())

    def __getitem__(self, number):
        return self.homes[number]

    def __len__(self):
        return len(self.homes)

    def __iter__(self):
        return iter(self.homes)

    def end(self):
        for home in self.homes:
            home.end()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        for home in self.homes:
            home.__exit__(*failure)


class Writers:
    """So many clients in the background: each calls `write(number, turn)`, again and again, until the block ends.

    One whose call fails, in any way, is over, and the block fails when it ends."""

    def __init__(self, count, write):
        self.write = write
        self.over, self.failures = threading.Event(), []
        self.done = [0] * count  # Calls of each.
        self.threads = [threading.Thread(target=self.go_on, args=(number,)) for number in range(count)]

    def go_on(self, number):
        try:
            for turn in itertools.count():
                if self.over.is_set():
                    return
                self.write(number, turn)
                self.done[number] += 1
        except BaseException as failure:  # noqa: BLE001 - a thread must not end silently
            self.failures.append(failure)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *failure):
        self.over.set()
        for thread in self.threads:
            thread.join()
        if self.failures:
            # What failed in the block, if anything did, is shown before it.
            raise BaseExceptionGroup("writers have failed", self.failures)
