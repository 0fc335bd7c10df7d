"""The routes of analysts: say what a verdict was worth, and read how good verdicts are."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from watchdog.config import Scope
from watchdog.label_desk import LabelDesk
from watchdog.ports import Ledger, Tally
from watchdog.quality import report
from watchdog.web.auth import Caller
from watchdog.web.bodies import LabelBody, QualityBody, WatchBody
from watchdog.web.body import read_body, read_model
from watchdog.web.documented import answer, guarded, reads, refusals
from watchdog.web.door import Door
from watchdog.web.reading import IDENTIFIER, Reading
from watchdog.web.views import recorded_json

_LABEL = reads(LabelBody, {"label": "false_alarm", "note": "the load test of Tuesday"}, required=True)


def label_routes(*, ledger: Ledger, desk: LabelDesk, door: Door, reading: Reading) -> APIRouter:
    """Build the router of labels and quality."""
    router = APIRouter(prefix="/api/v1", tags=["analysts"])

    def labelled(deploy_id: str, caller: Caller, said: LabelBody) -> dict[str, Any]:
        watch = reading.watch(deploy_id, caller)
        desk.label(watch.id, said.label, actor=caller.actor, note=said.note)
        return recorded_json(ledger, watch)

    @router.post(
        "/deploys/{deploy_id}/label",
        summary="Say what the verdict was worth",
        description="Needs the scope `label`. The newest word counts; the audit keeps all.",
        responses={
            200: answer(WatchBody, "Recorded; the watch with its label."),
            **refusals(401, 403, 404, 408, 409, 413, 415, 422, 429, 503),
        },
        openapi_extra=_LABEL,
    )
    async def label(request: Request, deploy_id: str) -> JSONResponse:
        caller = door.admit(request, Scope.LABEL)
        said = read_model(LabelBody, await read_body(request) or b"{}")
        return JSONResponse(await run_in_threadpool(labelled, deploy_id, caller, said))

    @router.get(
        "/quality",
        summary="How good verdicts were, by labels",
        description="Precision, recall and false-rollback rate with exact intervals, against the promised budget.",
        responses={200: answer(QualityBody, "Together, by service, over time."), **refusals(401, 403, 422, 429, 503)},
        openapi_extra=guarded(),
    )
    def quality(
        request: Request,
        *,
        service: Annotated[str | None, Query(pattern=IDENTIFIER)] = None,
        by: Literal["month", "week"] = "month",
    ) -> JSONResponse:
        caller = door.admit(request, Scope.READ)
        return JSONResponse(report(seen_tallies(ledger, caller, service), by=by))

    return router


def seen_tallies(ledger: Ledger, caller: Caller, service: str | None, since: float | None = None) -> list[Tally]:
    """The tallies of the services that a caller may see."""
    return [tally for tally in ledger.tallies(service=service, since=since) if caller.serves(tally.service)]
