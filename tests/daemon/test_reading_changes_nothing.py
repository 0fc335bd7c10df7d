"""Whoever only reads changes nothing; and no address that is sent in is ever followed."""

import ast
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi import FastAPI

from tests.fakes import FakeClock
from tests.reviewed import bad_canary
from tests.samples import DEPLOYED_AT, a_watch
from tests.web_server import FakeIntake, FakeLedger, credential, on_a_port, token
from watchdog.ledger import SqlLedger, open_ledger
from watchdog.model import State
from watchdog.operator_desk import OperatorDesk
from watchdog.telemetry import Telemetry
from watchdog.web import Authenticator, Health, create_api

ROOT = Path(__file__).parents[2]
READS = {"GET", "HEAD", "OPTIONS"}
GIVEN = {
    "deploy_id": "d1",
    "service": "shop",
    "metric": "errors",
    "verb": "approve",
    "name": "shop",
    "sender": "argocd",
    "kind": "argocd",
}
DIALS = {"requests", "urllib3", "httpx", "aiohttp", "http", "socket", "slack_sdk", "prometheus_api_client"}


def api(ledger: Any, clock: FakeClock) -> FastAPI:
    return create_api(
        ledger=ledger,
        intake=FakeIntake(FakeLedger()),  # type: ignore[arg-type]
        desk=OperatorDesk(ledger=ledger, clock=clock),
        auth=Authenticator([credential("admin", "admin")], clock=clock),
        clock=clock,
        health=lambda: Health(tick_age_s=0.5, ledger_ok=True),
        telemetry=Telemetry(),
        environments={"shop": "production"},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A deploy that was rolled back, and one that waits for a human."""
    path = tmp_path / "w.db"
    bad_canary(str(path))
    return path


@pytest.fixture
def ledger(path: Path) -> Iterator[SqlLedger]:
    opened = open_ledger(str(path), clock=FakeClock(DEPLOYED_AT), owner="me", sinks_for=lambda service: ("log",))
    opened.record_deploy(a_watch(deploy_id="d2", state=State.HELD), [], [])
    yield opened
    opened.close()


def routes(router: Any) -> Iterator[tuple[str, str]]:
    """Every (method, path) that is served."""
    for route in router.routes:
        if hasattr(route, "original_router"):  # as FastAPI keeps a router that was included
            yield from routes(route.original_router)
        else:
            yield from ((method, route.path) for method in sorted(route.methods))


def content(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as raw:
        return list(raw.iterdump())


def test_no_get_changes_what_is_on_record(ledger: SqlLedger, path: Path) -> None:
    """Every route that reads, for both deploys and with what the forms would send; not a byte of the ledger changes."""
    app = api(ledger, FakeClock(DEPLOYED_AT))
    reading = [(method, place) for method, place in routes(app) if method in READS]
    assert len(reading) > 15
    before, answered = content(path), []
    with on_a_port(app) as port, requests.Session() as session:
        session.trust_env = False
        for method, place in reading:
            for deploy in ("d1", "d2"):
                filled = place.replace(":path", "").format(**{**GIVEN, "deploy_id": deploy})
                more = {"why": "x", "choice": "approve", "verb": "approve", "label": "right", "wait": "0"}
                headers = {"Authorization": f"Bearer {token('admin')}"}
                url = f"http://127.0.0.1:{port}{filled}"
                answer = session.request(method, url, params=more, headers=headers, timeout=20, allow_redirects=False)
                answered.append(answer.status_code)
    assert content(path) == before
    assert answered.count(200) > len(reading) / 2, "most of them found something to read"
    assert max(answered) < 500


def test_what_changes_something_is_never_a_get(ledger: SqlLedger) -> None:
    """Each verb of an operator is a POST, on a route that does not answer a GET as well."""
    served = list(routes(api(ledger, FakeClock(DEPLOYED_AT))))
    verbs = ("approve", "deny", "cancel", "rollback", "label", "pause", "resume", "migrate-down")
    acting = [(method, place) for method, place in served if place.rpartition("/")[2] in verbs]
    assert {place.rpartition("/")[2] for _, place in acting} == set(verbs)
    assert {method for method, _ in acting} == {"POST"}


# --- addresses --------------------------------------------------------------------------------------------


def strings(schema: dict[str, Any], at: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every text in a JSON schema, with its path."""
    for word in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(word, ()):
            yield from strings(part, at)
    if schema.get("type") == "string":
        yield at, schema
    for name, part in schema.get("properties", {}).items():
        yield from strings(part, f"{at}.{name}")
    for part in [schema.get("items"), schema.get("additionalProperties")]:
        if isinstance(part, dict):
            yield from strings(part, f"{at}[]")


def resolved(part: Any, whole: dict[str, Any]) -> Any:
    if isinstance(part, dict) and "$ref" in part:
        found: Any = whole
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return resolved(found, whole)
    if isinstance(part, dict):
        return {name: resolved(value, whole) for name, value in part.items()}
    return [resolved(value, whole) for value in part] if isinstance(part, list) else part


def test_no_field_of_a_request_is_an_address(ledger: SqlLedger) -> None:
    """Callers name services, versions and reasons. Where the daemon connects to stands in its configuration alone."""
    whole = api(ledger, FakeClock(DEPLOYED_AT)).openapi()
    fields = [
        (f"{method.upper()} {place}{at}", schema)
        for place, methods in whole["paths"].items()
        for method, told in methods.items()
        for kind in told.get("requestBody", {}).get("content", {}).values()
        for at, schema in strings(resolved(kind["schema"], whole))
    ]
    assert len(fields) > 5
    words = ("url", "uri", "href", "link", "address", "endpoint", "callback", "host")
    named = [at for at, schema in fields if any(word in at.rpartition(".")[2].lower().split("_") for word in words)]
    assert named == []
    assert [at for at, schema in fields if schema.get("format") in ("uri", "url", "iri")] == []


@pytest.mark.parametrize("part", ["web", "intake.py", "reception.py", "deploy_request.py", "operator_desk.py"])
def test_what_takes_requests_cannot_dial(part: str) -> None:
    """The code that reads what callers send has no client in its hands; only adapters have, built from the
    configuration."""
    place = ROOT / "watchdog" / part
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    assert files
    dialled = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            dialled += [f"{file.name}: {name}" for name in names if name.partition(".")[0] in DIALS]
            dialled += [f"{file.name}: {name}" for name in names if name == "urllib.request"]
    assert dialled == []
