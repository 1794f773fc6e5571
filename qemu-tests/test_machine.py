"""The image in a computer of its own: from the firmware to S3, off and on again, on other hardware, and with a wrong node.toml."""

import re
import subprocess

import pytest

from home import REPOSITORY
from machine import Image, Machine, make_image, node_toml, public, ssh_key

IMAGE_BYTES_MAX = 16 << 20
SIZES = [0, 100, 40_000, 300_000, 5_000_000]
"""Nothing, inline, packed, one block, two blocks."""


@pytest.fixture(scope="module")
def image():
    image = Image(node_toml(admin=[public(ssh_key())]))
    yield image
    image.remove()


@pytest.fixture
def disk(image):
    disk = image.copy()
    yield disk
    disk.unlink()
    disk.parent.rmdir()


def bodies():
    return {f"size/{size}": bytes(number * 7 % 251 for number in range(size)) for size in SIZES}


def test_firmware_starts_the_image_and_s3_is_served(image, disk, report):
    with Machine.start(disk) as machine:
        assert machine.name == "attic"
        for key, body in bodies().items():
            machine.put(key, body)
        for key, body in bodies().items():
            assert machine.get(key) == body, key
        report(
            f"{machine.boot_s:.1f} s from the kernel's first line to S3, after {machine.firmware_s:.1f} s of firmware (emulated); "
            f"EFI file {image.facts['efi_bytes'] / 1e6:.1f} MB: kernel {image.facts['kernel_bytes'] / 1e6:.1f}, "
            f"initramfs {image.facts['initramfs_bytes'] / 1e6:.1f}, of a program of {image.facts['program_bytes'] / 1e6:.1f}",
        )
    assert image.facts["efi_bytes"] <= IMAGE_BYTES_MAX


def test_what_was_put_is_there_after_the_power_button_and_after_a_reset(disk):
    with Machine.start(disk) as machine:
        for key, body in bodies().items():
            machine.put(key, body)
        machine.press_power_button()
        machine.until_off()

        machine.switch_on()
        machine.until_ready()
        for key, body in bodies().items():
            assert machine.get(key) == body, key
        machine.put("before the reset", b"acknowledged")
        machine.press_reset()
        machine.until_ready()
        assert machine.get("before the reset") == b"acknowledged"
        for key, body in bodies().items():
            assert machine.get(key) == body, key


@pytest.mark.parametrize(("bus", "card"), [("nvme", "e1000e"), ("usb", "e1000"), ("sata", "virtio-net-pci")])
def test_boots_from_other_disks_and_with_other_cards(disk, bus, card):
    with Machine.start(disk, bus=bus, card=card) as machine:
        machine.put("hello", b"x" * 300_000)
        assert machine.get("hello") == b"x" * 300_000


def test_a_wrong_node_toml_is_named_by_line_and_the_node_comes_up(disk):
    wrong = disk.with_name("node.toml")
    wrong.write_text(node_toml(more='zones = "home"'))
    overwrite = ["mcopy", "-o", "-i", f"{disk}@@1M", wrong, "::/node.toml"]
    subprocess.run(overwrite, check=True)
    wrong.unlink()
    with Machine.start(disk) as machine:
        said = machine.console()
    assert "node.toml:2: unknown field `zones`" in said, said[-3000:]


def test_image_refuses_a_wrong_node_toml_and_writes_nothing(tmp_path):
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
