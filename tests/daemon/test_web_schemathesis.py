"""Every route as OpenAPI describes it, asked by schemathesis: no 5xx, no status or body that is not documented."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi import checks as openapi_checks

from tests.fakes import FakeClock, NoOptions
from tests.web_server import NOW, ONE_TOKEN_PER_SCOPE, UNBOUNDED, made, on_a_port, token
from watchdog.config import load
from watchdog.intake import DeployRequest, Intake
from watchdog.ledger import open_ledger
from watchdog.operator_desk import OperatorDesk
from watchdog.planning import Pace
from watchdog.senders import SENDERS
from watchdog.telemetry import Telemetry
from watchdog.web import Authenticator, Health, create_api

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "6"))  # for each route; `make fuzz` asks more often
KNOWN = ("shop-1", "shop-2", "feature/shop-3")
CHECKS: list[Any] = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]
CONFIG = """
[auth]
[sources.metrics]
kind = "quiet"
[hooks.back]
kind = "quiet"
[services.shop]
mode = "approve"
strategy = "canary"
source = "metrics"
rollback_hook = "back"
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = 'requests_total{code=~"5.."}'
total = "requests_total"
"""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[str]:
    """The API over a real ledger that knows a few deploys."""
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    config = load(path, {section: {"quiet": NoOptions} for section in ("sources", "hooks", "sinks")}, {})
    clock = FakeClock(NOW)
    ledger = open_ledger(str(tmp_path / "w.db"), clock=clock, owner="me", sinks_for=lambda service: ("log",))
    intake = Intake(config=config, paces={"metrics": Pace(step_s=5.0, settle_s=1.0)}, ledger=ledger, clock=clock)
    for number, name in enumerate(KNOWN):
        clock.advance(60.0)
        request = DeployRequest(id=name, service="shop", version=f"v{number + 2}", previous_version=f"v{number + 1}")
        intake.receive(request, actor="test")
    app = create_api(
        ledger=ledger,
        intake=intake,
        desk=OperatorDesk(ledger=ledger, clock=clock),
        auth=Authenticator(ONE_TOKEN_PER_SCOPE, (), clock=clock),
        clock=clock,
        health=lambda: Health(tick_age_s=0.5, ledger_ok=True),
        telemetry=Telemetry(),
        limits=UNBOUNDED,
        senders={kind: made(SENDERS[kind]) for kind in ("argocd", "flagger")},
        environments={"shop": "production"},
    )
    with on_a_port(app) as port:
        yield f"http://127.0.0.1:{port}"
    ledger.close()


@pytest.mark.timeout(3600)
def test_every_route_keeps_to_its_description(api: str) -> None:
    """Whatever fits the schema, and whatever does not: an answer that the description names."""
    schema = schemathesis.openapi.from_url(f"{api}/openapi.json")
    asked = 0

    def sometimes_known(context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
        nonlocal asked
        asked += 1
        if parameters and "deploy_id" in parameters and asked % 2:
            parameters["deploy_id"] = KNOWN[asked % len(KNOWN)]
        return parameters

    def at_once(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
        return {name: value for name, value in query.items() if name != "wait"} if query else query

    schema.hook("map_path_parameters")(sometimes_known)
    schema.hook("map_query")(at_once)
    routes = 0
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr] # a schema that cannot be read raises
        routes += 1
        for mode in schemathesis.GenerationMode:

            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                database=None,
                derandomize=EXAMPLES < 100,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def ask(case: Any) -> None:
                case.call_and_validate(checks=CHECKS, headers={"Authorization": f"Bearer {token('admin')}"})

            with suppress(Unsatisfiable):  # nothing can be wrong about a route that takes nothing
                ask()
    assert routes > 20
    assert asked > routes
