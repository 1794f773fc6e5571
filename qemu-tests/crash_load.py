"""Mixed load with an exact memory of what was acknowledged, for the crash tests.

Each thread owns its keys, so that it knows for each of them every content that a read may show: the one that was
acknowledged last, and those of operations since that were not answered, which may have happened wholly or not at all.
"""

import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from samples import BLOCK_MAX, INLINE_MAX, KIB, MIB, PACKED_MAX, PART_MIN

ABSENT = "absent"
POOL = random.Random(1).randbytes(24 * MIB)
KEYS_PER_THREAD = 12
REFUSED_FOR_GOOD = range(400, 500)
"""A status in here is an answer: it did not happen. Everything else while processes are killed leaves a doubt."""

SIZES = [
    (0, 0), (1, 100), (100, INLINE_MAX), (INLINE_MAX + 1, PACKED_MAX), (PACKED_MAX + 1, MIB), (MIB, BLOCK_MAX), (BLOCK_MAX + 1, 20 * MIB),
]
"""Nothing, inline, packed, one file, several files."""
WEIGHTS = [1, 4, 6, 6, 4, 2, 1]


def body_of(name, size):
    """Bytes that only this write has: its name, then a piece of the pool at a place that depends on the name."""
    begin = random.Random(name).randrange(len(POOL) - size + 1) if size else 0
    head = name.encode()[:size]
    return head + POOL[begin + len(head):begin + size]


def status_of(error):
    """The HTTP status of a refusal; 0 where no answer came."""
    answer = getattr(error, "response", None) or {}
    return answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


@dataclass
class Content:
    """One write, by its unique name, which is kept as metadata beside the bytes as well."""

    name: str
    size: int
    parts: list = field(default_factory=list)

    def body(self):
        if self.parts:
            return b"".join(body_of(name, size) for name, size in self.parts)
        return body_of(self.name, self.size)


@dataclass
class Counts:
    """What a thread did."""

    acknowledged: int = 0
    doubtful: int = 0
    reads: int = 0
    failed_reads: int = 0
    slowest: float = 0.0


