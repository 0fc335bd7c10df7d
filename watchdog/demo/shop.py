"""One process of the shop: `python -m watchdog.demo.shop --version v1 --port P --metrics-port M --db orders.db`.

Visitors come to the one port; the other carries /metrics and, for scenarios that turn bad later, PUT /-/fault. With
`--variations v1,v2` one process serves both variations of a flag, told by a header of the request, and its fault is
the last one's.
"""

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from watchdog.demo.checkout import Checkout
from watchdog.demo.faults import Fault, changed, parse_fault
from watchdog.demo.orders import CENTS, Orders
from watchdog.demo.pages import ROUTES, Page, Pages, Route, Visit
from watchdog.demo.pool import ConnectionPool
from watchdog.demo.serving import VARIATION_HEADER, listen, run, told_to_stop
from watchdog.demo.telemetry import ShopTelemetry

SPREAD = 0.5  # sigma of the lognormal latency
SLOW_SHARE, SLOW_FACTOR = 0.015, 8.0  # now and then an answer takes much longer: a cold cache, a lock
HANG_S = 3.0  # a hanging shop holds connections this long, then refuses them
LEAK_EVERY_S = 0.5


class Shop:
    """Answers visitors as its version and its fault say, and counts what it answered."""

    def __init__(
        self, *, versions: tuple[str, ...], fault: Fault, checkout: Checkout, pages: Pages, dice: random.Random
    ) -> None:
        self.fault = fault  # of the last version, which is the only one but for a flag's two variations
        self._usual = Fault()
        self._versions = versions
        self._dice = dice
        self._pages = pages
        self._checkout = checkout
        self._serving = 0
        label = "version" if len(versions) == 1 else "variation"
        self._telemetry = ShopTelemetry(label, versions, tuple(route.path for route in ROUTES))

    def visitor_app(self) -> web.Application:
        app = web.Application()
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._handler(route))
        return app

    def admin_app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_put("/-/fault", self._set_fault)
        return app

    def _handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            started = time.perf_counter()
            version = self._version_for(request)
            fault = self.fault if version == self._versions[-1] else self._usual
            if fault.hang:
                await asyncio.Event().wait()
            self._serving += 1
            try:
                answer = await self._answer(request, route, fault)
            finally:
                self._serving -= 1
            if route.handler == "checkout" and answer.status == 201:
                self._telemetry.ordered(version)
            self._telemetry.answered(version, route.path, answer.status, time.perf_counter() - started)
            return web.Response(status=answer.status, text=answer.text, content_type="text/html")

        return handle

    def _version_for(self, request: web.Request) -> str:
        asked = request.headers.get(VARIATION_HEADER, "")
        return asked if asked in self._versions else self._versions[0]

    async def _answer(self, request: web.Request, route: Route, fault: Fault) -> Page:
        form = await request.post() if request.method == "POST" else {}
        fields = {key: value for key, value in form.items() if isinstance(value, str)}
        if 0 < fault.at_once < self._serving:
            return Page(500, "too many at once")
        if not fault.dead:
            await asyncio.sleep(self._latency_s(route, fault))
        if self._fails(route, fault):
            return Page(500, "internal error")
        visit = Visit(path=request.match_info, query=request.query, form=fields)
        if route.handler != "checkout":
            page: Page = getattr(self._pages, route.handler)(visit)
            return page
        if self._dice.random() < fault.orders_lost:
            return Page(200, "thank you! Please confirm your order once more")
        return await self._checkout.order(visit, fault)

    def _latency_s(self, route: Route, fault: Fault) -> float:
        seconds = route.median_s * self._dice.lognormvariate(0.0, SPREAD) * fault.slow
        return seconds * SLOW_FACTOR if self._dice.random() < SLOW_SHARE else seconds

    def _fails(self, route: Route, fault: Fault) -> bool:
        here = route.path == fault.route and self._dice.random() < fault.route_errors
        return fault.dead or here or self._dice.random() < fault.errors

    async def leak(self) -> None:
        """Take memory for ever, as much as the fault says; all of it is written to, so that it is really held."""
        held: list[bytes] = []
        while True:
            await asyncio.sleep(LEAK_EVERY_S)
            if self.fault.leak_mb_s > 0:
                held.append(b"\1" * int(self.fault.leak_mb_s * LEAK_EVERY_S * 1e6))

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self.fault.metrics:
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError
        return web.Response(body=self._telemetry.page(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _set_fault(self, request: web.Request) -> web.Response:
        try:
            self.fault = changed(self.fault, json.loads(await request.read()))
        except (ValueError, AttributeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"fault": repr(self.fault)})


async def serve(shop: Shop, *, port: int, metrics_port: int) -> None:
    """Listen on both ports until stopped; a hanging shop gives up its only one after a while."""
    stopped = told_to_stop()
    visitors = await listen(shop.visitor_app(), port)
    if shop.fault.hang:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), HANG_S)
        await visitors.cleanup()
        await stopped.wait()
        return
    admin = await listen(shop.admin_app(), metrics_port)
    leaking = asyncio.create_task(shop.leak())
    await stopped.wait()
    leaking.cancel()
    await admin.cleanup()
    await visitors.cleanup()


async def open_shop(asked: argparse.Namespace) -> None:
    """Bring up one process as its command line says."""
    versions = tuple(asked.variations.split(",")) if asked.variations else (asked.version,)
    orders = Orders(asked.db, column=asked.column)
    pages = Pages(asked.version, orders)
    checkout = Checkout(pages, ConnectionPool(asked.db.with_suffix(".connections")), payments=asked.payments)
    dice = random.Random(asked.seed)
    shop = Shop(versions=versions, fault=asked.fault, checkout=checkout, pages=pages, dice=dice)
    await serve(shop, port=asked.port, metrics_port=asked.metrics_port)
    await checkout.close()
    orders.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m watchdog.demo.shop", description="One process of the demo's shop.")
    parser.add_argument("--version", required=True)
    parser.add_argument("--variations", default="", help="the variations of a flag that it serves, such as v1,v2")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--column", default=CENTS, help="the name that this version knows for an order's total")
    parser.add_argument("--payments", default="", help="address of the third party that takes the money")
    parser.add_argument("--fault", type=parse_fault, default=Fault(), help="e.g. errors=0.06,slow=1.6 or dead or hang")
    parser.add_argument("--seed", type=int, default=None)
    run(open_shop(parser.parse_args()))


if __name__ == "__main__":
    main()
