"""Taking an order: the money from a third party, a connection from the shared pool, a row in the shared table."""

import asyncio

import aiohttp

from watchdog.demo.faults import Fault
from watchdog.demo.orders import BrokenError, BusyError
from watchdog.demo.pages import Page, Pages, Visit
from watchdog.demo.pool import ConnectionPool

PATIENCE_S = 1.0  # how long a checkout waits for what others hold
_AGAIN_S = 0.02


class Checkout:
    """What all versions share, and what a checkout comes to when it is not there."""

    def __init__(self, pages: Pages, pool: ConnectionPool, *, payments: str = "") -> None:
        self._pages = pages
        self._pool = pool
        self._payments = payments
        self._session: aiohttp.ClientSession | None = None
        self._kept: list[int] = []

    async def order(self, visit: Visit, fault: Fault) -> Page:
        """Take one order, or say in one sentence why not."""
        if self._payments and not await self._paid():
            return Page(500, "the payment was not taken")
        slot = await self._connection()
        if slot is None:
            return Page(500, "no connection to the database is free")
        try:
            return await self._written(visit)
        finally:
            if fault.keeps_connections:
                self._kept.append(slot)
            else:
                self._pool.give_back(slot)

    async def _paid(self) -> bool:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S))
        try:
            async with self._session.post(f"{self._payments}/pay") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def _connection(self) -> int | None:
        until = _now() + PATIENCE_S
        while True:
            slot = self._pool.take()
            if slot is not None or _now() >= until:
                return slot
            await asyncio.sleep(_AGAIN_S)

    async def _written(self, visit: Visit) -> Page:
        until = _now() + PATIENCE_S
        while True:
            try:
                return self._pages.checkout(visit)
            except BrokenError as error:
                return Page(500, str(error))
            except BusyError as error:
                if _now() >= until:
                    return Page(500, str(error))
            await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def _now() -> float:
    return asyncio.get_running_loop().time()
