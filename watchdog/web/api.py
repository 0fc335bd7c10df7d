"""The API put together: who may come in, what there is, and one shape for every refusal."""

from collections.abc import Callable, Mapping

from fastapi import FastAPI

from watchdog import __version__
from watchdog.intake import DeployRequest, Intake
from watchdog.label_desk import LabelDesk
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import Clock, Ledger
from watchdog.reception import Reception
from watchdog.sending import Sender
from watchdog.telemetry import Telemetry
from watchdog.web import documented, errors
from watchdog.web.auth import Authenticator
from watchdog.web.bodies import LabelBody, WhyBody
from watchdog.web.deploy_routes import deploy_routes
from watchdog.web.door import Door
from watchdog.web.guard import Guard
from watchdog.web.health import Health
from watchdog.web.label_routes import label_routes
from watchdog.web.operator_routes import operator_routes
from watchdog.web.pages import page_routes
from watchdog.web.probe_routes import Vitals, probe_routes
from watchdog.web.rate_limit import Limits, TokenBuckets
from watchdog.web.reading import Reading
from watchdog.web.rendering import Pages
from watchdog.web.sender_routes import sender_routes


def create_api(
    *,
    ledger: Ledger,
    intake: Intake,
    desk: OperatorDesk,
    auth: Authenticator,
    clock: Clock,
    health: Callable[[], Health],
    telemetry: Telemetry,
    senders: Mapping[str, Sender] | None = None,
    environments: Mapping[str, str] | None = None,
    max_tick_age_s: float = 30.0,
    limits: Limits | None = None,
    is_https: bool = False,
) -> FastAPI:
    """Build the whole web side; it holds no state but what the callers have left to ask."""
    # No documentation pages: they would load scripts from elsewhere. No redirects: a slash more is another address.
    app = FastAPI(
        title="deploy-watchdog",
        version=__version__,
        summary="Watches every deploy beside production and rolls it back once when it is worse.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # it has its own; the framework's asks each time
    )
    door = Door(auth=auth, buckets=TokenBuckets(limits or Limits(), clock))
    reading = Reading(ledger=ledger, clock=clock)
    vitals = Vitals(health=health, clock=clock, max_tick_age_s=max_tick_age_s)
    app.include_router(deploy_routes(ledger=ledger, intake=intake, door=door, reading=reading))
    app.include_router(
        operator_routes(ledger=ledger, desk=desk, door=door, reading=reading, vitals=vitals, clock=clock)
    )
    labels = LabelDesk(ledger=ledger, clock=clock)
    app.include_router(label_routes(ledger=ledger, desk=labels, door=door, reading=reading))
    reception = Reception(intake=intake, desk=desk, ledger=ledger, clock=clock, environments=environments or {})
    app.include_router(
        sender_routes(senders=senders or {}, reception=reception, door=door, clock=clock, telemetry=telemetry)
    )
    app.include_router(probe_routes(ledger=ledger, vitals=vitals, telemetry=telemetry))
    app.include_router(
        page_routes(ledger=ledger, door=door, reading=reading, desk=desk, labels=labels, clock=clock, is_https=is_https)
    )
    app.add_middleware(Guard, telemetry=telemetry)
    errors.install(app, Pages(door).refused)
    documented.complete(app, DeployRequest, WhyBody, LabelBody)
    return app
