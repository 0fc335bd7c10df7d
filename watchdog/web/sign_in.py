"""Signing in with a token, and out: the cookie is for pages only, the API takes tokens."""

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from watchdog.config import Scope
from watchdog.web.body import read_form
from watchdog.web.errors import ApiError
from watchdog.web.rendering import Pages
from watchdog.web.sessions import COOKIE, LASTS_S


def sign_in_routes(pages: Pages, *, is_https: bool) -> APIRouter:
    """Build the routes; `is_https`: people reach these pages by https, so the cookie must not travel otherwise."""
    router = APIRouter(include_in_schema=False)

    @router.get("/sign-in")
    def form(request: Request) -> Response:
        onward = safe_onward(request.query_params.get("onward", "/"))
        return pages.ask_to_sign_in(request, wrong=False, onward=onward, status=200)

    @router.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        try:
            _from_our_pages(request)
            given = await read_form(request)
            pages.door.buckets.take("sign-in")
        except ApiError as error:
            return pages.refused(request, error)
        onward = safe_onward(given.get("onward", "/"))
        cookie = await run_in_threadpool(pages.door.auth.sign_in, given.get("token", "").strip())
        if cookie is None:
            return pages.ask_to_sign_in(request, wrong=True, onward=onward)
        response = RedirectResponse(onward, status_code=303)
        secure = is_https or request.url.scheme == "https"
        response.set_cookie(COOKIE, cookie, max_age=LASTS_S, httponly=True, samesite="strict", secure=secure)
        return response

    @router.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        try:
            pages.door.admit_actor(request, await read_form(request), Scope.READ)
        except ApiError as error:
            return pages.refused(request, error)
        response = RedirectResponse("/sign-in", status_code=303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return router


def safe_onward(address: str) -> str:
    """An address of ours, or the list: nobody is sent elsewhere by a link to the form.

    >>> safe_onward("/deploys/a?x=1"), safe_onward("//evil.example"), safe_onward("/\\\\evil.example")
    ('/deploys/a?x=1', '/', '/')
    """
    is_ours = address.startswith("/") and not address.startswith("//") and "\\" not in address
    return address if is_ours and address.isprintable() and address.isascii() else "/"


def _from_our_pages(request: Request) -> None:
    """There is no seal before somebody is known: the browser itself must say that the form is ours."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or (origin is not None and origin.partition("://")[2] != host):
        raise ApiError(403, "This form is not from these pages.", remedy="Open the pages themselves and sign in there.")
