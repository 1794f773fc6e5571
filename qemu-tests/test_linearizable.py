"""The judge of histories: what can be explained is accepted, what cannot is not."""

import random

import pytest

from linearizable import (
    ABSENT, NEVER, History, Undecided, created, deleted, explain, not_created, not_replaced, read, replaced, wrote,
)


@pytest.mark.parametrize("history", [
    [],
    [read(ABSENT, 0, 1)],
    [wrote("a", 0, 1), read("a", 2, 3)],
    # At once: either order.
    [wrote("a", 0, 3), read(ABSENT, 1, 2)],
    [wrote("a", 0, 3), read("a", 1, 2)],
    [wrote("a", 0, 9), wrote("b", 0, 9), read("b", 1, 2), read("a", 3, 4)],
    # Without an answer: at any time, or never.
    [wrote("a", 0, NEVER), read(ABSENT, 1, 2), read("a", 3, 4)],
    [wrote("a", 0, NEVER), read(ABSENT, 1, 2), read(ABSENT, 3, 4)],
    [wrote("a", 0, 1), deleted(2, NEVER), read("a", 3, 4), read(ABSENT, 5, 6), read(ABSENT, 7, 8)],
    [wrote("a", 0, 1), wrote("b", 2, NEVER), wrote("c", 3, 4), read("b", 5, 6)],
    # Conditions.
    [created("a", 0, 5), not_created(1, 4), read("a", 6, 7)],
    [created("a", 0, NEVER), not_created(1, 2)],
    [wrote("a", 0, 1), replaced("a", "b", 2, 3), not_replaced("a", 4, 5), read("b", 6, 7)],
    [created("a", 0, 1), deleted(2, 3), created("b", 4, 5)],
], ids=str)
def test_what_one_order_explains_is_accepted(history):
    assert explain(history) is None


@pytest.mark.parametrize("history", [
    # Lost, stale, from nowhere, back again.
    [wrote("a", 0, 1), read(ABSENT, 2, 3)],
    [wrote("a", 0, 1), wrote("b", 2, 3), read("a", 4, 5)],
    [read("a", 0, 1)],
    [wrote("a", 2, 3), read("a", 0, 1)],
    [wrote("a", 0, 1), deleted(2, 3), read("a", 4, 5)],
    [wrote("a", 0, 9), read("a", 1, 2), read(ABSENT, 3, 4)],
    [wrote("a", 0, 9), wrote("b", 0, 9), read("b", 1, 2), read("a", 3, 4), read("b", 5, 6)],
    # What happened without an answer happened once.
    [wrote("a", 0, NEVER), wrote("b", 1, 2), read("a", 3, 4), wrote("c", 5, 6), read("a", 7, 8)],
    # Conditions.
    [created("a", 0, 1), created("b", 2, 3)],
    [created("a", 0, 9), created("b", 0, 9)],
    [not_created(0, 1)],
    [created("a", 0, NEVER), not_created(1, 2), read(ABSENT, 3, 4)],
    [wrote("a", 0, 1), replaced("a", "b", 2, 5), replaced("a", "c", 2, 5)],
    [wrote("a", 0, 1), not_replaced("a", 2, 3)],
    [wrote("a", 0, 1), wrote("b", 2, 3), replaced("a", "c", 4, 5)],
], ids=str)
def test_what_no_order_explains_is_refused(history):
    assert explain(history)


def of_a_register(chance, operations, clients=5):
    """What clients of a real register see, each operation happening at an instant between its begin and its end."""
    free, history, value = [0.0] * clients, [], ABSENT
    plans = []
    for number in range(operations):
        client = chance.randrange(clients)
        begin = free[client] + chance.random()
        at = begin + chance.random()
        end = free[client] = at + chance.random()
        plans.append((at, begin, end, number))
    for _, begin, end, number in sorted(plans):
        new, lost = f"v{number}", chance.random() < 0.05
        kind = chance.choice(["write", "read", "read", "create", "replace", "delete"])
        if kind == "read":
            history.append(read(value, begin, end))
        elif lost and chance.random() < 0.5:
            history.append(wrote(new, begin, NEVER))  # Nobody heard of it, and it did not happen.
        elif kind == "create" and value != ABSENT:
            history.append(not_created(begin, end))
        else:
            end = NEVER if lost else end
            made = {"write": wrote(new, begin, end), "create": created(new, begin, end), "replace": replaced(value, new, begin, end), "delete": deleted(begin, end)}
            history.append(made[kind])
            value = history[-1].becomes
    return history


def test_histories_of_a_real_register_are_accepted_and_with_one_lie_refused(chance):
    for _ in range(15):
        history = of_a_register(chance, 150)
        assert explain(history) is None
        last = max(operation.end for operation in history if operation.end != NEVER)
        assert explain([*history, read("never written", last + 1, last + 2)])
        values = [operation.becomes for operation in history if operation.what.startswith("put") and operation.end != NEVER]
        lie = [*history, wrote("z", last + 1, last + 2), read(chance.choice(values), last + 3, last + 4)]
        assert explain(lie), "an old value is back"


def test_keys_are_judged_apart_and_named():
    history = History()
    history.see("good", wrote("a", 0, 1))
    history.see("good", read("a", 2, 3))
    history.see("bad", wrote("a", 0, 1))
    history.see("bad", read(ABSENT, 2, 3))
    (why,) = history.violations()
    assert "bad" in why and "get: absent" in why


def test_a_search_that_takes_too_long_is_said_to_be_undecided(monkeypatch):
    monkeypatch.setattr("linearizable.TRIES_MAX", 10)
    with pytest.raises(Undecided):
        explain(of_a_register(random.Random(1), 100))
