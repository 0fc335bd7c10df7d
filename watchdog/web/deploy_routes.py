"""The routes for those who deploy: send an event, follow it, read why."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BeforeValidator
from starlette.concurrency import run_in_threadpool

from watchdog.config import Scope
from watchdog.errors import NotFoundError, RefusedError, tried
from watchdog.intake import Asking, DeployRequest, Intake, Received
from watchdog.model import Beginning, Recorded, State, Watch
from watchdog.ports import Ledger
from watchdog.web.auth import Caller, intake_key
from watchdog.web.bodies import AuditBody, DeploysBody, EvidenceBody, WatchBody
from watchdog.web.body import read_body, read_model
from watchdog.web.documented import answer, answer_or_lines, guarded, reads, refusals
from watchdog.web.door import Door
from watchdog.web.errors import ApiError
from watchdog.web.in_batches import InBatches
from watchdog.web.reading import IDENTIFIER, MAX_WAIT_S, Reading, Sought
from watchdog.web.views import audit_json, evidence_json, recorded_json, watch_json, watch_lines, watch_summary

_EXAMPLE = {"id": "shop-v42", "service": "shop", "version": "v42", "previous_version": "v41", "strategy": "canary"}
_MAX_KEY = 256
AT_ONCE = 32  # deploy events that share a commit, at most: nobody waits long for the others
Upper = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)


def deploy_routes(*, ledger: Ledger, intake: Intake, door: Door, reading: Reading) -> APIRouter:
    """Build the router of /api/v1/deploys."""
    router = APIRouter(prefix="/api/v1/deploys", tags=["deploys"])

    def answered(
        request: Request,
        watch: Watch,
        *,
        begun: Beginning | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """begun: all that is on record of the watch, where it was written a moment ago."""
        if request.headers.get("accept", "").partition(",")[0].partition(";")[0].strip().lower() == "text/plain":
            return PlainTextResponse(watch_lines(watch), status_code=status, headers=headers)
        told = recorded_json(ledger, watch) if begun is None else watch_json(watch, begun.actions, begun.audit)
        return JSONResponse(told, status_code=status, headers=headers)

    def received_all(told: Sequence[_Told]) -> list[Response | BaseException]:
        outcomes = intake.receive_all([Asking(one.asked, one.caller.actor, one.caller.serves) for one in told])
        with ledger.snapshot():
            return [tried(partial(received, one, outcome)) for one, outcome in zip(told, outcomes, strict=True)]

    def received(told: _Told, outcome: Received | BaseException) -> Response:
        found = _raised(outcome, told.caller)
        watch = found.watch
        if found.recorded is Recorded.CONFLICT:
            remedy = "Give a new deploy a new id; to retry an old one, send it unchanged."
            raise ApiError(409, f"The deploy {watch.id!r} is on record with another body.", remedy=remedy)
        where = {"Location": f"/api/v1/deploys/{watch.id.replace('/', '%2F')}"}
        status = 201 if found.recorded is Recorded.CREATED else 200
        return answered(told.request, watch, begun=found.begun, status=status, headers=where)

    intake_line = InBatches(received_all, most=AT_ONCE, hands=ledger.writers)

    @router.post(
        "",
        status_code=201,
        summary="Tell that a version is live",
        responses={
            201: answer_or_lines(WatchBody, "Recorded on disk, and watched from now on; Location names it."),
            200: answer_or_lines(WatchBody, "The same deploy was recorded before; nothing happened now."),
            **refusals(401, 403, 404, 408, 409, 413, 415, 422, 429, 503),
        },
        openapi_extra=reads(DeployRequest, _EXAMPLE, required=True, signed=True),
    )
    async def receive(request: Request) -> Response:
        """Idempotent by `id`; without one by webhook-id or Idempotency-Key."""
        body = await read_body(request)
        caller = door.admit_sender(request, body)
        asked = _identified(read_model(DeployRequest, body), caller, request)
        caller.require_service(asked.service)
        return await intake_line.put(_Told(request, asked, caller))

    @router.get(
        "",
        summary="List deploys, newest first",
        responses={200: answer(DeploysBody, "One page."), **refusals(401, 403, 422, 429, 503)},
        openapi_extra=guarded(),
    )
    def deploys(
        request: Request,
        *,
        service: Annotated[str | None, Query(pattern=IDENTIFIER)] = None,
        environment: Annotated[str | None, Query(pattern=IDENTIFIER)] = None,
        state: Annotated[list[Annotated[State, Upper]] | None, Query(description="may be given several times")] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        before: Annotated[float | None, Query(ge=0, allow_inf_nan=False, description="`next_before` of a page")] = None,
        before_id: Annotated[str | None, Query(max_length=256, description="`next_before_id` of a page")] = None,
    ) -> JSONResponse:
        caller = door.admit(request, Scope.READ)
        sought = Sought(service=service, environment=environment, states=frozenset(state) if state else None)
        found, following = reading.page(caller, sought, limit=limit, before=(before, before_id))
        told = {"next_before": following[0], "next_before_id": following[1]}
        return JSONResponse({"deploys": [watch_summary(w) for w in found], **told})

    @router.get(
        "/{deploy_id}",
        summary="One deploy as it stands, or once it rests",
        responses={200: answer_or_lines(WatchBody, "The watch."), **refusals(401, 403, 404, 422, 429, 503)},
        openapi_extra=guarded(),
    )
    async def deploy(
        request: Request,
        deploy_id: str,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S, allow_inf_nan=False, description="seconds, at most")] = 0.0,
    ) -> Response:
        """With `wait`, answers as soon as the watch reaches an outcome, and at the latest after that time."""
        caller = door.admit(request, Scope.READ)
        watch = await reading.resting(deploy_id, caller, wait_s=wait, is_gone=request.is_disconnected)
        return await run_in_threadpool(answered, request, watch)

    @router.get(
        "/{deploy_id}/audit",
        summary="Who did what and why",
        responses={200: answer(AuditBody, "The audit."), **refusals(401, 403, 404, 429, 503)},
        openapi_extra=guarded(),
    )
    def audit(request: Request, deploy_id: str) -> JSONResponse:
        watch = reading.watch(deploy_id, door.admit(request, Scope.READ))
        return JSONResponse({"id": watch.id, "audit": [audit_json(e) for e in ledger.audit(watch.id)]})

    @router.get(
        "/{deploy_id}/evidence",
        summary="The last verdict with all its evidence",
        responses={200: answer(EvidenceBody, "The verdict."), **refusals(401, 403, 404, 429, 503)},
        openapi_extra=guarded(),
    )
    def evidence(request: Request, deploy_id: str) -> JSONResponse:
        watch = reading.watch(deploy_id, door.admit(request, Scope.READ))
        verdicts = ledger.verdicts(watch.id, last=1)
        return JSONResponse(evidence_json(watch.id, verdicts[-1] if verdicts else None))

    return router


class _Told(NamedTuple):
    """One deploy event of a caller who may send it."""

    request: Request
    asked: DeployRequest
    caller: Caller


def _raised(outcome: Received | BaseException, caller: Caller) -> Received:
    """What became of an event; what is wrong with it in the words of the API."""
    if isinstance(outcome, NotFoundError):
        # The sentence may name a service that is configured: only for those who may read.
        message = outcome.message if caller.may(Scope.READ) and caller.serves_all else "There is no such service."
        remedy = "Correct the name, or add [services.<name>] to config.toml."
        raise ApiError(404, message, remedy=remedy) from None
    if isinstance(outcome, RefusedError):
        raise ApiError(422, outcome.message) from None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _identified(asked: DeployRequest, caller: Caller, request: Request) -> DeployRequest:
    """Give a request without an id that of its message, so that sending it twice is one deploy."""
    key = request.headers.get("idempotency-key")
    if key is not None and len(key) > _MAX_KEY:
        raise ApiError(422, f"Idempotency-Key is longer than {_MAX_KEY} characters.")
    derived = intake_key(caller, key)
    return asked if asked.id is not None or derived is None else asked.model_copy(update={"id": derived})
