"""What comes in at the same time is worked off in one go: nobody waits for nothing, nobody gets another's answer."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from watchdog.web.in_batches import InBatches

DEADLINE_S = 20.0


class Work:
    """Doubles numbers; odd ones it refuses. The first batch waits until it is told to go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.both, self.go_on = threading.Event(), threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def __call__(self, items: Sequence[int]) -> list[int | BaseException]:
        self.batches.append(list(items))
        self.begun.set()
        if len(self.batches) == 2:
            self.both.set()
        assert self.go_on.wait(DEADLINE_S)
        if self.error is not None:
            raise self.error
        return [ValueError(str(item)) if item % 2 else 2 * item for item in items]


async def crowd(line: InBatches[int, int], work: Work, rest: Sequence[int]) -> list["asyncio.Task[int]"]:
    """One item begins the work; the rest come while it goes on."""
    first = asyncio.create_task(line.put(0))
    assert await asyncio.to_thread(work.begun.wait, DEADLINE_S)
    return [first, *(asyncio.create_task(line.put(item)) for item in rest)]


def test_what_comes_during_the_work_is_the_next_batch() -> None:
    """In the order in which it came, so many at a time; each gets its own answer or its own error."""
    work = Work()

    async def come() -> list[int | BaseException]:
        tasks = await crowd(InBatches(work, most=3), work, [2, 3, 4, 6, 8])
        await asyncio.sleep(0)  # all of them have come
        work.go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    told = asyncio.run(come())
    assert work.batches == [[0], [2, 3, 4], [6, 8]]
    assert [one for one in told if not isinstance(one, BaseException)] == [0, 4, 8, 12, 16]
    assert repr(told[2]) == "ValueError('3')"


def test_several_hands_have_a_batch_each() -> None:
    """Where the work waits for something else, one batch need not wait for the other."""
    work = Work()

    async def come() -> list[int]:
        line = InBatches(work, most=2, hands=2)
        tasks = await crowd(line, work, [2])
        assert await asyncio.to_thread(work.both.wait, DEADLINE_S)
        tasks += [asyncio.create_task(line.put(item)) for item in (4, 6, 8)]
        await asyncio.sleep(0)
        work.go_on.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(come()) == [0, 4, 8, 12, 16]
    assert sorted(work.batches) == [[0], [2], [4, 6], [8]]


def test_one_who_has_gone_keeps_nobody_from_an_answer() -> None:
    """A sender that hangs up is worked off all the same; what it sent may be on its way to the ledger."""
    work = Work()

    async def come() -> list[int | BaseException]:
        tasks = await crowd(InBatches(work, most=8), work, [2, 4])
        await asyncio.sleep(0)
        tasks[1].cancel()
        work.go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    told = asyncio.run(come())
    assert work.batches == [[0], [2, 4]]
    assert told[0] == 0
    assert isinstance(told[1], asyncio.CancelledError)
    assert told[2] == 8


def test_work_that_breaks_is_told_to_all_who_waited_for_it_and_the_next_goes_on() -> None:
    """No batch takes the line with it."""
    work = Work()
    work.go_on.set()
    line = InBatches(work, most=8)

    async def come() -> int:
        work.error = OSError("no disk")
        with pytest.raises(OSError, match="no disk"):
            await line.put(2)
        work.error = None
        return await line.put(4)

    assert asyncio.run(come()) == 8


def test_a_line_outlives_the_loop_that_it_was_used_in() -> None:
    """Nothing of one event loop is waited for in the next."""
    work = Work()
    work.go_on.set()
    line = InBatches(work, most=8)
    assert [asyncio.run(line.put(2)), asyncio.run(line.put(4))] == [4, 8]


def test_nobody_waits_for_a_loop_that_ends() -> None:
    """Whoever waits is let go when the daemon stops in the middle of a batch, those behind it too."""
    work = Work()

    async def come() -> list["asyncio.Task[int]"]:
        line = InBatches(work, most=1)
        tasks = await crowd(line, work, [2])
        await asyncio.sleep(0)
        (worker,) = line._workers
        worker.cancel()
        work.go_on.set()
        await asyncio.wait(tasks, timeout=DEADLINE_S)
        return tasks

    assert all(task.cancelled() for task in asyncio.run(come()))


def test_a_line_whose_worker_never_began_goes_on() -> None:
    """Its loop ended in the very moment in which an item came."""
    work = Work()
    work.go_on.set()
    line = InBatches(work, most=8)

    async def come() -> int:
        lost = asyncio.create_task(line.put(2))
        await asyncio.sleep(0)
        (worker,) = line._workers
        worker.cancel()
        lost.cancel()
        await asyncio.wait([worker, lost], timeout=DEADLINE_S)
        return await line.put(4)

    assert asyncio.run(come()) == 8
