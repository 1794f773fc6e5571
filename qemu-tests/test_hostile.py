"""The hostile service in a real node: every attempt is denied, whatever profile it has, and the node keeps serving.

services/hostile tells what each attempt is, and its own tests tell for each profile how it ends. Here it is the whole house
that is looked at: the orchestrator that starts it, the log that names the call, and the clients that notice nothing.
"""

import re
import socket
import time

import pytest

from home import REPOSITORY, Home, hostile_manifest, until

ATTEMPTS = {
    name: call
    for source in sorted((REPOSITORY / "services/hostile/src/attempts").glob("*.rs"))
    for _, name, call in re.findall(r'Attempt::(call|code)\(\s*"([^"]+)",\s*"([^"]*)"', source.read_text())
} | {
    name: "io_uring_setup"
    for name in re.findall(r'Attempt::ring\(\s*"([^"]+)"', (REPOSITORY / "services/hostile/src/attempts/rings.rs").read_text())
}
"""Name → the system call that has to be refused; empty where it breaks a protocol or takes more than its share."""

CALLS = sorted(name for name, call in ATTEMPTS.items() if call)
DEEDS = sorted(name for name, call in ATTEMPTS.items() if not call)
PROFILES = ["block-store", "metadata", "s3-frontend", "console", "membership", "notifier"]
AT_ONCE = 16
"""Hostile services in one node; each makes one attempt, again and again, for as long as it is started again."""
BATCHES = [CALLS[begin:begin + AT_ONCE] for begin in range(0, len(CALLS), AT_ONCE)]


def manifest(home, number, attempt, profile, **settings):
    return hostile_manifest(home.own, f"hostile-{number}", number, attempt, profile, **settings)


def start_with(home, manifests, *more):
    """Starts the node again, now with guests. They may keep it from ever being ready as a whole; it has to serve all the same."""
    home.log_path.write_text("")
    home.arguments = [word for path in manifests for word in ("--service", str(path))] + list(more)
    home.run(await_ready=False)
    home.until_serving()


@pytest.fixture
def home(keys_are_known):
    """A node that was started once, so that its keys are known and its data are there; it does not run at the moment."""
    yield keys_are_known
    keys_are_known.kill_tree()


@pytest.fixture(scope="module")
def keys_are_known():
    with Home.start() as home:
        home.put("before", b"x" * 100_000)
        home.kill_tree()
        yield home


def test_attempts_are_known():
    assert len(CALLS) > 80 and len(DEEDS) > 10


@pytest.mark.parametrize("batch", range(len(BATCHES)))
def test_every_forbidden_call_is_denied(home, batch):
    profile = PROFILES[batch % len(PROFILES)]
    attempts = dict(enumerate(BATCHES[batch]))
    start_with(home, [manifest(home, number, attempt, profile) for number, attempt in attempts.items()])

    def outcomes():
        log = home.log()
        services = home.services()
        results = {}
        for number, attempt in attempts.items():
            line = re.search(rf"hostile-{number}\b.*attempt {re.escape(attempt)}: (\S+)", log)
            reason = services[f"hostile-{number}"]["last_reason"]
            if line or reason:
                results[attempt] = line[1] if line else reason
        return results if len(results) == len(attempts) else None

    for attempt, result in until(outcomes, 60, "every attempt has an outcome").items():
        fine = result == f"filter violation {ATTEMPTS[attempt]}" or re.fullmatch(r"E[A-Z]+", result)
        assert fine, f"{attempt} under {profile}: {result}"
    assert home.get("before") == b"x" * 100_000
    home.until_serving()


@pytest.mark.parametrize("attempt", DEEDS)
def test_other_misdeeds_hinder_nobody(home, attempt):
    """Floods, lies and crashes: the service may suffer from it, and nobody else."""
    start_with(home, [manifest(home, 0, attempt, "s3-frontend", amount="300")])
    others = {name: service["restarts"] for name, service in home.services().items() if not name.startswith("hostile")}
    slowest = 0.0
    end = time.monotonic() + 3  # It strikes 0.2 s after each of its starts.
    while time.monotonic() < end:
        begin = time.monotonic()
        home.put("meanwhile", b"y" * 50_000)
        assert home.get("meanwhile") == b"y" * 50_000
        slowest = max(slowest, time.monotonic() - begin)
    after = {name: service["restarts"] for name, service in home.services().items() if not name.startswith("hostile")}
    assert after == others, "another process was restarted"
    assert home.get("before") == b"x" * 100_000
    print(f"{attempt}: {home.services()['hostile-0']['last_reason'] or 'still runs'}; slowest put and get {slowest * 1000:.0f} ms")


