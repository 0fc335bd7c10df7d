"""From a model to a page: templates, how times and numbers are written, entity tags, refusals as pages."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from watchdog.errors import ConflictError, LedgerError, NotFoundError, RefusedError
from watchdog.web.auth import Caller
from watchdog.web.door import Door
from watchdog.web.errors import ApiError

_HERE = Path(__file__).parent
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
# A browser that may tell nobody where a form comes from sends `Origin: null` with it, and we could not know our own.
HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "same-origin"}
Model = Mapping[str, Any]


class Pages:
    """Writes pages for whoever the door lets in."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._templates = _templates()
        for name in self._templates.list_templates():
            self._templates.get_template(name)  # compiled now, not while the first reader waits

    def show(
        self,
        request: Request,
        name: str,
        model: Callable[[Caller], Model],
        *,
        stamp: Callable[[Caller], str] | None = None,
    ) -> Response:
        """Answer a GET: the page, 304 where the browser has it, or why there is none.

        stamp: what the page depends on, where that is much cheaper to know than the page is to write.
        """
        try:
            caller = self.door.admit_reader(request)
            tag = None if stamp is None else entity_tag(f"{caller.actor} {stamp(caller)}")
            if tag is not None and request.headers.get("if-none-match") == tag:
                return Response(status_code=304, headers={"ETag": tag})
            body = self.written(request, name, model(caller), caller)
        except (ApiError, LedgerError, NotFoundError, RefusedError, ConflictError) as error:
            return self.refused(request, error)
        tag = tag or entity_tag(body)
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return HTMLResponse(body, headers={**HEADERS, "ETag": tag})

    def written(self, request: Request, name: str, model: Model, caller: Caller | None) -> str:
        """The text of a page."""
        seal = self.door.seal_for(request) if caller is not None else None
        frame = {"actor": caller.actor if caller is not None else None, "seal": seal}
        return self._templates.get_template(name).render({**frame, **model})

    def refused(self, request: Request, error: Exception) -> Response:
        """A refusal as a page; for somebody unknown, the way to sign in."""
        told = _told(error)
        if told.status == 401:
            return self.ask_to_sign_in(request, wrong=False)
        body = self.written(request, "refused.html", {"message": told.message, "remedy": told.remedy}, None)
        return HTMLResponse(body, status_code=told.status, headers={**told.headers, **HEADERS})

    def ask_to_sign_in(
        self, request: Request, *, wrong: bool, onward: str | None = None, status: int = 401
    ) -> Response:
        """The form for a token. Somebody who comes by a link from elsewhere is sent round once more first.

        The session's cookie is not sent with a request that another site started, such as a link in Slack; it is sent
        with one that our own page starts.
        """
        here = _address(request) if request.method == "GET" else "/"
        comes_from_elsewhere = (
            request.headers.get("sec-fetch-site") == "cross-site" and "again" not in request.query_params
        )
        name = "again.html" if comes_from_elsewhere and request.method == "GET" else "sign_in.html"
        body = self.written(request, name, {"onward": onward or here, "wrong": wrong}, None)
        return HTMLResponse(body, status_code=status, headers={**HEADERS, "WWW-Authenticate": "Bearer"})


def entity_tag(text: str) -> str:
    return f'"{hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]}"'


def assets() -> dict[str, tuple[bytes, str]]:
    """The files that pages load: bytes and media type by name."""
    return {
        path.name: (path.read_bytes(), _KINDS[path.suffix])
        for path in (_HERE / "static").iterdir()
        if path.suffix in _KINDS
    }


def segment(text: str) -> str:
    """A text as one segment of an address."""
    return quote(text, safe="")


def moment(at: float | None) -> str:
    """A time as people read it, in UTC."""
    try:
        return "" if at is None else datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return ""


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def thousands(value: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def words(text: str) -> str:
    """ROLLED_BACK as `rolled back`."""
    return text.replace("_", " ").lower()


def _iso(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""


def _address(request: Request) -> str:
    path = quote(request.scope.get("path", "/"), safe="/%:@+")
    return f"{path}?{request.url.query}" if request.url.query else path


def _told(error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, LedgerError):
        return ApiError(503, "The ledger cannot be used at the moment.", headers={"Retry-After": "5"})
    status = 404 if isinstance(error, NotFoundError) else 409
    remedy = "Go back to the deploy and look at it as it stands now."
    return ApiError(status, f"{str(error)[:1].upper()}{str(error)[1:]}.", remedy=remedy)


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "duration": duration, "iso": _iso, "moment": moment, "segment": segment, "thousands": thousands, "words": words,
    }  # fmt: skip
    return templates
