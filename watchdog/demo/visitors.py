"""The visitors: `python -m watchdog.demo.visitors --front URL --rate 250`, until stopped.

Open loop: arrivals are a Poisson process that does not wait for answers, as real visitors do not, so a slow
shop gets no mercy. PUT /-/visits on the admin port changes how many come and what for. The last line printed is a JSON
object of what they got.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping

import aiohttp
from aiohttp import web

from watchdog.demo.pages import CATALOGUE
from watchdog.demo.serving import listen, run, told_to_stop

MIX = {"home": 0.30, "product": 0.30, "search": 0.15, "cart": 0.12, "login": 0.06, "checkout": 0.07}
MAX_OPEN = 300  # a busy machine answers late: beyond this visitors leave before they ask, and are counted
_WORDS = ("tea", "cup", "honey", "pot", "")


class Visitors:
    """Comes, asks for one page, counts what it got."""

    def __init__(
        self, front: str, dice: random.Random, session: aiohttp.ClientSession, *, rate: float, mix: Mapping[str, float]
    ) -> None:
        self._front = front
        self._rate = rate
        self._mix = {**MIX, **mix}
        self._dice = dice
        self._session = session
        self._open: set[asyncio.Task[None]] = set()
        self.got: Counter[str] = Counter()

    async def come(self) -> None:
        """Arrive for ever, at the present rate."""
        due = time.perf_counter()
        while True:
            due += self._dice.expovariate(self._rate)
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            if len(self._open) >= MAX_OPEN:
                self.got["left"] += 1
                continue
            task = asyncio.create_task(self._ask())
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    def admin_app(self) -> web.Application:
        app = web.Application()
        app.router.add_put("/-/visits", self._set_visits)
        return app

    async def _set_visits(self, request: web.Request) -> web.Response:
        """`{"rate": 250, "mix": {"checkout": 0.2}}`, either or both."""
        asked = await request.json()
        rate, mix = float(asked.get("rate", self._rate)), asked.get("mix", {})
        if rate <= 0 or set(mix) - set(MIX):
            return web.json_response({"error": f"rate above 0, mix of {', '.join(MIX)}"}, status=400)
        self._rate, self._mix = rate, {**self._mix, **mix}
        return web.json_response({"rate": self._rate, "mix": self._mix})

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
        page = self._dice.choices(tuple(self._mix), tuple(self._mix.values()))[0]
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


async def visit(asked: argparse.Namespace) -> None:
    """Send visitors until stopped, then print what they got."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10.0)) as session:
        dice = random.Random(asked.seed)
        visitors = Visitors(asked.front, dice, session, rate=asked.rate, mix=asked.mix)
        admin = await listen(visitors.admin_app(), asked.admin_port) if asked.admin_port else None
        coming = asyncio.create_task(visitors.come())
        await told_to_stop().wait()
        coming.cancel()
        await visitors.leave()
        if admin is not None:
            await admin.cleanup()
        sys.stdout.write(json.dumps({"visitors": dict(visitors.got)}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m watchdog.demo.visitors", description="The demo's visitors.")
    parser.add_argument("--front", required=True)
    parser.add_argument("--rate", type=float, required=True, help="visitors per second")
    parser.add_argument("--mix", type=json.loads, default={}, help='what they come for, such as {"checkout": 0.2}')
    parser.add_argument("--admin-port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=None)
    run(visit(parser.parse_args()))


if __name__ == "__main__":
    main()