def test_who_has_no_leave_to_dial_is_not_connected_outside(home):
    """A guest whose manifest has no `dials` asks for the webhook that there is, and for one that there is not."""
    with socket.create_server(("127.0.0.1", 0)) as outside:
        start_with(home, [manifest(home, 0, "dial-a-webhook", "s3-frontend")], "--webhook", f"hook=http://127.0.0.1:{outside.getsockname()[1]}/")
        until(lambda: "attempt dial-a-webhook: EACCES" in home.log(), 60, "it is refused")
        assert 'hostile-0 asked to dial the "webhook" "hook": denied by the manifests' in home.log()
        outside.setblocking(False)
        with pytest.raises(BlockingIOError):
            outside.accept()


def test_who_has_no_leave_to_cross_is_not_connected_to_another_node(home):
    """A guest whose manifest has no call `across` asks for what metadata serves to other nodes, and for what it does not."""
    start_with(home, [manifest(home, 0, "open-on-another-node", "s3-frontend")])
    until(lambda: "attempt open-on-another-node: EACCES" in home.log(), 60, "it is refused")
    assert "hostile-0 asked for peers of metadata on another node: denied by the manifests" in home.log()


def test_memory_flood_ends_at_its_limit(home):
    """Where the host has a memory limit to give; elsewhere that it has none must have been said."""
    start_with(home, [manifest(home, 0, "memory-flood", "s3-frontend", amount=str(1 << 30))])
    told = " ".join(home.ask("status")["limits_missing"] + home.services()["hostile-0"].get("missing", []))

    def ended():
        reason = home.services()["hostile-0"]["last_reason"]
        return reason or "attempt memory-flood" in home.log()

    until(ended, 60, "the flood has an end")
    reason = home.services()["hostile-0"]["last_reason"]
    assert reason == "memory limit" or "memory" in told, (reason, told)
    home.until_serving()


def test_silent_service_counts_as_hanging(home):
    # What it attempts is denied and comes back; what counts is the silence behind it.
    start_with(home, [manifest(home, 0, "dial-a-webhook", "s3-frontend")])
    until(lambda: home.services()["hostile-0"]["last_reason"] == "hang", 120, "a service without a sign of life is ended")
    home.until_serving()


WRONG_MANIFESTS = {
    "an unknown key": ("rank = 100", "rank = 100\ncolour = 1", "colour"),
    "no rank": ("rank = 100", "", "rank"),
    "a rank that is taken": ("rank = 100", "rank = 5", "rank 5"),
    "an unknown profile": ('profile = "console"', 'profile = "nonsense"', "nonsense"),
    "no program": ("program = ", "#program = ", "program"),
    "a program that is not there": ("/hostile", "/nothing-here", "nothing-here"),
    "a name with a slash": ('name = "hostile-0"', 'name = "../hostile"', "name"),
    "the name of another": ('name = "hostile-0"', 'name = "metadata"', "metadata"),
    "a call that nobody serves to it": ("[[grant]]", '[[calls]]\nservice = "metadata"\nconversation = "metadata"\nwhy = "x"\n[[grant]]', "metadata"),
    "another's data": ("rank = 100", 'rank = 100\nroot = "metadata"', "metadata"),
    "a path out of the data": ("rank = 100", 'rank = 100\nroot = "../.."', '"../.."'),
    "no TOML": ("[limits]", "[limits", "hostile-0.toml:"),
}


@pytest.mark.parametrize("what", WRONG_MANIFESTS)
def test_wrong_manifest_is_refused_with_its_place(what):
    old, new, named = WRONG_MANIFESTS[what]
    with Home() as home:
        path = manifest(home, 0, "open", "console")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        done = home.trousseau("up", "--s3", f"127.0.0.1:{home.port}", "--service", path)
        assert done.returncode == 1, done
        assert "hostile-0.toml" in done.stderr or "nothing-here" in done.stderr, done.stderr
        assert named in done.stderr
