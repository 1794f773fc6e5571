"""The sandbox, looked at from outside: what the kernel says of each process, against what the manifests promise."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from home import REPOSITORY, USERS, Home, free_port, until
from ssh import Keys, SshHome

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into confined processes")

MANIFESTS = {
    manifest["name"]: manifest
    for manifest in (tomllib.loads(path.read_text()) for path in [*REPOSITORY.glob("services/*/manifest.toml"), REPOSITORY / "init/manifest.toml"])
    if manifest["name"] not in ("network", "clock")  # These run on a machine of its own only.
}
SERVICES = sorted(name for name, manifest in MANIFESTS.items() if manifest["rank"] >= 4)
FILTERED = sorted(set(MANIFESTS) - {"init"})
OWN_NAMESPACES = ["user", "mnt", "pid", "ipc", "uts", "cgroup"]


@pytest.fixture(scope="module", params=USERS)
def home(request, tmp_path_factory):
    webhooks = [f"hook=http://127.0.0.1:{free_port()}/"]
    with SshHome.start(user=request.param, keys=Keys(tmp_path_factory.mktemp("keys")), web_domains=[], webhooks=webhooks, mesh=True) as home:
        home.until_serving()
        yield home


def status_of(home, name):
    """/proc/PID/status as a dictionary."""
    lines = Path(f"/proc/{home.pid(name)}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def namespace_of(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def test_every_manifest_is_a_process_and_every_process_a_manifest(home):
    assert set(home.services()) == set(MANIFESTS)


@pytest.mark.parametrize("name", FILTERED)
def test_filter_is_installed_and_nothing_can_be_gained(home, name):
    status = status_of(home, name)
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"


@pytest.mark.parametrize("name", sorted(set(FILTERED) - {"orchestrator"}))
def test_no_capability_is_left(home, name):
    status = status_of(home, name)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[kind], 16) == 0, kind


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_namespaces_of_its_own(home, name):
    missing = " ".join(home.services()[name].get("missing", []) + home.ask("status")["limits_missing"])
    others = [os.getpid(), home.launcher.pid, home.pid("orchestrator")] + [home.pid(other) for other in SERVICES if other != name]
    for kind in OWN_NAMESPACES:
        mine = namespace_of(home.pid(name), kind)
        assert mine not in [namespace_of(other, kind) for other in others], f"{kind} is shared ({missing})"


def test_network_of_the_services_is_empty_and_not_the_hosts(home):
    networks = {name: namespace_of(home.pid(name), "net") for name in SERVICES}
    for daemon in (False, True):
        shared = {network for name, network in networks.items() if MANIFESTS[name].get("daemon", False) is daemon}
        assert len(shared) == 1, "those of one supervisor share one"
    assert namespace_of(os.getpid(), "net") not in networks.values()
    for name in SERVICES:
        devices = Path(f"/proc/{home.pid(name)}/net/dev").read_text().splitlines()[2:]
        assert all(re.fullmatch(r"\s*\w+:[\s0]+", line) for line in devices), "not a byte was ever received or sent"


@pytest.mark.parametrize("name", SERVICES)
def test_root_is_empty_or_the_data_directory(home, name):
    root = Path(f"/proc/{home.pid(name)}/root")
    assert os.readlink(f"/proc/{home.pid(name)}/cwd") == "/"
    own = MANIFESTS[name].get("root")
    if own:
        assert sorted(os.listdir(root)) == sorted(os.listdir(home.data / own))
        (mount,) = Path(f"/proc/{home.pid(name)}/mountinfo").read_text().splitlines()
        assert {"nosuid", "nodev", "noexec"} <= set(mount.split()[5].split(","))
    else:
        assert os.listdir(root) == []


@pytest.mark.parametrize("name", FILTERED)
def test_environment_is_empty(home, name):
    assert Path(f"/proc/{home.pid(name)}/environ").read_bytes() == b""


@pytest.mark.parametrize("name", SERVICES)
def test_program_is_a_sealed_memory_file(home, name):
    assert os.readlink(f"/proc/{home.pid(name)}/exe").startswith("/memfd:")


@pytest.mark.parametrize("name", SERVICES)
def test_limits_of_the_manifest_are_the_kernels(home, name):
    limits = {
        line[:26].strip(): line[26:].split()[1] for line in Path(f"/proc/{home.pid(name)}/limits").read_text().splitlines()[1:]
    }
    assert int(limits["Max open files"]) <= MANIFESTS[name]["limits"]["open_files"]
    assert limits["Max core file size"] == "0"


def test_users_are_apart(home):
    users = {name: status_of(home, name)["Uid"].split() for name in SERVICES}
    assert all(len(set(user)) == 1 and user[0] != "0" for user in users.values()), users
    if home.user == "root":
        assert len({user[0] for user in users.values()}) == len(SERVICES), "one user each"


def test_only_the_bus_and_their_owners_hold_sockets_of_the_network(home):
    """Who holds the listening S3 socket: the bus that made it and keeps a duplicate, and the frontend that was given it."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == home.port and fields[3] == "0A":
            inodes.add(f"socket:[{fields[9]}]")
    assert inodes
    holders = set()
    for name in home.services():
        for descriptor in Path(f"/proc/{home.pid(name)}/fd").iterdir():
            if os.readlink(descriptor) in inodes:
                holders.add(name)
    assert holders == {"bus", "s3-frontend"}


