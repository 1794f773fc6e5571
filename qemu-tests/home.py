"""One real node, started from its program as a person at home would start it, and what that person can see of it.

    with Home.start() as home:
        home.put("hello", b"bytes")
        home.kill("metadata")
        home.until_serving()
        assert home.get("hello") == b"bytes"

Processes are known by the pids that the node itself reports and ended one by one; nothing is ended by name.
"""

import http.client
import json
import os
import random
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import boto3
from botocore.config import Config

REPOSITORY = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
TRIPLE = "x86_64-unknown-linux-gnu"

NOBODY = 65534
USERS = ["root", "nobody"] if os.geteuid() == 0 else ["self"]
"""Whom a test can be: root may become an ordinary user, an ordinary user stays who it is."""

LOGS = os.environ.get("LOGS")
"""A directory for the whole logs of nodes whose test failed."""

START_WITHIN = 60
STOP_WITHIN = 30
INVITES_WITHIN = 30
MOVED_WITHIN = 120
"""Seconds. Generous: a slow machine is no failure; what was measured is printed instead."""

PORTS = range(20_000, 32_000)
"""Below those that connections get (ip_local_port_range): a node that is started again finds its own still free."""


def program(name="trousseau"):
    """The built program, or the one that the variable TROUSSEAU (or HOSTILE) names."""
    given = os.environ.get(name.upper())
    return Path(given) if given else TARGET / TRIPLE / "release" / name


def free_port(*behind):
    """A port of 127.0.0.1 that nobody listens on at this moment, and neither on those that are so far `behind` it."""
    for _ in PORTS:
        port = random.choice(PORTS)
        with ExitStack() as probes, suppress(OSError):
            for distance in (0, *behind):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port + distance))
            return port
    raise AssertionError("no port is free")


def until(condition, within, what):
    """Polls `condition` and gives its first true value; fails after `within` seconds, saying `what` did not happen."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.02)


def is_alive(pid):
    """Whether a process of this pid exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class DidNotStart(Exception):
    """The program ended, or said nothing, instead of becoming ready."""

    def __init__(self, status, log):
        super().__init__(f"exit status {status}\n{log[-4000:]}")
        self.status = status
        self.log = log


def s3_client(url, access_key, secret_key, region, **config):
    """A boto3 client that tells every failure at once instead of repeating."""
    settings = {
        "signature_version": "s3v4", "s3": {"addressing_style": "path"}, "retries": {"total_max_attempts": 1},
        "connect_timeout": 10, "read_timeout": 120, "max_pool_connections": 64,
    } | config
    return boto3.client(
        "s3", endpoint_url=url, region_name=region, config=Config(**settings),
        aws_access_key_id=access_key, aws_secret_access_key=secret_key,
    )


def guest_manifest(path, name, rank, profile, tables, about, top="", **settings):
    """Writes the manifest of a service whose program is services/hostile. `top`: one more line before its tables, `tables`: more of them."""
    path.write_text(f"""\
name = "{name}"
about = "{about}"
rank = {rank}
profile = "{profile}"
program = "{program('hostile')}"
{top}

[limits]
memory_mb = 32
processes = 4
open_files = 64

[settings]
{chr(10).join(f'{name} = "{value}"' for name, value in settings.items())}
{tables}""")
    return path


def hostile_manifest(directory, name, number, attempt, profile, top="", **settings):
    """The manifest of a service that makes one attempt under the profile of another."""
    tables = """
[[grant]]
name = "bus"
kind = "bus"
why = "A target."
"""
    path, about = directory / f"{name}.toml", f"Attempts {attempt}."
    return guest_manifest(path, name, 100 + number, profile, tables, about, top, attempts=attempt, **settings)


class Store:
    """What puts and gets objects by its client `s3`."""

    def put(self, key, body=b"", bucket="home", **more):
        """Puts an object, into the bucket `home` unless told otherwise."""
        try:
            return self.s3.put_object(Bucket=bucket, Key=key, Body=body, **more)
        except self.s3.exceptions.NoSuchBucket:
            self.s3.create_bucket(Bucket=bucket)
            return self.s3.put_object(Bucket=bucket, Key=key, Body=body, **more)

    def get(self, key, bucket="home", **more):
        """The bytes of an object."""
        return self.s3.get_object(Bucket=bucket, Key=key, **more)["Body"].read()


