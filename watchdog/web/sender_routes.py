"""The routes for other systems: what they tell in words of their own, and what they ask before they go on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from watchdog.config import Scope
from watchdog.errors import AlreadyLiveError, ConflictError, LedgerError, NotFoundError, RefusedError
from watchdog.ports import Clock
from watchdog.reception import Reception, Reply
from watchdog.sending import AlertsTold, Arrived, Asked, DeployTold, EndTold, Heard, Sender, Unrelated
from watchdog.strict_json import JsonError, parse_object
from watchdog.telemetry import Telemetry
from watchdog.web.auth import Caller
from watchdog.web.bodies import GateBody, IntakeBody
from watchdog.web.body import read_body
from watchdog.web.documented import answer, guarded, refusals, takes_any
from watchdog.web.door import Door
from watchdog.web.errors import ApiError, error_body, problems_of
from watchdog.web.reading import IDENTIFIER

MAX_BYTES = 256 * 1024  # of an Argo CD application or a group of alerts; a GitHub event has 15 KB
MAX_DEPTH = 24
_REFUSED = refusals(401, 403, 404, 408, 409, 413, 415, 422, 429, 503)
_NO = "Ask again later, or look at the deploy; 409 is how a question is answered with no."


def sender_routes(
    *, senders: Mapping[str, Sender], reception: Reception, door: Door, clock: Clock, telemetry: Telemetry
) -> APIRouter:
    """Build the router of /api/v1/intake and of the gate."""
    router = APIRouter(prefix="/api/v1", tags=["other systems"])

    async def taken(request: Request, name: str, hook: str) -> JSONResponse:
        sender = senders.get(name)
        if sender is None or (hook not in sender.hooks if sender.hooks else bool(hook)):
            raise ApiError(404, "There is no such sender.", remedy=_addresses(sender, name))
        with _counted(telemetry, sender.kind) as status:
            reply = await _heard(request, name, sender, hook)
            status.append(reply.status)
        if reply.status == 409:
            no = ApiError(409, str(reply.told["sentence"]), remedy=_NO)
            return JSONResponse({**error_body(no), **reply.told}, status_code=409)
        return JSONResponse(dict(reply.told), status_code=reply.status)

    async def _heard(request: Request, name: str, sender: Sender, hook: str) -> Reply:
        body = await read_body(request, kinds=sender.content_types, max_bytes=MAX_BYTES)
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in request.headers.raw}
        genuine = sender.is_genuine(headers, body, now=clock.now())
        caller = door.admit_system(request, name, genuine=genuine)
        told = _understood(sender, Arrived(headers=headers, body=body, hook=hook))
        return await run_in_threadpool(_done, reception, told, caller)

    documented: dict[str, Any] = {
        "summary": "Take what another system sends in its own words",
        "responses": {
            200: answer(IntakeBody, "Known already, noted, answered with yes, or of no concern: `ignored` says why."),
            201: answer(IntakeBody, "A deploy; recorded, and watched from now on."),
            **_REFUSED,
        },
        "openapi_extra": takes_any(),
    }

    @router.post("/intake/{sender}", **documented)
    async def intake(request: Request, sender: str) -> JSONResponse:
        """`sender` is a table of [senders]; its kind decides how it is understood and known."""
        return await taken(request, sender, "")

    @router.post("/intake/{sender}/{hook}", **documented)
    async def intake_hook(request: Request, sender: str, hook: str) -> JSONResponse:
        """For senders with several addresses, such as Flagger's hook types."""
        return await taken(request, sender, hook)

    @router.get(
        "/gate",
        summary="May a deploy go on? For systems that ask, such as Argo Rollouts",
        responses={200: answer(GateBody, "The answer."), **refusals(401, 403, 404, 422, 429, 503)},
        openapi_extra=guarded(),
    )
    def gate(
        request: Request,
        *,
        service: Annotated[str, Query(pattern=IDENTIFIER)],
        version: Annotated[str | None, Query(pattern=IDENTIFIER, description="default: the newest")] = None,
        environment: Annotated[str | None, Query(pattern=IDENTIFIER)] = None,
    ) -> JSONResponse:
        """`gate` is go, wait, ask (a human) or back; before anybody told of the deploy it is wait."""
        caller = door.admit(request, Scope.READ)
        caller.require_service(service)
        if service not in reception.environments:
            raise ApiError(404, "There is no such service.")
        watch = reception.find(service, version, environment)
        if watch is None:
            told = {"id": None, "verdict": None, "outcome": None, "gate": "wait"}
            return JSONResponse({**told, "sentence": "no deploy of it is on record yet"})
        found = reception.gate_of(watch)
        told = {"id": watch.id, "verdict": watch.verdict, "outcome": watch.state.outcome, "gate": found.word.value}
        return JSONResponse({**told, "sentence": found.why})

    return router