class Worker(threading.Thread):
    """One thread of load on keys of its own."""

    def __init__(self, number, seed, client, bucket):
        super().__init__(name=f"load-{number}", daemon=True)
        self.chance = random.Random(f"{seed} worker {number}")
        self.number, self.client, self.bucket = number, client, bucket
        self.done = threading.Event()
        self.possible = {f"w{number}/{key:02}": {ABSENT: None} for key in range(KEYS_PER_THREAD)}
        self.written = 0
        self.counts = Counts()
        self.violations = []

    def run(self):
        operations = [self.put, self.delete, self.multipart, self.read, self.list]
        while not self.done.is_set() and not self.violations:
            (operation,) = self.chance.choices(operations, [10, 4, 1, 8, 2])
            begin = time.monotonic()
            try:
                operation(self.chance.choice(sorted(self.possible)))
            except Exception as error:  # noqa: BLE001 - a worker that ends early would test nothing
                self.violations.append(f"worker {self.number}: {error!r}")
            self.counts.slowest = max(self.counts.slowest, time.monotonic() - begin)

    # What a key may hold.

    def attempt(self, key, content, call):
        """Makes a change to a key; afterwards the key is known, or in doubt if no answer came."""
        name = content.name if content else ABSENT
        try:
            call()
            self.possible[key] = {name: content}
            self.counts.acknowledged += 1
        except (ClientError, BotoCoreError, HTTPClientError) as error:
            if status_of(error) in REFUSED_FOR_GOOD:
                self.violations.append(f"{key}: a right request was refused: {error}")
            self.possible[key] |= {name: content}
            self.counts.doubtful += 1
            time.sleep(0.02)  # A client that repeats at once would only measure itself.

    def new_content(self):
        low, high = self.chance.choices(SIZES, WEIGHTS)[0]
        self.written += 1
        return Content(f"[{self.number}.{self.written}]", self.chance.randint(low, high))

    def put(self, key):
        content = self.new_content()
        self.attempt(key, content, lambda: self.client.put_object(
            Bucket=self.bucket, Key=key, Body=content.body(), Metadata={"content": content.name},
        ))

    def delete(self, key):
        self.attempt(key, None, lambda: self.client.delete_object(Bucket=self.bucket, Key=key))

    def multipart(self, key):
        content = self.new_content()
        sizes = [PART_MIN, PART_MIN + self.chance.randrange(MIB), self.chance.randrange(1, 100 * KIB)]
        content.parts = [(f"{content.name}part{number}", size) for number, size in enumerate(sizes, 1)]
        content.size = sum(sizes)
        where = {"Bucket": self.bucket, "Key": key}
        try:
            upload = self.client.create_multipart_upload(**where, Metadata={"content": content.name})["UploadId"]
            parts = []
            for number, (name, size) in enumerate(content.parts, 1):
                part = self.client.upload_part(**where, UploadId=upload, PartNumber=number, Body=body_of(name, size))
                parts.append({"PartNumber": number, "ETag": part["ETag"]})
        except (ClientError, BotoCoreError, HTTPClientError) as error:
            if status_of(error) in REFUSED_FOR_GOOD:
                self.violations.append(f"{key}: an acknowledged upload is gone: {error}")
            return  # Nothing can be visible of an upload that was never completed.
        self.attempt(key, content, lambda: self.client.complete_multipart_upload(
            **where, UploadId=upload, MultipartUpload={"Parts": parts},
        ))

    # What a key holds.

    def read(self, key, settle=False):
        """Compares an object with what it may be; True if an answer came."""
        possible = dict(self.possible[key])
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=key)
            body = answer["Body"].read()
            name = answer["Metadata"].get("content", "no name")
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                self.counts.failed_reads += 1
                if status_of(error) in REFUSED_FOR_GOOD:
                    self.violations.append(f"{key}: {error}")
                return False
            name, body = ABSENT, b""
        except (BotoCoreError, HTTPClientError, OSError):
            self.counts.failed_reads += 1
            return False
        self.counts.reads += 1
        if name not in possible:
            self.violations.append(f"{key} holds {name}, which can only be {sorted(possible)}")
        elif name != ABSENT and body != possible[name].body():
            expected = possible[name].body()
            at = next((at for at, (one, other) in enumerate(zip(body, expected)) if one != other), min(len(body), len(expected)))
            self.violations.append(f"{key}: {name} has {len(body)} of {len(expected)} bytes, other ones from byte {at} on")
        elif settle or name in list(possible)[1:]:
            # Seen once, it has happened, and what was before cannot come back.
            self.possible[key] = {name: possible[name]}
        return True

    def list(self, _key):
        prefix = f"w{self.number}/"
        try:
            entries = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        except (ClientError, BotoCoreError, HTTPClientError):
            self.counts.failed_reads += 1
            return
        self.counts.reads += 1
        listed = {entry["Key"]: entry["Size"] for entry in entries}
        for key, possible in self.possible.items():
            sizes = {content.size if content else None for content in possible.values()}
            if listed.get(key) not in sizes:
                self.violations.append(f"{key} is listed with {listed.get(key)} bytes, which can only be {sizes}")

    def read_all(self):
        """Reads every key once, with patience: for the time when nobody is killed any more."""
        for key in self.possible:
            deadline = time.monotonic() + 30
            while not self.read(key, settle=True):
                if time.monotonic() > deadline:
                    self.violations.append(f"{key} cannot be read")
                    break
                time.sleep(0.1)
        self.list(None)


class Load:
    """Several workers at once."""

    def __init__(self, home, seed, threads=6, bucket="crash"):
        client = home.client(read_timeout=30, connect_timeout=10)
        with suppress(ClientError):
            client.create_bucket(Bucket=bucket)
        self.workers = [Worker(number, seed, client, bucket) for number in range(threads)]

    def start(self):
        for worker in self.workers:
            worker.start()
        return self

    def stop(self):
        """Ends the load; operations under way are waited for."""
        for worker in self.workers:
            worker.done.set()
        for worker in self.workers:
            worker.join()

    def check(self):
        """Reads everything and fails if anything is not as it must be."""
        for worker in self.workers:
            if not worker.violations:
                worker.read_all()
        violations = self.violations()
        assert not violations, "\n".join(violations)

    def violations(self):
        return [violation for worker in self.workers for violation in worker.violations]

    def summary(self):
        total = Counts()
        for worker in self.workers:
            for name in ("acknowledged", "doubtful", "reads", "failed_reads"):
                setattr(total, name, getattr(total, name) + getattr(worker.counts, name))
            total.slowest = max(total.slowest, worker.counts.slowest)
        return total
