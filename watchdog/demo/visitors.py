"""The visitors: `python -m watchdog.demo.visitors --front URL --rate 250`, until stopped.

Open loop: arrivals are a Poisson process that does not wait for answers, as real visitors do not, so a slow
shop gets no mercy. The last line printed is a JSON object of what they got.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter

import aiohttp

from watchdog.demo.pages import CATALOGUE
from watchdog.demo.serving import run, told_to_stop

MIX = (("home", 0.30), ("product", 0.30), ("search", 0.15), ("cart", 0.12), ("login", 0.06), ("checkout", 0.07))
MAX_OPEN = 300  # a busy machine answers late: beyond this visitors leave before they ask, and are counted
_NAMES, _SHARES = zip(*MIX, strict=True)
_WORDS = ("tea", "cup", "honey", "pot", "")


class Visitors:
    """Comes, asks for one page, counts what it got."""

    def __init__(self, front: str, dice: random.Random, session: aiohttp.ClientSession) -> None:
        self._front = front
        self._dice = dice
        self._session = session
        self._open: set[asyncio.Task[None]] = set()
        self.got: Counter[str] = Counter()

    async def come(self, rate: float) -> None:
        """Arrive at `rate` per second for ever."""
        due = time.perf_counter()
        while True:
            due += self._dice.expovariate(rate)
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            if len(self._open) >= MAX_OPEN:
                self.got["left"] += 1
                continue
            task = asyncio.create_task(self._ask())
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def leave(self) -> None:
        """Wait for the answers still owed."""
        if self._open:
            await asyncio.wait(self._open, timeout=3.0)

    async def _ask(self) -> None:
        method, path, form = self._choose()
        try:
            async with self._session.request(method, self._front + path, data=form) as answer:
                await answer.read()
                self.got["5xx" if answer.status >= 500 else "4xx" if answer.status >= 400 else "ok"] += 1
        except (aiohttp.ClientError, TimeoutError):
            self.got["nothing"] += 1

    def _choose(self) -> tuple[str, str, dict[str, str] | None]:
        page = self._dice.choices(_NAMES, _SHARES)[0]
        item = str(self._dice.choice(tuple(CATALOGUE)))
        if page == "product":
            return "GET", f"/product/{item}", None
        if page == "search":
            return "GET", f"/search?q={self._dice.choice(_WORDS)}", None
        if page == "cart":
            return "GET", f"/cart?items={item}.2", None
        if page == "login":
            return "POST", "/login", {"name": "ada"}
        if page == "checkout":
            return "POST", "/checkout", {"items": f"{item}.2", "customer": "ada"}
        return "GET", "/", None


async def visit(front: str, *, rate: float, seed: int | None) -> None:
    """Send visitors until stopped, then print what they got."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10.0)) as session:
        visitors = Visitors(front, random.Random(seed), session)
        coming = asyncio.create_task(visitors.come(rate))
        await told_to_stop().wait()
        coming.cancel()
        await visitors.leave()
        sys.stdout.write(json.dumps({"visitors": dict(visitors.got)}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m watchdog.demo.visitors", description="The demo's visitors.")
    parser.add_argument("--front", required=True)
    parser.add_argument("--rate", type=float, required=True, help="visitors per second")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    run(visit(asked.front, rate=asked.rate, seed=asked.seed))


if __name__ == "__main__":
    main()
