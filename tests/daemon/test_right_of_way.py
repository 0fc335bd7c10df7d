"""Deploy events go ahead of a round over the watches, and never keep it from being made."""

import threading
import time

import pytest

from watchdog.right_of_way import RightOfWay


def test_nobody_waits_where_nobody_is_ahead() -> None:
    """Also after somebody was."""
    way, began = RightOfWay(most_s=60.0), time.monotonic()
    way.give()
    with way.taken():
        pass
    way.give()
    assert time.monotonic() - began < 30.0


def test_a_step_waits_until_all_who_are_ahead_are_through() -> None:
    """Two who take it at the same time: the second one's end lets the step go on, not the first one's."""
    way = RightOfWay(most_s=60.0)
    passed = threading.Event()

    def step() -> None:
        way.give()
        passed.set()

    with way.taken():
        with way.taken():
            threading.Thread(target=step, daemon=True).start()
        assert not passed.wait(0.05)
    assert passed.wait(30.0)


def test_a_step_is_made_in_the_end_however_many_are_ahead() -> None:
    """The limit holds while the way is never free."""
    way = RightOfWay(most_s=0.01)
    with way.taken():
        began = time.monotonic()
        way.give()
        assert time.monotonic() - began < 30.0


def test_one_that_breaks_off_is_not_ahead_any_more() -> None:
    """An exception frees the way."""
    way, began = RightOfWay(most_s=60.0), time.monotonic()
    with pytest.raises(ValueError, match="broken"), way.taken():
        raise ValueError("broken")
    way.give()
    assert time.monotonic() - began < 30.0