class Home(Store):
    """A running node with its data directory. `Home.start()` makes one; `end()` or a `with` block removes it."""

    running = []  # Homes that are not ended: conftest.py prints their logs when a test fails.

    @classmethod
    def start(cls, user=USERS[0], **options):
        """Starts a node on fresh data. Options: see `__init__`. Raises DidNotStart."""
        home = cls(user, **options)
        try:
            home.run()
        except BaseException:
            home.end()
            raise
        return home

    def __init__(self, user=USERS[0], data=None, port=None, services=(), built=None, web_domains=None, webhooks=(), mesh=False, open_files=None, host="127.0.0.1", inside=()):
        """`user`: one of USERS. `data`: a directory instead of a fresh one. `services`: manifests for --service. `built`: another build.
        `web_domains`: a list (of none, too) to serve web sites. `webhooks`: each `NAME=URL`. `mesh`: other nodes may reach it. `open_files`: the host's limit for each process.
        `host`: the address for clients. `inside`: words before every command, by which it is in another network."""
        self.user = user
        self.open_files = open_files
        self.host, self.inside = host, list(inside)
        self.own = Path(tempfile.mkdtemp(prefix="trousseau-"))
        self.own.chmod(0o755)
        self.data = Path(data) if data else self.own / "data"
        self.port = port or free_port()
        self.arguments = [word for manifest in services for word in ("--service", str(manifest))]
        self.web_port = free_port() if web_domains is not None else None
        if self.web_port:
            self.arguments += ["--web", f"127.0.0.1:{self.web_port}"]
            self.arguments += [word for name in web_domains for word in ("--web-domain", name)]
        self.arguments += [word for webhook in webhooks for word in ("--webhook", webhook)]
        self.mesh_port = free_port() if mesh else None
        if mesh:
            self.arguments += ["--mesh", f"127.0.0.1:{self.mesh_port}"]
        self.program = built = built or program()
        if user == "nobody":
            # The build directory may lie where an ordinary user cannot look.
            self.program = Path(shutil.copy(built, self.own / "trousseau"))
            os.chown(self.own, NOBODY, NOBODY)
        self.log_path = self.own / "log"
        self.log_path.touch()
        self.launcher = None
        self.ready = None
        self._s3 = None
        self._s3_lock = threading.Lock()
        Home.running.append(self)

    def _as_user(self, arguments):
        become = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        prefix = ["setpriv", *become] if self.user == "nobody" else []
        if self.open_files:
            prefix = ["prlimit", f"--nofile={self.open_files}:{self.open_files}", *prefix]
        return [*self.inside, *prefix, str(self.program), *map(str, arguments)]

    # Starting and stopping.

    def run(self, await_ready=True):
        """Starts the program on this home's data and waits until it says that it serves."""
        up = ["up", "--json", "--data", self.data, "--s3", f"{self.host}:{self.port}"]
        with self.log_path.open("ab") as log:
            self.launcher = subprocess.Popen(
                self._as_user([*up, *self.arguments]),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, cwd="/",
            )
        if not await_ready:
            return self
        line = self._read_line(START_WITHIN)
        if not line:
            # End of output comes just before the end of the process.
            with suppress(subprocess.TimeoutExpired):
                self.launcher.wait(5)
            status = self.launcher.poll()
            self.kill_tree()
            raise DidNotStart(status, self.log())
        self.ready = json.loads(line)
        assert self.ready["ready"] is True, line
        self._s3 = None
        return self

    def _read_line(self, within):
        line = b""
        deadline = time.monotonic() + within
        with selectors.DefaultSelector() as selector:
            selector.register(self.launcher.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0, deadline - time.monotonic())):
                    return b""
                byte = os.read(self.launcher.stdout.fileno(), 1)
                if not byte:
                    return b""
                line += byte
        return line

    def stop(self, within=STOP_WITHIN):
        """SIGTERM, as Ctrl-C or an init system would; gives the exit status."""
        self.launcher.terminate()
        try:
            status = self.launcher.wait(within)
        except subprocess.TimeoutExpired:
            self.kill_tree()
            raise AssertionError(f"SIGTERM did not stop the node within {within} s") from None
        self.launcher.stdout.close()
        return status

    def kill_tree(self):
        """kill -9 of the launcher; everything it started has to die with it."""
        self.launcher.kill()
        self.launcher.wait()
        self.launcher.stdout.close()

    def end(self):
        """Ends what runs and removes the data. A test that cares about stopping calls stop() itself."""
        if self.launcher and self.launcher.poll() is None:
            self.kill_tree()
        if self in Home.running:
            Home.running.remove(self)
        shutil.rmtree(self.own, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        if failure[0]:
            self.keep_log()
        self.end()

    def leave_unfinished_keyspace(self):
        """What a power cut leaves of metadata's database where a part of it was just being made; gives its directory."""
        keyspaces = self.data / "metadata/db/keyspaces"
        owner = keyspaces.stat()
        unfinished = keyspaces / "9999"
        for directory in (unfinished, unfinished / "tables"):
            directory.mkdir()
            os.chown(directory, owner.st_uid, owner.st_gid)
        return unfinished

    # What the operator sees.

    def trousseau(self, *words, within=60):
        """`trousseau --data DIR WORDS…`, as this home's user. Raises subprocess.TimeoutExpired."""
        command = self._as_user(["--data", self.data, *words])
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within)

    def ask(self, *words):
        """The same with --json; gives the parsed answer, and fails if it was refused."""
        done = self.trousseau(*words, "--json")
        assert done.returncode == 0, f"trousseau {' '.join(map(str, words))}: {done.stderr}"
        return json.loads(done.stdout)

    def services(self):
        """Name → what `services --json` says about it, as soon as it says something: one of those asked may just be restarting."""
        def told():
            done = self.trousseau("services", "--json")
            return done.returncode == 0 and json.loads(done.stdout)

        return {service["name"]: service for service in until(told, START_WITHIN, "`services` is answered")}

    def processes(self, within):
        """Name → pid of what runs now, without patience; empty if nobody answers. Raises subprocess.TimeoutExpired."""
        done = self.trousseau("services", "--json", within=within)
        return {service["name"]: service["pid"] for service in json.loads(done.stdout)} if done.returncode == 0 else {}

    def pid(self, name):
        """The process of a service (or of init, bus, orchestrator, …), as seen from outside."""
        return until(lambda: self.services()[name]["pid"], START_WITHIN, f"{name} runs")

    def restarts(self):
        """Name → how often it was started again."""
        return {name: service["restarts"] for name, service in self.services().items()}

    def invitation(self, within=INVITES_WITHIN):
        """The token of an invitation, as soon as the cluster is made that it is for."""
        def token():
            done = self.trousseau("invite")
            assert done.returncode == 0 or "not made yet" in done.stderr, done.stderr
            return done.returncode == 0 and done.stdout.split("\n")[0]

        return until(token, within, "the node invites")

    def until_moved(self, within=MOVED_WITHIN):
        """Waits until no blocks are on the way to where a changed layout wants them."""
        until(lambda: "moving" not in self.ask("layout"), within, "the move is over")

    def blocks(self):
        """Name → file of each block on this home's disk."""
        return {path.name: path for path in (self.data / "blocks/files").glob("*/*")}

    def owed(self):
        """How many copies this home has still to give to others."""
        return sum(1 for _ in (self.data / "blocks/owed").iterdir())

    def resident_bytes(self, name):
        """The memory that a process has in use now."""
        for line in Path(f"/proc/{self.pid(name)}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{name} has no VmRSS")

    def kill(self, name):
        """kill -9 of one process; gives its pid."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def log(self):
        """Everything that the node wrote to its error output so far."""
        return self.log_path.read_text(errors="replace")

    def keep_log(self):
        """For the report of a failing test, after this home is gone."""
        Home.last_words = (Home.last_words or "") + f"{self.own.name}:\n" + "\n".join(self.log().splitlines()[-150:]) + "\n"
        if LOGS:
            Path(LOGS).mkdir(exist_ok=True)
            shutil.copy(self.log_path, Path(LOGS) / f"{self.name or self.own.name}.log")

    name = None
    last_words = None

    # What a client sees.

    @property
    def address(self):
        """Where S3 is, for a socket."""
        return (self.host, self.port)

    @property
    def url(self):
        """Where S3 is, for a client."""
        return self.ready["s3"]

    def client(self, key=None, url=None, **config):
        """A boto3 client that tells every failure at once instead of repeating; `key` as `key create` answers it."""
        key = key or self.ready
        return s3_client(url or self.url, key["access_key"], key["secret_key"], self.ready["region"], **config)

    @property
    def s3(self):
        """The client of this home's first key; it may be used by many threads."""
        with self._s3_lock:
            if self._s3 is None:
                self._s3 = self.client()
            return self._s3

    def visit(self, host, path="/", method="GET", **headers):
        """What the web service answers to a browser that is led to it by the name `host`: status, headers, body. Redirects are not followed."""
        visit = http.client.HTTPConnection("127.0.0.1", self.web_port, timeout=60)
        with closing(visit):
            visit.request(method, path, headers={"Host": host} | {name.replace("_", "-"): value for name, value in headers.items()})
            answer = visit.getresponse()
            return answer.status, answer.headers, answer.read()

    def until_serving(self, within=START_WITHIN):
        """Waits until a small, a middle and a large object can be put and read, and sites are answered for where they are; gives the seconds
        that it took."""
        begin = time.monotonic()

        def serves():
            try:
                for size in (100, 40_000, 300_000):
                    body = os.urandom(size)
                    self.put(f"until-serving/{size}", body)
                    if self.get(f"until-serving/{size}") != body:
                        raise AssertionError(f"other bytes than were put ({size})")
                return self.web_port is None or self.visit("nobody.example")[0] == 404
            except AssertionError:
                raise
            except Exception:  # noqa: BLE001 - whatever the client calls it, it is not serving yet
                return False

        until(serves, within, "the node serves again")
        return time.monotonic() - begin
