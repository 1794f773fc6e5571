"""One command starts a node, as root and as an ordinary user; a signal stops it; what was stored is there again."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from home import NOBODY, REPOSITORY, USERS, DidNotStart, Home, is_alive, program, until
from samples import MIB, bytes_of

BODIES = {"tiny": b"x", "inline": bytes_of(5000), "packed": bytes_of(50_000), "file": bytes_of(300_000), "blocks": bytes_of(9 * MIB)}


def processes_of(home):
    """The pids of all processes that have the launcher as their ancestor."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    family, found = {home.launcher.pid}, set()
    while family:
        found |= family
        family = {pid for pid, parent in parents.items() if parent in family} - found
    return found


def test_what_was_stored_is_there_after_a_stop(own_home):
    home = own_home
    first = dict(home.ready)
    for key, body in BODIES.items():
        home.put(key, body)
    family = processes_of(home)
    assert len(family) > 7, "launcher, init, bus, membership, orchestrator and the services"
    assert home.stop() == 0
    assert not [pid for pid in family if is_alive(pid)], "a stop leaves no process behind"

    home.run()
    assert (home.ready["access_key"], home.ready["secret_key"]) == (first["access_key"], first["secret_key"])
    for key, body in BODIES.items():
        assert home.get(key) == body
    assert home.stop() == 0


def test_a_start_goes_on_where_the_power_went_while_the_database_grew(own_home):
    home = own_home
    home.put("before", b"x" * 1000)
    assert home.stop() == 0
    unfinished = home.leave_unfinished_keyspace()
    home.run()
    assert home.get("before") == b"x" * 1000
    assert not unfinished.exists()
    assert home.services()["metadata"]["restarts"] == 0


def test_a_stop_is_in_order_and_waits_for_no_idle_client(own_home):
    """Services end from the highest rank down, by themselves, although clients keep their connections open."""
    own_home.put("k", BODIES["file"])  # boto3 keeps this connection.
    with socket.create_connection(own_home.address):
        assert own_home.stop() == 0
    ended = re.findall(r"info: ([\w-]+) (?:has stopped|ended: stopped)", own_home.log())
    order = ["s3-frontend", "metadata", "block-store", "orchestrator", "bus", "membership"]
    assert [name for name in ended if name in order] == order
    assert "SIGKILL" not in own_home.log()


def test_more_services_than_fit_are_refused_before_anything_starts():
    with Home(services=["service.toml"] * 25) as home:
        with pytest.raises(DidNotStart) as caught:
            home.run()
        assert "at most 24" in caught.value.log


def test_killing_the_launcher_ends_everything(own_home):
    family = processes_of(own_home)
    own_home.put("k", BODIES["file"])
    own_home.kill_tree()
    until(lambda: not [pid for pid in family if is_alive(pid)], 10, "everything that the launcher started has ended")
    own_home.run()
    assert own_home.get("k") == BODIES["file"]


def test_interrupt_stops_as_well():
    """Ctrl-C in the terminal."""
    with Home.start() as home:
        family = processes_of(home)
        home.launcher.send_signal(signal.SIGINT)
        assert home.launcher.wait(30) == 0
        assert not [pid for pid in family if is_alive(pid)]


def test_ready_line_is_the_only_output(own_home):
    assert re.fullmatch(rf"http://127\.0\.0\.1:{own_home.port}", own_home.ready["s3"])
    assert own_home.ready["region"] == "us-east-1"
    assert re.fullmatch(r"[A-Z0-9]{20}", own_home.ready["access_key"])
    assert re.fullmatch(r"\S{40}", own_home.ready["secret_key"])
    own_home.launcher.terminate()
    assert own_home.launcher.stdout.read() == b""
    own_home.launcher.wait(30)


@pytest.mark.parametrize("user", USERS)
def test_second_start_on_the_same_data_is_refused(user):
    with Home.start(user=user) as home:
        home.put("k", b"x")
        with Home(user=user, data=home.data) as second:
            with pytest.raises(DidNotStart) as caught:
                second.run()
        assert caught.value.status == 1
        assert str(home.data) in caught.value.log, "the refusal names the data directory"
        assert home.get("k") == b"x"


def test_a_killed_node_can_be_started_again_while_its_processes_are_still_ending(own_home):
    for _ in range(5):
        own_home.kill_tree()
        own_home.run()


@pytest.mark.parametrize("user", USERS)
def test_start_on_a_used_port_is_refused(user):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Home(user=user, port=port) as home:
            with pytest.raises(DidNotStart) as caught:
                home.run()
            assert caught.value.status == 1
            assert str(port) in caught.value.log, "the refusal names the address"
        assert not processes_left(home)


def processes_left(home):
    """Processes whose command line names this home's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(home.own).encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.parametrize("obstacle", ["a file", "another's directory"])
def test_data_that_cannot_be_used_is_refused(obstacle):
    user = USERS[-1]
    with Home(user=user) as home:
        if obstacle == "a file":
            home.data.write_text("not a directory")
        elif user == "nobody":
            home.data.mkdir(mode=0o700)
        else:
            pytest.skip("needs root to make a directory that belongs to another")
        with pytest.raises(DidNotStart) as caught:
            home.run()
        assert caught.value.status == 1
        assert str(home.data) in caught.value.log


def test_data_may_lie_deep():
    """A path longer than the 107 bytes that a socket's address may have."""
    with Home() as home:
        deep = home.own / ("d" * 100) / ("e" * 100)
        with Home.start(data=deep) as other:
            other.put("k", b"x")
            assert other.ask("status")["ready"] is True


