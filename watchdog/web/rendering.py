"""From a model to a page: templates, how times and numbers are written, entity tags, refusals as pages."""

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from watchdog.errors import ConflictError, LedgerError, NotFoundError, RefusedError
from watchdog.telling import lasting
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
        self._templates = templates()

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
        frame = {"here": "", "actor": caller.actor if caller is not None else None, "seal": seal}
        return self._templates.get_template(name).render({**frame, **model})

    def refused(self, request: Request, error: Exception) -> Response:
        """A refusal as a page; for somebody unknown, the way to sign in."""
        told = _told(error)
        if told.status == 401:
            return self.ask_to_sign_in(request, wrong=False)
        session = self.door.auth.by_session(request)
        model = {"message": told.message, "remedy": told.remedy, "onward": told.onward}
        body = self.written(request, "refused.html", model, session.caller if session is not None else None)
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
    return "–" if seconds is None else lasting(seconds)


def thousands(value: float) -> str:
    """A count with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def words(text: str) -> str:
    """ROLLED_BACK as `rolled back`."""
    return text.replace("_", " ").lower()


_HOLDS = {
    "MODE_OBSERVE": "mode observe only watches",
    "MODE_NOTIFY": "mode notify only tells",
    "APPROVAL": "mode approve asks first",
    "KILL_SWITCH": "the kill switch is on",
    "COOL_DOWN": "rolled back not long ago",
    "NO_HOOK": "there is no rollback hook",
    "NO_TARGET": "no version to go back to",
    "MIGRATION": "it carries a migration",
    "SHARED_CAUSE": "both versions got worse",
    "NO_COUNTERPART": "worse where the old version served nothing alike",
    "UNCALIBRATED": "compared with the past, not calibrated",
    "TRAIN": "another deploy of its train did not go back",
    "TWO_DEPLOYS": "two deploys went live at the same time",
    "USUAL_COURSE": "earlier days got worse alike",
    "SHARE_MISMATCH": "another traffic share than asked for",
    "PROMOTE_FAILED": "a promotion failed",
    "SWITCH_FAILED": "the switch failed",
    "BREAKER": "too many rollbacks at once",
    "BAD_TARGET": "the version to go back to is bad too",
    "DAMAGED": "the ledger is damaged there",
    "TARGET_GONE": "the version to go back to is gone",
}


def hold_words(reason: str) -> str:
    """Why a human has to decide, in some words."""
    return _HOLDS.get(reason, words(reason))


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


@cache
def templates() -> Environment:
    """All templates of the pages, compiled now, not while the first reader waits; once in a process."""
    found = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "duration": duration, "hold_words": hold_words, "iso": _iso, "moment": moment, "segment": segment,
        "thousands": thousands, "words": words,
    }  # fmt: skip
    for name in found.list_templates():
        found.get_template(name)
    return found
