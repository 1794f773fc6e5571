"""What the tests of other people's clients share: running a program with the credentials, and trees of files to compare."""

import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from home import TARGET
from samples import MIB, SIZES, bytes_of

BIN = Path(sys.executable).parent
"""The clients from PyPI are installed beside the python that runs the tests."""

JAVASCRIPT = TARGET / "qemu-tests/javascript"
"""Where the clients from npm are installed."""


def need(program):
    """Fails when a client is not installed: a test that is left out tells nobody anything."""
    if not shutil.which(program):
        pytest.fail(f"{program} is not installed; qemu-tests/all installs it")


def environment(home, tmp_path):
    """The credentials, and nothing else of this machine's configuration."""
    return {
        "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "NODE_PATH": str(JAVASCRIPT / "node_modules"),
        "AWS_ACCESS_KEY_ID": home.ready["access_key"], "AWS_SECRET_ACCESS_KEY": home.ready["secret_key"],
        "AWS_DEFAULT_REGION": home.ready["region"], "AWS_ENDPOINT_URL": home.url, "AWS_MAX_ATTEMPTS": "1",
    }


@pytest.fixture
def run(home, tmp_path):
    """Runs a client with the credentials (and `more` variables); gives its output."""
    def run(program, *words, fails=False, **more):
        words = [str(word) for word in words]
        done = subprocess.run(
            [program, *words], env=environment(home, tmp_path) | more, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=300,
        )
        assert (done.returncode != 0) == fails, f"{program} {' '.join(words)}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout
    return run


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A directory with files of every size and with names that need quoting."""
    root = tmp_path_factory.mktemp("tree")
    for number, size in enumerate(SIZES):
        path = root / f"sizes/{size}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes_of(size, number))
    for number, name in enumerate(["a b", "a+b", "a%20b", "ü", "日本", "x&y=z", "it's", "#1", "~", "[x]", "{y}", "deep/er/than/this", "🎉"]):
        path = root / "names" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes_of(100 + number, name))
    return root


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A file that every client uploads in parts."""
    path = tmp_path_factory.mktemp("big") / "big file.bin"
    path.write_bytes(bytes_of(40 * MIB + 12_345))
    return path


def assert_same(one, other):
    """Two directories hold the same files with the same bytes."""
    def files(root):
        return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())

    assert files(one) == files(other)
    for path in files(one):
        assert filecmp.cmp(one / path, other / path, shallow=False), path
