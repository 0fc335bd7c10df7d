"""Two versions behind a load balancer, and clients that keep asking: who answered, who failed, and why.

Everything runs on one event loop in a thread, on loopback. Clients keep their connections, as wrk does; a request that
meets a connection just closed by the server is sent again on a new one, as RFC 9110 §9.2.2 lets clients do with GET.
Each client has a connection of its own: out of a pool, the second try could meet one closed in the same moment.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

CLIENTS = 16


@dataclass
class Traffic:
    """What the clients saw since the last `forget`: answers by (version, status), and errors of other kinds."""

    ports: dict[str, int] = field(default_factory=dict)
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    url: str = ""

    def forget(self) -> None:
        self.seen.clear()

    def of(self, version: str) -> int:
        return sum(count for (who, _), count in self.seen.items() if who == version)

    @property
    def total(self) -> int:
        return sum(self.seen.values())

    def not_their_own_fault(self) -> list[str]:
        """Failures that no version answered itself: errors of the connection, and statuses of the load balancer."""
        return [*self.errors, *(f"the balancer: {status}" for who, status in self.seen if not who)]


@contextmanager
def versions(failing: Mapping[str, int]) -> Iterator[Traffic]:
    """Serve each named version on a port of its own; every n-th request of it fails with 500 (0: none does)."""
    traffic = Traffic()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runners = [asyncio.run_coroutine_threadsafe(_serve(v, n, traffic), loop).result(10) for v, n in failing.items()]
    try:
        yield traffic
    finally:
        for runner in runners:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


async def _serve(version: str, every: int, traffic: Traffic) -> web.AppRunner:
    answered = Counter[str]()

    async def answer(request: web.Request) -> web.Response:
        answered["n"] += 1
        status = 500 if every and answered["n"] % every == 0 else 200
        return web.Response(status=status, text=version, headers={"X-Version": version})

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    traffic.ports[version] = runner.addresses[0][1]
    return runner


@contextmanager
def load(traffic: Traffic, url: str) -> Iterator[Traffic]:
    """Keep CLIENTS clients asking `url` while the block runs."""
    over = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_clients(traffic, url, over)), daemon=True)
    thread.start()
    try:
        yield traffic
    finally:
        over.set()
        thread.join(10)


async def _clients(traffic: Traffic, url: str, over: threading.Event) -> None:
    await asyncio.gather(*(_client(traffic, url, over) for _ in range(CLIENTS)))


async def _client(traffic: Traffic, url: str, over: threading.Event) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while not over.is_set():
            await _ask(session, traffic, url)
            await asyncio.sleep(0.002)


async def _ask(session: aiohttp.ClientSession, traffic: Traffic, url: str) -> None:
    try:
        async with session.get(url) as answer:
            await answer.read()
            traffic.seen[(answer.headers.get("X-Version", ""), answer.status)] += 1
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        traffic.errors.append(f"{type(error).__name__}: {error}")
