"""The outermost layer: what every answer carries, whatever happened inside."""

import logging
import re
from urllib.parse import unquote_to_bytes

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from watchdog.strict_json import printable
from watchdog.telemetry import Telemetry
from watchdog.web.errors import ApiError, error_response

_log = logging.getLogger(__name__)

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SLASH = re.compile(rb"%2f", re.IGNORECASE)


class Guard:
    """Adds the security headers, counts deploy events, and turns what nobody caught into a plain 500."""

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry) -> None:
        self.app = app
        self.telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        _keep_encoded_slashes(scope)
        refused = _with_nul(scope)
        if refused is not None:
            await error_response(refused)(scope, receive, send_guarded)
            return
        try:
            await self.app(scope, receive, send_guarded)
        except Exception:  # noqa: BLE001 # the last that can; it is logged whole
            _log.exception("%s %r failed", scope["method"], scope["path"])
            if status == 0:
                failed = error_response(ApiError(500, "The daemon failed on this request."))
                await failed(scope, receive, send_guarded)
        finally:
            if scope["method"] == "POST" and scope["path"] == "/api/v1/deploys":
                self.telemetry.webhook(status)


def _with_nul(scope: Scope) -> ApiError | None:
    """No name holds a NUL, and PostgreSQL cannot even be asked for one."""
    if "\0" in scope["path"]:
        return ApiError(404, "There is no such address.")
    for part in scope["query_string"].split(b"&"):
        if b"%00" in part:
            name = printable(part.partition(b"=")[0].decode("latin-1"))
            return ApiError(422, f"{name}: a NUL character is not allowed.")
    return None


def _keep_encoded_slashes(scope: Scope) -> None:
    """`feature%2Fx` is one segment: a deploy's id may hold a slash, and a route must not be found inside it."""
    raw = scope.get("raw_path") or b""
    if _SLASH.search(raw):
        scope["path"] = unquote_to_bytes(_SLASH.sub(b"%252F", raw)).decode("utf-8", "replace")
