"""Liveness, readiness and metrics: open to all, and so without anything worth knowing."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from watchdog.errors import LedgerError
from watchdog.ports import Clock, Ledger
from watchdog.telemetry import CONTENT_TYPE, Telemetry
from watchdog.web.bodies import ProbeBody
from watchdog.web.documented import answer
from watchdog.web.health import Health


@dataclass(slots=True, kw_only=True)
class Vitals:
    """Health, judged: a daemon whose ticks do not end is dead, however well it answers."""

    health: Callable[[], Health]
    clock: Clock
    max_tick_age_s: float
    _born: float = field(init=False)

    def __post_init__(self) -> None:
        self._born = self.clock.monotonic()

    def is_alive(self) -> bool:
        return self.health().is_alive(self.max_tick_age_s, up_s=self.clock.monotonic() - self._born)

    def is_ready(self) -> bool:
        return self.health().is_ready(self.max_tick_age_s)


def probe_routes(*, ledger: Ledger, vitals: Vitals, telemetry: Telemetry) -> APIRouter:
    """Build the routes of probes and of Prometheus."""
    router = APIRouter(tags=["probes"])

    def told(good: bool) -> JSONResponse:
        body = {"status": "ok" if good else "failing", "tick_age_s": vitals.health().tick_age_s}
        return JSONResponse(body, status_code=200 if good else 503)

    # Both run in the event loop, not in the thread pool: they answer although every thread waits for the ledger.
    async def healthy() -> JSONResponse:
        return told(vitals.is_alive())

    async def ready() -> JSONResponse:
        return told(vitals.is_ready())

    answers: dict[int | str, dict[str, Any]] = {200: answer(ProbeBody, "Yes."), 503: answer(ProbeBody, "No.")}
    for path, endpoint, alias, summary in (
        ("/-/healthy", healthy, "/healthz", "Do ticks still end? If not: restart it"),
        ("/-/ready", ready, "/readyz", "Can it take deploys and watch them?"),
    ):
        router.add_api_route(path, endpoint, summary=summary, responses=answers)
        router.add_api_route(alias, endpoint, include_in_schema=False)

    @router.get(
        "/metrics",
        summary="Metrics of the daemon itself",
        response_class=Response,
        responses={200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        with suppress(LedgerError):  # the rest is worth having, then more than ever
            telemetry.watches(await run_in_threadpool(ledger.counts))
            telemetry.paused(paused=await run_in_threadpool(ledger.paused) is not None)
        return Response(telemetry.render(), media_type=CONTENT_TYPE)

    return router
