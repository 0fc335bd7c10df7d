"""Every refusal in the one shape: {"error": {"code", "message", "remedy"}}."""

import logging
from collections.abc import Callable, Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from watchdog.errors import ConflictError, LedgerError, NotFoundError, RefusedError
from watchdog.strict_json import printable

_log = logging.getLogger(__name__)
_MAX_PROBLEMS = 10
_HINTS = {("share", "less_than_equal"): " (0.23 means 23 %)"}
NO_SUCH_DEPLOY = "See `deploy-watchdog list`, or GET /api/v1/deploys: they show every deploy that this token may see."

REMEDIES: Mapping[int, tuple[str, str]] = {
    401: ("unauthorized", "Send `Authorization: Bearer <token>`, or sign the body as Standard Webhooks ask."),
    403: ("forbidden", "Use a token that has this scope and this service in [[auth.tokens]] of config.toml."),
    404: ("not_found", "Check the address; /openapi.json lists every route."),
    405: ("method_not_allowed", "Use a method named in the Allow header."),
    408: ("too_slow", "Send the whole body within 10 s."),
    409: ("conflict", "See how it stands: `deploy-watchdog show ID`, or GET /api/v1/deploys/{id}."),
    413: ("too_large", "Send at most 64 KB (256 KB to /api/v1/intake); a deploy event needs less than one."),
    415: ("unsupported_media_type", "Send plain JSON with `Content-Type: application/json`, not compressed."),
    422: ("invalid", "Correct what the message names and send it again; /openapi.json has an example."),
    429: ("too_many_requests", "Wait as long as Retry-After says."),
    500: ("internal", "Look into the daemon's log, and report it."),
    503: ("unavailable", "Send it again after Retry-After; the same id or webhook-id is never watched twice."),
}


class ApiError(Exception):
    """A refusal, as its caller will read it; without a remedy of its own it has that of its status.

    onward: the page where its reader goes on, if there is one.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        remedy: str | None = None,
        headers: Mapping[str, str] | None = None,
        onward: str = "",
    ) -> None:
        super().__init__(message)
        # A status without a row of its own is told as the nearest that has one.
        self.code, usual = REMEDIES.get(status) or REMEDIES[500 if status >= 500 else 422]
        self.status = status
        self.message = message
        self.remedy = remedy or usual
        self.headers = dict(headers or {})
        self.onward = onward


def error_body(error: ApiError) -> dict[str, dict[str, str]]:
    """A refusal as JSON values."""
    return {"error": {"code": error.code, "message": error.message, "remedy": error.remedy}}


def error_response(error: ApiError) -> JSONResponse:
    """Write a refusal."""
    return JSONResponse(error_body(error), status_code=error.status, headers=error.headers)


def problems_of(error: ValidationError | RequestValidationError) -> str:
    """All that is wrong in one sentence; names from outside are shown as ASCII, values never."""
    found = []
    for problem in error.errors()[:_MAX_PROBLEMS]:
        where = ".".join(printable(str(part)) for part in problem["loc"] if part not in ("query", "path", "body"))
        said = str(problem["msg"]).removeprefix("Value error, ")
        hint = _HINTS.get((where, str(problem["type"])), "")
        found.append(f"{where}: {said[:1].lower()}{said[1:]}{hint}")
    return "; ".join(found)


def install(app: FastAPI, page: Callable[[Request, ApiError], Response]) -> None:
    """Have everything that can be raised end in the one shape, FastAPI's own refusals too.

    page: the same refusal for a person who looks for a page.
    """

    def answered(request: Request, error: ApiError) -> Response:
        is_for_people = request.method == "GET" and not request.url.path.startswith(("/api/", "/-/"))
        if is_for_people and "text/html" in request.headers.get("accept", ""):
            return page(request, error)
        return error_response(error)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return answered(request, error)

    @app.exception_handler(NotFoundError)
    async def unknown(_: Request, error: NotFoundError) -> JSONResponse:
        return error_response(ApiError(404, error.message, remedy=NO_SUCH_DEPLOY))

    @app.exception_handler(ConflictError)
    @app.exception_handler(RefusedError)
    async def not_now(_: Request, error: ConflictError | RefusedError) -> JSONResponse:
        return error_response(ApiError(409, error.message))

    @app.exception_handler(LedgerError)
    async def ledger_fails(_: Request, error: LedgerError) -> JSONResponse:
        _log.error("the ledger refused: %s", error.message)
        message = "The ledger cannot be used at the moment; nothing was recorded."
        return error_response(ApiError(503, message, headers={"Retry-After": "5"}))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(ApiError(422, problems_of(error)))

    @app.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        said = {404: "There is nothing at this address.", 405: "This address does not take this method."}
        message = said.get(error.status_code, "Refused.")
        return answered(request, ApiError(error.status_code, message, headers=error.headers))
