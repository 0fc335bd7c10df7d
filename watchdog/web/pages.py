"""The status pages: plain HTML, sentence first, nothing loaded from elsewhere."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from watchdog.errors import LedgerError
from watchdog.ports import Ledger
from watchdog.web.door import Door
from watchdog.web.errors import ApiError
from watchdog.web.reading import Reading, Sought
from watchdog.web.views import evidence_json, recorded_json, watch_summary

_HERE = Path(__file__).parent
_SHOWN = 50


def page_routes(*, ledger: Ledger, door: Door, reading: Reading, paused: Callable[[], str | None]) -> APIRouter:
    """Build the routes of the pages and their one style sheet."""
    router = APIRouter(include_in_schema=False)
    templates = _templates()
    style = (_HERE / "static" / "style.css").read_bytes()

    def page(name: str, write: Callable[[], dict[str, Any]]) -> HTMLResponse:
        try:
            return HTMLResponse(templates.get_template(name).render(write()))
        except ApiError as error:
            return _refused(templates, error)
        except LedgerError:
            return _refused(templates, ApiError(503, "The ledger cannot be used at the moment."))

    @router.get("/")
    def deploys(request: Request) -> HTMLResponse:
        def write() -> dict[str, Any]:
            found, _ = reading.page(door.admit_reader(request), Sought(), limit=_SHOWN)
            return {"deploys": [watch_summary(w) for w in found], "paused": paused()}

        return page("deploys.html", write)

    @router.get("/deploys/{deploy_id}")
    def deploy(request: Request, deploy_id: str) -> HTMLResponse:
        def write() -> dict[str, Any]:
            watch = reading.watch(deploy_id, door.admit_reader(request))
            verdicts = ledger.verdicts(watch.id, last=1)
            told = recorded_json(ledger, watch)
            return {"deploy": told, "verdict": evidence_json(watch.id, verdicts[-1] if verdicts else None)["verdict"]}

        return page("deploy.html", write)

    @router.get("/static/style.css")
    async def stylesheet() -> Response:
        return Response(style, media_type="text/css", headers={"Cache-Control": "max-age=3600"})

    return router


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"moment": _moment, "duration": _duration, "segment": _segment}
    return templates


def _refused(templates: Environment, error: ApiError) -> HTMLResponse:
    shown = templates.get_template("refused.html").render(message=error.message, remedy=_remedy(error))
    return HTMLResponse(shown, status_code=error.status, headers=error.headers)


def _remedy(error: ApiError) -> str:
    if error.status == 401:
        return "The password is a token of [[auth.tokens]] with the scope read; the user name does not matter."
    return error.remedy


def _moment(at: float | None) -> str:
    try:
        return "" if at is None else datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return ""


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _segment(text: str) -> str:
    return quote(text, safe="")
