"""The status pages: plain HTML, sentence first, nothing loaded from elsewhere."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from watchdog.label_desk import LabelDesk
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import Clock, Ledger
from watchdog.series import Drawer
from watchdog.web.auth import Caller
from watchdog.web.deciding import deciding_routes
from watchdog.web.deploy_page import deploy_model, stamp
from watchdog.web.door import Door
from watchdog.web.errors import ApiError
from watchdog.web.list_page import list_model
from watchdog.web.reading import Reading
from watchdog.web.rendering import Pages, assets
from watchdog.web.service_page import service_model
from watchdog.web.services_page import services_model
from watchdog.web.sign_in import sign_in_routes


def page_routes(
    *, ledger: Ledger, door: Door, reading: Reading, desk: OperatorDesk, labels: LabelDesk, clock: Clock, is_https: bool
) -> APIRouter:
    """Build the routes of all pages and of the few files that they load."""
    router = APIRouter(include_in_schema=False)
    pages = Pages(door)
    drawer = Drawer(ledger)
    files = assets()

    @router.get("/")
    def deploys(request: Request) -> Response:
        def model(caller: Caller) -> Mapping[str, Any]:
            return list_model(request, caller, reading, ledger, desk.paused())

        return pages.show(request, "deploys.html", model)

    @router.get("/deploys/{deploy_id}")
    def deploy(request: Request, deploy_id: str) -> Response:
        def model(caller: Caller) -> Mapping[str, Any]:
            return deploy_model(ledger, drawer, reading.watch(deploy_id, caller), caller, desk.paused())

        def unchanged(caller: Caller) -> str:
            return stamp(ledger, reading.watch(deploy_id, caller), desk.paused())

        return pages.show(request, "deploy.html", model, stamp=unchanged)

    @router.get("/services")
    def services(request: Request) -> Response:
        def model(caller: Caller) -> Mapping[str, Any]:
            return services_model(caller, ledger, clock)

        return pages.show(request, "services.html", model)

    @router.get("/services/{name}")
    def service(request: Request, name: str) -> Response:
        def model(caller: Caller) -> Mapping[str, Any]:
            return service_model(name.replace("%2F", "/"), caller, reading, ledger, clock)

        return pages.show(request, "service.html", model)

    @router.get("/static/{name}")
    async def asset(name: str) -> Response:
        if name not in files:
            raise ApiError(404, "There is nothing at this address.")
        body, kind = files[name]
        return Response(body, media_type=kind, headers={"Cache-Control": "max-age=3600"})

    router.include_router(sign_in_routes(pages, is_https=is_https))
    router.include_router(deciding_routes(pages, ledger=ledger, reading=reading, desk=desk, labels=labels))
    return router
