"""OpenSSH's own client against a node, with keys made for one test run.

    with SshHome.start(keys=Keys(directory)) as home:
        assert home.ssh("status").returncode == 0
"""

import os
import subprocess
from pathlib import Path

from home import NOBODY, Home, free_port

ROLES = {"admin": "admin", "inspect": "inspect", "rsa": "admin", "ecdsa": "inspect", "no-role": "", "weak": "admin"}
"""The authorised keys by name, and what stands in front of each; `unknown` is in no line."""

KINDS = {"rsa": ["rsa", "-b", "3072"], "ecdsa": ["ecdsa", "-b", "384"], "weak": ["rsa", "-b", "1024"]}


class Keys:
    """A directory with key pairs, and the text of `ssh/authorized_keys`."""

    def __init__(self, directory):
        self.directory = Path(directory)
        for name in [*ROLES, "unknown"]:
            kind = KINDS.get(name, ["ed25519"])
            subprocess.run(["ssh-keygen", "-q", "-t", *kind, "-N", "", "-C", name, "-f", self.path(name)], check=True)

    def path(self, name):
        return self.directory / name

    def public(self, name):
        return self.path(name).with_suffix(".pub").read_text().strip()

    def fingerprint(self, name):
        """As the node's log has it."""
        shown = subprocess.run(["ssh-keygen", "-lf", self.path(name)], check=True, capture_output=True, text=True).stdout
        return shown.split()[1]

    def authorized(self):
        lines = ["# who may come in", ""] + [f"{role} {self.public(name)}".strip() for name, role in ROLES.items()]
        return "\n".join([*lines, "admin not-a-key AAAA"]) + "\n"


class SshHome(Home):
    """A node that listens for ssh, too."""

    def __init__(self, *words, keys, authorized=None, **options):
        super().__init__(*words, **options)
        self.keys = keys
        self.ssh_port = free_port()
        self.arguments += ["--ssh", f"127.0.0.1:{self.ssh_port}"]
        self.authorize(keys.authorized() if authorized is None else authorized)

    def authorize(self, text):
        """Writes `ssh/authorized_keys` as the operator does."""
        part = self.data / "ssh"
        part.mkdir(parents=True, exist_ok=True)
        (part / "authorized_keys").write_text(text)
        if self.user == "nobody":
            for path in [self.data, part, part / "authorized_keys"]:
                os.chown(path, NOBODY, NOBODY)

    def ssh_command(self, *options, key="admin", program="ssh", source=None):
        """The client's command line: `options` are OpenSSH's. `source`: another address of ours, which counts for itself."""
        known = self.keys.directory / f"known-{self.ssh_port}"
        bind = ["-o", f"BindAddress={source}"] if source else []
        identity = ["-o", "IdentitiesOnly=yes", "-i", str(self.keys.path(key))]
        hosts = ["-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]
        port = ["-p" if program == "ssh" else "-P", str(self.ssh_port)]
        return [program, "-F", "/dev/null", *hosts, *identity, *bind, *port, *options]

    def ssh(self, *words, key="admin", options=(), source=None, user="root", **more):
        """`ssh root@node WORDS…`: what came of it."""
        command = [*self.ssh_command(*options, key=key, source=source), f"{user}@127.0.0.1", *words]
        more = {"stdin": subprocess.DEVNULL} | more if "input" not in more else more
        return subprocess.run(command, capture_output=True, text=True, timeout=90, **more)