@pytest.mark.parametrize("words", [["up", "--nonsense"], ["up", "--s3"], ["up", "--s3", "nowhere"], ["nonsense"], ["up", "extra"]], ids=" ".join)
def test_wrong_words_are_explained(words):
    done = subprocess.run([program(), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, cwd=tempfile.gettempdir())
    assert done.returncode == 2
    assert done.stderr.strip() and "panicked" not in done.stderr


def test_without_words_a_node_starts_in_this_directory():
    """`cargo run --release` runs the program without words: S3 on port 3900, data in ./trousseau-data, an aws command to try."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 3900)) == 0:
            pytest.skip("port 3900 of this machine is in use")
    with Home() as home:  # Only for its directory and its log.
        output = home.own / "output"
        with output.open("wb") as out, home.log_path.open("ab") as log:
            home.launcher = subprocess.Popen([home.program], cwd=home.own, stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        home.launcher.stdout = open(os.devnull)
        text = until(lambda: "aws " in output.read_text() and output.read_text(), 60, "an aws command is printed")
        assert "http://127.0.0.1:3900" in text
        assert (home.own / "trousseau-data").is_dir()
        # The printed commands do what they say.
        shutil.copy(REPOSITORY / "README.md", home.own)
        commands = [line.strip() for line in text.splitlines() if re.match(r"\s+(export|aws) ", line)]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "-ec", "\n".join(commands)], cwd=home.own, env={"PATH": path, "HOME": str(home.own)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
        )
        assert done.returncode == 0, (commands, done.stderr)
        assert "README.md" in done.stdout
        assert home.stop() == 0


# What the operator sees.

def test_status_and_members(own_home):
    status = own_home.ask("status")
    assert status["ready"] is True
    assert status["node"] and status["zone"]
    assert str(own_home.port) in status["s3"]
    assert isinstance(status["limits_missing"], list)
    names = {service["name"] for service in status["services"]}
    assert {"block-store", "metadata", "s3-frontend"} <= names
    members = own_home.ask("members")
    assert len(members) == 1 and status["node"] in json.dumps(members)
    for words in (["status"], ["members"], ["services"], ["caps"], ["layout", "show"], ["logs"], ["key", "list"], ["bucket", "list"]):
        shown = own_home.trousseau(*words)
        assert shown.returncode == 0, (words, shown.stderr)
        assert shown.stdout.strip() or words == ["bucket", "list"], words
        own_home.ask(*words)


def test_what_the_host_cannot_give_is_named(own_home):
    """A cgroup limit that is declared and not set must be told, at the start and in `status`."""
    missing = own_home.ask("status")["limits_missing"]
    for sentence in missing:
        assert sentence in own_home.log(), "it was said at the start, too"
    for name, service in own_home.services().items():
        if name == "init":
            continue  # It makes the groups of the others.
        groups = Path(f"/proc/{service['pid']}/cgroup").read_text()
        limited = name in groups or "trousseau" in groups
        assert limited or missing, f"{name} has no cgroup of its own, and nobody said so: {groups}"


def test_two_nodes_of_one_name_on_one_host_share_no_limit():
    """A node of each of two clusters, say: what one takes of its limits is not the other's."""
    def groups(home):
        lines = [line for service in home.services().values() for line in Path(f"/proc/{service['pid']}/cgroup").read_text().splitlines()]
        return {line for line in lines if "trousseau-twin" in line}

    with Home() as one, Home() as other:
        for home in (one, other):
            home.arguments += ["--name", "twin"]
            home.run()
        assert groups(one).isdisjoint(groups(other))
        assert groups(one) or one.ask("status")["limits_missing"]


def test_services_tell_state_and_pid(own_home):
    for name, service in own_home.services().items():
        assert service["state"] == "ready", service
        assert is_alive(service["pid"])
        assert Path(f"/proc/{service['pid']}/comm").read_text().strip() == name[:15]
        assert service["restarts"] == 0


def test_killed_service_tells_why_it_was_restarted():
    with Home.start() as home:
        for name in ("s3-frontend", "metadata", "block-store"):
            old = home.kill(name)
            home.until_serving()
            new = until(lambda: home.services()[name]["pid"] not in (0, old) and home.services()[name], 30, f"{name} runs again")
            assert new["restarts"] == 1
            assert "SIGKILL" in new["last_reason"], new


def test_command_without_a_node_says_so():
    with Home() as home:
        done = home.trousseau("status")
        assert done.returncode == 1
        assert str(home.data) in done.stderr


@pytest.mark.skipif("nobody" not in USERS, reason="needs root to become another user")
def test_other_users_of_the_machine_get_nothing():
    """Neither the control socket nor the stored bytes nor the keys."""
    with Home.start(user="root") as home:
        home.put("k", BODIES["file"])
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        copy = Path(shutil.copy(program(), home.own / "trousseau"))
        done = subprocess.run([*become, copy, "--data", home.data, "status"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, done
        readable = subprocess.run([*become, "find", home.data, "-type", "f", "-readable"], capture_output=True, text=True, timeout=60)
        assert readable.stdout == ""


def test_secrets_are_not_in_the_command_line_of_a_process(own_home):
    for pid in processes_of(own_home):
        for file in ("cmdline", "environ"):
            try:
                text = Path(f"/proc/{pid}/{file}").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            assert own_home.ready["secret_key"].encode() not in text
