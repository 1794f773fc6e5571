"""`trousseau image`, looked at from outside: what it refuses, that it repeats itself, and what is in it."""

import re
import subprocess

import pytest

from home import REPOSITORY
from machine import Image, make_image, node_toml


@pytest.fixture(scope="module")
def image():
    image = Image(node_toml())
    yield image
    image.remove()


def test_a_wrong_node_toml_is_refused_by_its_line_and_nothing_is_written(tmp_path):
    configuration = tmp_path / "my.toml"
    configuration.write_text('name = "attic"\nzones = "home"\n')
    done = make_image("--node", configuration, "-o", tmp_path / "node.img")
    assert done.returncode == 1
    assert f"{configuration}:2: unknown field `zones`" in done.stderr
    assert not (tmp_path / "node.img").exists()


def test_the_manual_s_node_toml_is_right(tmp_path):
    configuration = tmp_path / "node.toml"
    (text,) = re.findall(r"```toml\n(.*?)```", (REPOSITORY / "docs/MACHINE.md").read_text(), re.DOTALL)
    configuration.write_text(text)
    done = make_image("--node", configuration, "-o", tmp_path / "node.img")
    assert done.returncode == 0, done.stderr


def test_the_same_inputs_give_the_same_image(image, tmp_path):
    done = make_image("--node", image.directory / "node.toml", "-o", tmp_path / "node.img", "--size", "1G", "--efi", tmp_path / "node.efi")
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["cmp", image.path, tmp_path / "node.img"]).returncode == 0


def test_nothing_but_init_is_in_the_image(image, tmp_path):
    efi, initramfs = tmp_path / "node.efi", tmp_path / "initramfs"
    subprocess.run(["mcopy", "-i", f"{image.path}@@1M", "::/EFI/BOOT/BOOTX64.EFI", efi], check=True)
    subprocess.run(["objcopy", "-O", "binary", "--only-section=.initrd", efi, initramfs], check=True)
    unpacked = subprocess.run(["lz4", "-dc", initramfs], stdout=subprocess.PIPE, check=True).stdout
    listed = subprocess.run(["cpio", "-it", "--quiet"], input=unpacked, stdout=subprocess.PIPE, check=True).stdout
    assert listed.decode().split() == ["init"]
