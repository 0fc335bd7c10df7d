"""One process of the shop: `python -m watchdog.demo.shop --version v1 --port P --metrics-port M --db orders.db`.

Visitors come to the one port; the other carries /metrics and, for scenarios that turn bad later, PUT /-/fault.
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

from watchdog.demo.faults import Fault, changed, parse_fault
from watchdog.demo.orders import Orders
from watchdog.demo.pages import ROUTES, Page, Pages, Route, Visit
from watchdog.demo.serving import listen, run, told_to_stop
from watchdog.demo.telemetry import ShopTelemetry

SPREAD = 0.5  # sigma of the lognormal latency
SLOW_SHARE, SLOW_FACTOR = 0.015, 8.0  # now and then an answer takes much longer: a cold cache, a lock
HANG_S = 3.0  # a hanging shop holds connections this long, then refuses them


class Shop:
    """Answers visitors as its version and its fault say, and counts what it answered."""

    def __init__(self, *, version: str, fault: Fault, orders: Orders, dice: random.Random) -> None:
        self.fault = fault
        self._dice = dice
        self._pages = Pages(version, orders)
        self._telemetry = ShopTelemetry(version, tuple(route.path for route in ROUTES))

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
        page = getattr(self._pages, route.handler)

        async def handle(request: web.Request) -> web.Response:
            started = time.perf_counter()
            if self.fault.hang:
                await asyncio.Event().wait()
            form = await request.post() if request.method == "POST" else {}
            fields = {key: value for key, value in form.items() if isinstance(value, str)}
            if not self.fault.dead:
                await asyncio.sleep(self._latency_s(route))
            visit = Visit(path=request.match_info, query=request.query, form=fields)
            answer = Page(500, "internal error") if self._fails() else page(visit)
            if route.handler == "checkout" and answer.status == 201:
                self._telemetry.ordered()
            self._telemetry.answered(route.path, answer.status, time.perf_counter() - started)
            return web.Response(status=answer.status, text=answer.text, content_type="text/html")

        return handle

    def _latency_s(self, route: Route) -> float:
        seconds = route.median_s * self._dice.lognormvariate(0.0, SPREAD) * self.fault.slow
        return seconds * SLOW_FACTOR if self._dice.random() < SLOW_SHARE else seconds

    def _fails(self) -> bool:
        return self.fault.dead or self._dice.random() < self.fault.errors

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
    await stopped.wait()
    await admin.cleanup()
    await visitors.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m watchdog.demo.shop", description="One process of the demo's shop.")
    parser.add_argument("--version", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, required=True)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--fault", type=parse_fault, default=Fault(), help="e.g. errors=0.06,slow=1.6 or dead or hang")
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    orders = Orders(asked.db)
    shop = Shop(version=asked.version, fault=asked.fault, orders=orders, dice=random.Random(asked.seed))
    run(serve(shop, port=asked.port, metrics_port=asked.metrics_port))
    orders.close()


if __name__ == "__main__":
    main()
