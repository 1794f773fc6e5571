"""Whether what several clients saw of one register (an object's key) can be explained by one order in which each operation happened at one instant.

The search is Wing and Gong's with Lowe's memory of what was tried ("Testing for linearizability", 2017), as porcupine does it for Go; PyPI has none that is
kept. Linearizability is a property of each register alone (Herlihy and Wing 1990, theorem 1), so a history is judged key by key.
"""

from dataclasses import dataclass, replace

ABSENT = "absent"
ANY = "any"
KEEP = "keep"
UNSEEN = "a value that nobody saw"
NEVER = float("inf")
TRIES_MAX = 3_000_000
"""Beyond these the search is given up, which is a failure too: then use shorter histories."""


@dataclass(frozen=True)
class Operation:
    """One call by one client, from `begin` to `end` (`NEVER` if no answer came: it may have happened at any time since, or not at all).

    It can happen where the register `needs` to be as told, `("is", value)` or `("is not", value)` or ANY, and the register `becomes` a value or stays (KEEP).
    """

    what: str
    begin: float
    end: float
    needs: tuple | str
    becomes: str

    def happens(self, value):
        """The register's value afterwards, or None if the operation cannot have happened as it was answered."""
        if self.needs != ANY:
            relation, other = self.needs
            if (value == other) != (relation == "is"):
                return None
        return value if self.becomes == KEEP else self.becomes


class Undecided(Exception):
    """The search took too long."""


def explain(history, initial=ABSENT):
    """None if the operations can be explained; otherwise words about where the longest explanation ends."""
    operations = sorted(alike(history), key=lambda operation: operation.begin)
    count = len(operations)
    answered = sum(1 << number for number, operation in enumerate(operations) if operation.end != NEVER)
    tried, deepest = set(), (-1, 0, initial)
    tries = 0
    ahead = [(0, 0, initial)]  # Which have happened (bits), the first that has not, the value.
    while ahead:
        done, first, value = ahead.pop()
        if (done, value) in tried:
            continue
        tried.add((done, value))
        tries += 1
        if tries > TRIES_MAX:
            raise Undecided(f"{count} operations, {count - answered.bit_count()} without an answer")
        if done & answered == answered:
            return None
        deepest = max(deepest, ((done & answered).bit_count(), done, value))
        while done >> first & 1:
            first += 1
        ahead += [(done | 1 << number, first, after) for number, after in reversed(candidates(operations, done, first, value))]
    return told(operations, deepest[1], deepest[2])


def alike(history):
    """Values that nobody asked for are one value: so there is less to tell apart."""
    asked = {operation.needs[1] for operation in history if operation.needs != ANY} | {ABSENT, KEEP}
    return [operation if operation.becomes in asked else replace(operation, becomes=UNSEEN) for operation in history]


def candidates(operations, done, first, value):
    """Who may happen next, and the value then: nobody who began after another's end that has not happened yet. Those with an answer first, the most urgent of these."""
    possible, until = [], NEVER
    for number in range(first, len(operations)):
        operation = operations[number]
        if operation.begin > until:
            break
        if not done >> number & 1:
            possible.append(number)
            until = min(until, operation.end)
    possible.sort(key=lambda number: operations[number].end)
    after = ((number, operations[number].happens(value)) for number in possible if operations[number].begin <= until)
    chosen, unanswered = [], set()
    for number, then in after:
        operation = operations[number]
        if operation.end == NEVER:
            # What changes nothing need not have happened, and of two that do the same the first may as well have been the one.
            same = (operation.needs, operation.becomes)
            if then in (None, value) or same in unanswered:
                continue
            unanswered.add(same)
        if then is not None:
            chosen.append((number, then))
    return chosen


def told(operations, done, value):
    """What is left where no order goes any further."""
    left = [operation for number, operation in enumerate(operations) if not done >> number & 1]
    until = min(operation.end for operation in left)
    before = [operation for number, operation in enumerate(operations) if done >> number & 1]
    start = operations[0].begin

    def lines(some):
        return [f"    {one.begin - start:9.4f} … {one.end - start:9.4f}  {one.what}" for one in some]

    now = [operation for operation in left if operation.begin <= until]
    later = [operation for operation in left if operation.begin > until]
    return "\n".join([
        "  explained last:", *lines(before[-12:]), f"  then it is {value}, and none of these can be next:", *lines(now), "  later:", *lines(later[:8]),
    ])


class History:
    """What was seen of several registers: `see` may be called by many threads."""

    def __init__(self):
        self.of_key = {}

    def see(self, key, operation):
        self.of_key.setdefault(key, []).append(operation)

    def violations(self):
        """Words about each register whose history has no explanation."""
        found = []
        for key, history in sorted(self.of_key.items()):
            try:
                why = explain(history)
            except Undecided as undecided:
                why = f"  not decided: {undecided}"
            if why:
                found.append(f"{key} is not linearizable:\n{why}")
        return found


# The operations of S3 on one key.

def wrote(value, begin, end):
    return Operation(f"put {value}", begin, end, ANY, value)


def deleted(begin, end):
    return Operation("delete", begin, end, ANY, ABSENT)


def created(value, begin, end):
    """A put with If-None-Match: * that was answered with 200, or not at all."""
    return Operation(f"create {value}", begin, end, ("is", ABSENT), value)


def not_created(begin, end):
    """… with 412."""
    return Operation("create: there is one", begin, end, ("is not", ABSENT), KEEP)


def replaced(old, value, begin, end):
    """A put with If-Match that was answered with 200, or not at all."""
    return Operation(f"replace {old} by {value}", begin, end, ("is", old), value)


def not_replaced(old, begin, end):
    """… with 412 or 404."""
    return Operation(f"replace {old}: it is another", begin, end, ("is not", old), KEEP)


def read(value, begin, end, how="get"):
    return Operation(f"{how}: {value}", begin, end, ("is", value), KEEP)
