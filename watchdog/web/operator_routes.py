"""The routes for operators: decide about one deploy, or pull the brake for all."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from watchdog import __version__
from watchdog.config import Scope
from watchdog.model import Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import Clock, Ledger
from watchdog.web.auth import Caller
from watchdog.web.bodies import StatusBody, WatchBody, WhyBody
from watchdog.web.body import read_body, read_model
from watchdog.web.documented import answer, guarded, reads, refusals
from watchdog.web.door import Door
from watchdog.web.errors import ApiError
from watchdog.web.probe_routes import Vitals
from watchdog.web.reading import Reading
from watchdog.web.views import recorded_json

_WHY = reads(WhyBody, {"why": "the error rate is a known test"}, required=False)
_REFUSED = refusals(401, 403, 404, 408, 409, 413, 415, 422, 429, 503)


def operator_routes(
    *, ledger: Ledger, desk: OperatorDesk, door: Door, reading: Reading, vitals: Vitals, clock: Clock
) -> APIRouter:
    """Build the router of the operators' requests; each takes an optional {"why": …}."""
    router = APIRouter(prefix="/api/v1", tags=["operators"])

    async def asked(request: Request, scope: Scope) -> tuple[Caller, str]:
        caller = door.admit(request, scope)
        body = await read_body(request)
        return caller, read_model(WhyBody, body or b"{}").why

    def about_one(verb: str, scope: Scope, act: Callable[..., Watch], summary: str) -> None:
        def decide(deploy_id: str, caller: Caller, why: str) -> dict[str, Any]:
            found = reading.watch(deploy_id, caller)
            watch = act(found.id, actor=caller.actor, why=why)
            return recorded_json(ledger, watch)

        async def endpoint(request: Request, deploy_id: str) -> JSONResponse:
            caller, why = await asked(request, scope)
            return JSONResponse(await run_in_threadpool(decide, deploy_id, caller, why))

        router.add_api_route(
            f"/deploys/{{deploy_id}}/{verb}",
            endpoint,
            methods=["POST"],
            name=verb,
            summary=summary,
            description=f"Needs the scope `{scope.value}`.",
            responses={200: answer(WatchBody, "Recorded; the watch as it stands now."), **_REFUSED},
            openapi_extra=_WHY,
        )

    def status_json() -> dict[str, Any]:
        health = vitals.health()
        return {
            "version": __version__,
            "now": clock.now(),
            "alive": vitals.is_alive(),
            "ready": vitals.is_ready(),
            "tick_age_s": health.tick_age_s,
            "ledger_ok": health.ledger_ok,
            "problems": list(health.problems),
            "paused": desk.paused(),
            "watches": dict(ledger.counts()),
        }

    def about_all(verb: str, act: Callable[..., object], summary: str) -> None:
        async def endpoint(request: Request) -> JSONResponse:
            caller, why = await asked(request, Scope.ADMIN)
            if not caller.serves_all:
                raise ApiError(403, f"{caller.actor} may not speak for all services.")
            await run_in_threadpool(act, actor=caller.actor, why=why)
            return JSONResponse(await run_in_threadpool(status_json))

        router.add_api_route(
            f"/{verb}",
            endpoint,
            methods=["POST"],
            name=verb,
            summary=summary,
            description="Needs the scope `admin` for all services.",
            responses={200: answer(StatusBody, "Recorded; the status now."), **_REFUSED_FOR_ALL},
            openapi_extra=_WHY,
        )

    about_one(
        "approve",
        Scope.APPROVE,
        desk.approve,
        "Let a held rollback go ahead, or the next step of a deploy that waits for it",
    )
    about_one(
        "deny", Scope.APPROVE, desk.deny, "Refuse a held rollback, or the next step; the new version stays as it is"
    )
    about_one("cancel", Scope.APPROVE, desk.cancel, "Stop watching a deploy")
    about_one("migrate-down", Scope.APPROVE, desk.migrate_down, "Take the migration of a held deploy back")
    about_one("rollback", Scope.ROLLBACK, desk.rollback, "Roll back now, whatever the metrics say")
    about_all("pause", desk.pause, "Kill switch on: no action is started any more")
    about_all("resume", desk.resume, "Kill switch off")

    @router.get(
        "/status",
        summary="How the daemon is",
        responses={200: answer(StatusBody, "The status."), **refusals(401, 403, 429, 503)},
        openapi_extra=guarded(),
    )
    def status(request: Request) -> JSONResponse:
        door.admit(request, Scope.READ)
        return JSONResponse(status_json())

    return router


_REFUSED_FOR_ALL = {code: told for code, told in _REFUSED.items() if code not in (404, 409)}
