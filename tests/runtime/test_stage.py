"""One thing at a time, from a thread to whoever takes it."""

from __future__ import annotations

import threading
import time

import pytest

from yolo_distill.runtime.stage import Stage


def made(count, error=None):
    """Return a function that gives a stage its generator, and the list of what it has made so far."""
    done = []

    def make(stage):
        for number in range(count):
            done.append(number)
            yield number
        if error:
            raise error

    return make, done


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_the_newest_stands():
    stage = Stage(made(4)[0], name="a", newest=True)
    wait_for(lambda: stage.dropped == 3)
    assert (stage.take(5), stage.take(5), stage.dropped, stage.ended) == (3, None, 3, True)


def test_every_one_in_order():
    stage, taken = Stage(made(200)[0], name="a"), []
    while not stage.ended:
        if (number := stage.take(5)) is not None:
            taken.append(number)
    assert (taken, stage.dropped, stage.close(5)) == (list(range(200)), 0, True)


def test_nothing_is_made_before_its_turn():
    make, done = made(3)
    stage = Stage(make, name="a")
    wait_for(lambda: done)
    time.sleep(0.1)
    assert done == [0]
    assert stage.take(5) == 0
    wait_for(lambda: done == [0, 1])
    assert stage.close(5)  # though it waits for its taker
    assert done == [0, 1]


def test_nothing_comes_for_a_while():
    go = threading.Event()

    def make(stage):
        yield go.wait(20)

    stage = Stage(make, name="a")
    assert (stage.take(0.01), stage.ended, stage.close(0.01)) == (None, False, False)
    go.set()
    assert stage.close(5)


def test_a_failure_comes_after_what_was_made():
    stage = Stage(made(1, OSError("unplugged"))[0], name="a")
    assert (stage.take(5), stage.ended) == (0, False)
    with pytest.raises(OSError, match="unplugged"):
        stage.take(5)
    assert stage.ended