@contextmanager
def _counted(telemetry: Telemetry, kind: str) -> Iterator[list[int]]:
    """Count one request by what it is answered with: the status put in, or that of the refusal (web/errors.py)."""
    status: list[int] = []
    try:
        yield status
    except ApiError as error:
        status.append(error.status)
        raise
    except LedgerError:
        status.append(503)
        raise
    except ConflictError:
        status.append(409)
        raise
    finally:
        telemetry.intake(kind, status[0] if status else 500)


def _understood(sender: Sender, arrived: Arrived) -> Heard:
    try:
        parse_object(arrived.body, depth=MAX_DEPTH)
        return sender.read(arrived)
    except JsonError as error:
        raise ApiError(422, f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    except ValidationError as error:
        raise ApiError(422, problems_of(error), remedy=_MALFORMED) from None
    except RefusedError as error:
        raise ApiError(422, error.message, remedy=_MALFORMED) from None


_MALFORMED = "Compare what was sent with the sender's own documentation and with docs/intake.md."


def _done(reception: Reception, told: Heard, caller: Caller) -> Reply:
    """Do what was asked, for a caller who may speak for the service."""
    if isinstance(told, Unrelated):
        return Reply(status=200, told={"ignored": told.why})
    if isinstance(told, AlertsTold):
        mine = tuple(alert for alert in told.alerts if caller.serves(alert.service))
        others = told.unrelated + len(told.alerts) - len(mine)
        return reception.alerts(AlertsTold(alerts=mine, unrelated=others), actor=caller.actor)
    place = told.request if isinstance(told, DeployTold) else told
    caller.require_service(place.service)
    if reception.environments.get(place.service) is None:
        message = f"The service {place.service!r} is not in the configuration."
        raise ApiError(404, message, remedy="Name it in `services` of the sender's table, or add [services.<name>].")
    if isinstance(told, Asked):
        return reception.answer(told)
    if isinstance(told, EndTold):
        return reception.end(told, actor=caller.actor)
    if reception.is_elsewhere(place.service, place.environment):
        why = f"the environment {place.environment!r} is not the one that is watched; `environments` may translate it"
        return Reply(status=200, told={"ignored": why})
    return _begun(reception, told, caller)


def _begun(reception: Reception, told: DeployTold, caller: Caller) -> Reply:
    try:
        return reception.deploy(told, actor=caller.actor, serves=caller.serves)
    except AlreadyLiveError as error:
        return Reply(status=200, told={"ignored": error.message})
    except (NotFoundError, RefusedError) as error:
        raise ApiError(422, error.message) from None


def _addresses(sender: Sender | None, name: str) -> str:
    if sender is None:
        return "Add a table [senders.<name>] to config.toml; /api/v1/intake/<name> is its address."
    named = ", ".join(sorted(sender.hooks))
    return f"The addresses of this one are /api/v1/intake/{name}" + (f"/ and one of: {named}." if named else ".")
