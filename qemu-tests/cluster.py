"""Several real nodes that are one cluster, each a process tree of its own, as in several homes.

    with Cluster.of(3) as cluster:
        cluster[0].put("hello", b"bytes")
        cluster[1].kill_tree()
        assert cluster[2].get("hello") == b"bytes"
"""

from home import Home, free_port, s3_client, until

KNOWN_WITHIN = 120
"""Seconds until everybody knows everybody."""


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
        """One more node, invited by the first; gives it when it serves. `data`: its directory, instead of a fresh one."""
        name = f"n{len(self.homes)}"
        home = self.new_home()
        home.data = data or home.data
        words = {"name": name, "zone": zone, "mesh": self.mesh(), **options}
        if self.homes:
            words["join"] = self.invitation()
        home.name = name
        home.arguments += [word for key, value in words.items() for word in (f"--{key}", str(value))]
        self.homes.append(home)
        home.run()
        # The nodes share their keys; a client repeats what a node refuses for a moment, as clients do.
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
        home._s3 = s3_client(home.url, retries={"total_max_attempts": 8, "mode": "standard"}, **self.credentials())

    def restart(self, number):
        """Starts a node again that was killed; its arguments are the same, so it brings its token, which is used up and does not matter."""
        home = self.homes[number]
        home.run()
        self.equip(home)
        return home

    def credentials(self):
        ready = self.homes[0].ready
        return {name: ready[name] for name in ("access_key", "secret_key", "region")}

    def invitation(self):
        def token():
            done = self.homes[0].trousseau("invite")
            assert done.returncode == 0 or "not made yet" in done.stderr, done.stderr
            return done.returncode == 0 and done.stdout.split("\n")[0]

        return until(token, KNOWN_WITHIN, "the first node invites")

    def spread(self, copies):
        """Blocks on all nodes."""
        first = self.homes[0]
        for home in self.homes:
            until(lambda: home.name in [one["name"] for one in first.ask("members")], KNOWN_WITHIN, f"{home.name} is known")
            until(lambda: first.trousseau("layout", "assign", home.name).returncode == 0, KNOWN_WITHIN, f"{home.name} gets a role")
        for words in (("layout", "copies", str(copies)), ("layout", "apply")):
            done = first.trousseau(*words)
            assert done.returncode == 0, done.stderr
        # Until then each block has to be on the first node, too, and each shard's only voter is there.
        until(lambda: first.ask("status")["cluster"]["done"], KNOWN_WITHIN, "blocks and votes are where they belong")

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
