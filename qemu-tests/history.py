"""Clients of several nodes that write, read and list the same keys at once, and remember exactly what they were answered, for linearizable.py to judge.

An operation is one request: these clients repeat nothing, since a repeated put may happen twice.
"""

import hashlib
import random
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError, HTTPClientError

from crash_load import REFUSED_FOR_GOOD, body_of, status_of
from linearizable import ABSENT, NEVER, History, created, deleted, not_created, not_replaced, read, replaced, wrote
from samples import INLINE_MAX, KIB, MIB, PACKED_MAX

BUCKET = "registers"
KEYS = 12
"""So many at a time."""
OPERATIONS_OF_KEY = 60
"""After so many a key is left as it is, for the end, and another takes its place: short histories are judged faster."""
SIZES = [(40, INLINE_MAX), (INLINE_MAX + 1, PACKED_MAX), (PACKED_MAX + 1, 500 * KIB), (4 * MIB, 9 * MIB)]
WEIGHTS = [12, 6, 3, 1]
PAUSE_S = 0.03
"""Between two operations of a client: the nodes share a small machine with those who judge them."""
ANSWER_WITHIN_S = 8
CONDITION_FAILED, CONFLICT, NOT_FOUND = 412, 409, 404
NOT_SENT = (EndpointConnectionError, ConnectTimeoutError)
FAILED = (ClientError, BotoCoreError, HTTPClientError, OSError)


class Registers:
    """The keys, what was put into them, and what was seen of them."""

    def __init__(self, seed):
        self.seed = seed
        self.lock = threading.Lock()
        self.history = History()
        self.violations = []
        self.names = {}  # ETag → the name of the value.
        self.etags = {}  # And the other way round.
        self.turns = {}
        self.active = [f"k{number:02}-0" for number in range(KEYS)]
        self.keys = set(self.active)
        self.unanswered = self.answered = self.not_sent = 0

    def see(self, key, operation):
        with self.lock:
            self.history.see(key, operation)
            self.unanswered += operation.end == NEVER
            self.answered += operation.end != NEVER

    def choose(self, chance):
        """A key; those that were used enough are replaced."""
        with self.lock:
            place = chance.randrange(KEYS)
            key = self.active[place]
            self.turns[key] = self.turns.get(key, 0) + 1
            if self.turns[key] >= OPERATIONS_OF_KEY:
                name, _, generation = key.partition("-")
                self.active[place] = f"{name}-{int(generation) + 1}"
                self.keys.add(self.active[place])
            return key

    def new_value(self, name, size):
        """The bytes of a value that nobody else writes; the name is found again by its ETag."""
        body = body_of(name, size)
        etag = hashlib.md5(body).hexdigest()
        with self.lock:
            self.names[etag] = name
            self.etags[name] = etag
        return body

    def value_of(self, body):
        """The name of these bytes: all of them are looked at."""
        return self.names.get(hashlib.md5(body).hexdigest())

    def wrong(self, words):
        with self.lock:
            self.violations.append(words)

    def check(self):
        """Everything that was seen can be explained."""
        found = self.violations + self.history.violations()
        assert not found, "\n".join(found[:5])


