"""Bytes and names to test with, and the one way to expect a refusal."""

import random
from contextlib import contextmanager

import pytest
from botocore.exceptions import ClientError

KIB = 1024
MIB = 1024 * 1024

INLINE_MAX = 8 * KIB  # metadata keeps these itself
PACKED_MAX = 64 * KIB  # the block-store packs these together
BLOCK_MAX = 4 * MIB  # larger objects are several blocks
PART_MIN = 5 * MIB  # S3's own bound for all parts but the last

SIZES = [
    0, 1, 15, 4 * KIB, INLINE_MAX, INLINE_MAX + 1, 40_000, PACKED_MAX, PACKED_MAX + 1, 128 * KIB + 1,
    MIB, BLOCK_MAX - 1, BLOCK_MAX, BLOCK_MAX + 1, 2 * BLOCK_MAX + PACKED_MAX, 11 * MIB + 7,
]
"""On both sides of every border between the ways to keep an object."""

ODD_KEYS = [
    "plain", "with space", " leading space", "trailing space ", "  ", "a+b", "a%b", "a%2Fb", "a%2fb", "a%b",
    "a%20b", "/leading", "trailing/", "a//b", "//", "/", "dir/a", "dir/b", "dir/sub/c", "dir//d",
    ".", "..", "./a", "../a", "a/./b", "a/../b", "a/..", "?", "a?b=c", "#", "a#b", "a&b", "a=b", "a;b", "a:b", "a@b",
    "a,b", "a$b", "a!b", "a*b", "(a)", "'", '"', "<", ">", "<&>\"'", "]]>", "\\", "a\\b", "|", "^", "`", "{a}", "[a]", "~",
    "-", "_", "ä", "a\u0308", "ß", "é/è", "日本語/キー", "🎉", "\U0010ffff", "\ue000", "\uffee", "\u200b", "\u202e", "\ufeff",
    "\x7f", "\u0080", "\u0085", "\u2028", "tab\t", "line\nfeed", "carriage\rreturn", "versionId", "uploads", "?uploads", "acl",
    "index.html", "CON", "%", "%%", "%zz", "+", "++", "=", "aws:kms", "x" * 1024, "ü" * 512, "🎉" * 256,
]
"""Keys that some layer on the way may want to change."""

CONTROL_KEYS = ["\x01", "a\x00b", "a\x00", "\x1f", "\x0b\x0c", "\ufffe", "\uffff"]
"""Allowed by S3, but not by XML 1.0: a listing can hold them only with encoding-type=url."""


def bytes_of(size, seed=0):
    """`size` bytes that are the same each time, and others for another seed."""
    return random.Random(f"{size} {seed}").randbytes(size)


@contextmanager
def refused(code, status=None):
    """Inside, a client's call has to be refused with this code (for HEAD, whose answer has no body, the status)."""
    with pytest.raises(ClientError) as caught:
        yield caught
    answer = caught.value.response
    assert answer["Error"]["Code"] == code, answer
    if status:
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status, answer


def keys_of(listing):
    """The keys of one page of a listing."""
    return [entry["Key"] for entry in listing.get("Contents", [])]