def test_no_descriptor_leads_out_of_the_data_directory(home):
    for name in SERVICES:
        for descriptor in Path(f"/proc/{home.pid(name)}/fd").iterdir():
            what = os.readlink(descriptor)
            inside = what.startswith("/") and MANIFESTS[name].get("root") or what == "/dev/null"
            kernel = re.match(r"(socket|pipe|anon_inode|net|/memfd)[:\[]", what) or what.startswith("/memfd:")
            # The frontend is lent block files, and nothing else, by the block-store.
            lent = name in ("s3-frontend", "web") and what.startswith("/")
            assert inside or kernel or lent, (name, what)


def test_clients_leave_no_process_behind(home):
    """Serving starts no process: a service has its threads and no child."""
    home.put("k", b"x" * 100_000)
    for name in SERVICES:
        for task in Path(f"/proc/{home.pid(name)}/task").iterdir():
            assert (task / "children").read_text() == ""


# What the node says of itself.

def test_caps_show_declared_and_actual_descriptors(home):
    def matches():
        """Descriptors come and go with connections: they are compared until one moment is caught.

        The console alone has one more while it answers: the connection on which it is asked.
        """
        caps = {process["name"]: process for process in home.ask("caps")}
        more = {name: set(caps[name]["actual"]) ^ descriptors_of(home.pid(name)) for name in SERVICES}
        return caps if all(len(more[name]) <= (name == "console") for name in SERVICES) else None

    caps = until(matches, 30, "the node tells the same descriptors as the kernel")
    assert set(caps) == set(MANIFESTS)
    for name in FILTERED:
        granted = {f"{grant['name']}:{grant['kind']}" for grant in MANIFESTS[name].get("grant", [])}
        dials = {f"{dial['kind']}:outside" for dial in MANIFESTS[name].get("dials", [])}
        calls = {f"{call['service']}/{call['conversation']}:across" for call in MANIFESTS[name].get("calls", []) if call.get("across")}
        serves = MANIFESTS[name].get("serves", [])
        reached = {f"{one['conversation']}:{whom}" for one in serves for whom in ("across", "strangers") if one.get(whom)}
        told = caps[name]
        assert set(told["declared"]) == granted | dials | calls | reached
        if name in SERVICES:
            assert set(told["given"]) == granted
        assert (told["unexplained"], told["alarm"]) == ([], False), told
        assert told["seccomp"] == 2 and told["no_new_privs"] is True
        assert told["system_calls"] and told["allowed_calls"] == len(told["system_calls"])
        assert told["limits"] == {"cpu_weight": 100} | MANIFESTS[name]["limits"]


def descriptors_of(pid):
    """What /proc says: number and what it is."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(f"{entry.name} {os.readlink(entry)}")
        except FileNotFoundError:
            continue  # Closed meanwhile.
    return found


REACH = [
    ("s3-frontend", "metadata", True), ("s3-frontend", "block-store", True), ("s3-frontend", "directory:metadata", True),
    ("metadata", "block-store", True), ("metadata", "network", False), ("block-store", "network", False), ("block-store", "metadata", False),
    ("block-store", "s3-frontend", False), ("s3-frontend", "network", False), ("s3-frontend", "spawn", False), ("metadata", "s3-frontend", False),
    ("notifier", "outside:webhook", True), ("notifier", "network", False), ("notifier", "s3-frontend", False), ("s3-frontend", "outside:webhook", False),
    ("metadata", "outside:webhook", False), ("web", "outside:webhook", False), ("console", "notifier", False),
    ("metadata", "directory:run", False), ("membership", "metadata", False), ("bus", "network", True), ("orchestrator", "spawn", True),
]


@pytest.mark.parametrize("one, other, possible", REACH)
def test_who_can_reach_whom_is_told_from_the_manifests_alone(one, other, possible):
    with Home() as home:  # No node runs.
        answer = home.ask("caps", "--can", one, other)
        assert answer["can"] is possible, answer
        if possible:
            assert answer["path"]


def test_unknown_names_are_not_answered():
    with Home() as home:
        assert home.trousseau("caps", "--can", "nobody", "metadata").returncode == 1
        assert home.trousseau("caps", "--can", "metadata", "nobody").returncode == 1