class Client(threading.Thread):
    """One client, which asks another node each time."""

    def __init__(self, number, registers, homes):
        super().__init__(name=f"client-{number}", daemon=True)
        self.registers, self.number = registers, number
        self.s3s = [home.client(read_timeout=ANSWER_WITHIN_S, connect_timeout=2) for home in homes]
        self.chance = random.Random(f"{registers.seed} client {number}")
        self.done = threading.Event()
        self.written = 0
        self.last_read = {}

    def run(self):
        operations = [self.put, self.create, self.replace, self.get, self.delete, self.list]
        while not self.done.wait(PAUSE_S):
            (operation,) = self.chance.choices(operations, [6, 3, 4, 9, 3, 1])
            try:
                operation(self.registers.choose(self.chance), self.chance.choice(self.s3s))
            except Exception as error:  # noqa: BLE001 - a client that ends early would test nothing
                self.registers.wrong(f"client {self.number}: {error!r}")
                raise

    def value(self):
        self.written += 1
        low, high = self.chance.choices(SIZES, WEIGHTS)[0]
        name = f"[{self.number}.{self.written}]"
        return name, self.registers.new_value(name, self.chance.randint(low, high))

    def change(self, key, call, happened, refused=None):
        """Makes a change and remembers what came of it. `refused` is what a failed condition says of the key."""
        begin = time.monotonic()
        try:
            call()
        except NOT_SENT:
            self.registers.not_sent += 1
            return
        except FAILED as error:
            end, status = time.monotonic(), status_of(error)
            if refused and status in (CONDITION_FAILED, NOT_FOUND):
                absent = status == NOT_FOUND
                return self.registers.see(key, read(ABSENT, begin, end, "replace") if absent else refused(begin, end))
            if status == CONFLICT:
                return  # Another was in between; nothing happened.
            if status in REFUSED_FOR_GOOD:
                self.registers.wrong(f"{key}: a right request was refused: {error}")
            # It happened, happens later, or never.
            return self.registers.see(key, happened(begin, NEVER))
        self.registers.see(key, happened(begin, time.monotonic()))

    def put(self, key, s3):
        name, body = self.value()
        self.change(key, lambda: s3.put_object(Bucket=BUCKET, Key=key, Body=body), lambda begin, end: wrote(name, begin, end))

    def create(self, key, s3):
        name, body = self.value()
        self.change(
            key, lambda: s3.put_object(Bucket=BUCKET, Key=key, Body=body, IfNoneMatch="*"),
            lambda begin, end: created(name, begin, end), not_created,
        )

    def replace(self, key, s3):
        old = self.last_read.get(key)
        if not old:
            return self.get(key, s3)
        name, body = self.value()
        self.change(
            key, lambda: s3.put_object(Bucket=BUCKET, Key=key, Body=body, IfMatch=self.registers.etags[old]),
            lambda begin, end: replaced(old, name, begin, end), lambda begin, end: not_replaced(old, begin, end),
        )

    def delete(self, key, s3):
        self.change(key, lambda: s3.delete_object(Bucket=BUCKET, Key=key), deleted)

    def get(self, key, s3):
        """Reads and remembers; True if an answer came."""
        begin = time.monotonic()
        try:
            body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except FAILED as error:
            status = status_of(error)
            if status == NOT_FOUND and error.response["Error"]["Code"] == "NoSuchKey":
                self.last_read.pop(key, None)
                self.registers.see(key, read(ABSENT, begin, time.monotonic()))
                return True
            if status in REFUSED_FOR_GOOD:
                self.registers.wrong(f"{key}: a right request was refused: {error}")
            return False
        name = self.registers.value_of(body)
        if name is None:
            self.registers.wrong(f"{key}: {len(body)} bytes that nobody wrote: {body[:40]!r}")
            return True
        self.last_read[key] = name
        self.registers.see(key, read(name, begin, time.monotonic()))
        return True

    def list(self, _key, s3):
        """A listing is a read of every key, by its ETag; True if an answer came."""
        begin = time.monotonic()
        with self.registers.lock:
            keys = sorted(self.registers.keys)
        try:
            answer = s3.list_objects_v2(Bucket=BUCKET)
        except FAILED as error:
            if status_of(error) in REFUSED_FOR_GOOD:
                self.registers.wrong(f"a right listing was refused: {error}")
            return False
        end = time.monotonic()
        if answer["IsTruncated"]:
            self.registers.wrong("more keys than a page has: shorten the run")
        listed = {one["Key"]: one["ETag"].strip('"') for one in answer.get("Contents", [])}
        for key, etag in listed.items():
            if key not in self.registers.keys:
                self.registers.wrong(f"{key} is listed and was never written")
            elif etag not in self.registers.names:
                self.registers.wrong(f"{key} is listed with bytes that nobody wrote")
        for key in keys:
            name = self.registers.names.get(listed.get(key), ABSENT)
            self.registers.see(key, read(name, begin, end, "list"))
        return True

    def read_all(self, s3, within):
        """Reads and lists everything at one node, with patience: for the time when all is well again."""
        deadline = time.monotonic() + within
        todo = [lambda: self.list(None, s3)] + [lambda key=key: self.get(key, s3) for key in sorted(self.registers.keys)]
        for attempt in todo:
            while not attempt():
                assert time.monotonic() < deadline, f"not everything can be read within {within} s"
                time.sleep(0.1)
