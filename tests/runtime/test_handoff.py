"""One thing at a time, from a giver to a taker."""

from __future__ import annotations

import threading

import pytest

from yolo_distill.runtime.handoff import Slot


def run(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_the_newest_stands():
    slot = Slot[int]()
    for number in range(4):
        slot.replace(number)
    assert (slot.take(0), slot.take(0), slot.replaced, slot.ended) == (3, None, 3, False)


def test_every_one_in_order():
    slot, taken = Slot[int](), []

    def give():
        for number in range(200):
            assert slot.put(number)
        slot.end()

    giver = run(give)
    while not slot.ended:
        if (number := slot.take(5)) is not None:
            taken.append(number)
    giver.join(5)
    assert (taken, slot.replaced, giver.is_alive()) == (list(range(200)), 0, False)


def test_a_giver_waits_for_the_taker():
    slot = Slot[int]()
    slot.put(1)
    giver = run(lambda: slot.put(2))
    giver.join(0.1)
    assert giver.is_alive()
    assert slot.take(5) == 1
    giver.join(5)
    assert slot.take(0) == 2


def test_a_taker_that_left_holds_nobody_up():
    slot, said = Slot[int](), []
    slot.put(1)
    givers = [run(lambda: said.append(slot.put(2))), run(lambda: said.append(slot.wait_until_free()))]
    slot.shut()
    for giver in givers:
        giver.join(5)
    assert said == [False, False]


def test_a_failure_comes_after_what_was_given():
    slot = Slot[int]()
    slot.put(1)
    slot.end(OSError("unplugged"))
    assert slot.take(5) == 1
    assert not slot.ended
    with pytest.raises(OSError, match="unplugged"):
        slot.take(5)
    assert slot.ended
