"""What comes in at the same time is worked off in one go, by one thread.

Threads that answer one request each spend most of their time waiting for the interpreter's lock, and for each other.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from anyio import to_thread

T = TypeVar("T")
R = TypeVar("R")


class InBatches(Generic[T, R]):
    """Whatever comes while all hands are busy waits for the next batch; all of a batch are answered at its end.

    work: answers items in their order; an exception in the place of an answer is raised to whoever put that item.
    most: items of a batch. hands: batches at the same time.
    """

    def __init__(
        self, work: Callable[[Sequence[T]], Sequence[R | BaseException]], *, most: int, hands: int = 1
    ) -> None:
        self._work = work
        self._most = most
        self._hands = hands
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._workers: set[asyncio.Task[None]] = set()

    async def put(self, item: T) -> R:
        """Wait for the batch that holds the item."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if len(self._workers) < self._hands:
            worker = asyncio.create_task(self._run())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)  # one that was stopped before it began says nothing itself
        return await answer

    async def _run(self) -> None:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                _settle(batch, await to_thread.run_sync(self._try, [item for item, _ in batch]))
                batch = []
        finally:
            self._workers.discard(asyncio.current_task())
            given_up = batch  # the loop ends in the middle of it: nobody is left waiting
            if not self._workers:
                given_up, self._waiting = [*batch, *self._waiting], []
            _settle(given_up, [asyncio.CancelledError() for _ in given_up])

    def _try(self, items: Sequence[T]) -> Sequence[R | BaseException]:
        try:
            return self._work(items)
        except Exception as error:  # noqa: BLE001 (raised where it belongs: to whoever waits for the batch)
            return [error] * len(items)


def _settle(batch: Sequence[tuple[T, "asyncio.Future[R]"]], answers: Sequence[R | BaseException]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if future.done():  # whoever waited has gone
            continue
        if isinstance(answer, asyncio.CancelledError):
            future.cancel()
        elif isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
