"""/openapi.json says everything a client must know, and nothing that is not so."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.web_server import World, running

READING = {"401", "403", "429", "503"}
WRITING = READING | {"408", "413", "415", "422"}
REFUSALS = {
    ("post", "/api/v1/deploys"): WRITING | {"404", "409"},
    ("get", "/api/v1/deploys"): READING | {"422"},
    ("get", "/api/v1/deploys/{deploy_id}"): READING | {"404", "422"},
    ("get", "/api/v1/deploys/{deploy_id}/audit"): READING | {"404"},
    ("get", "/api/v1/deploys/{deploy_id}/evidence"): READING | {"404"},
    ("post", "/api/v1/deploys/{deploy_id}/approve"): WRITING | {"404", "409"},
    ("post", "/api/v1/deploys/{deploy_id}/deny"): WRITING | {"404", "409"},
    ("post", "/api/v1/deploys/{deploy_id}/cancel"): WRITING | {"404", "409"},
    ("post", "/api/v1/deploys/{deploy_id}/migrate-down"): WRITING | {"404", "409"},
    ("post", "/api/v1/deploys/{deploy_id}/rollback"): WRITING | {"404", "409"},
    ("post", "/api/v1/deploys/{deploy_id}/label"): WRITING | {"404", "409"},
    ("post", "/api/v1/intake/{sender}"): WRITING | {"404", "409"},
    ("post", "/api/v1/intake/{sender}/{hook}"): WRITING | {"404", "409"},
    ("get", "/api/v1/gate"): READING | {"404", "422"},
    ("get", "/api/v1/quality"): READING | {"422"},
    ("post", "/api/v1/pause"): WRITING,
    ("post", "/api/v1/resume"): WRITING,
    ("get", "/api/v1/status"): READING,
    ("get", "/-/healthy"): {"503"},
    ("get", "/-/ready"): {"503"},
    ("get", "/metrics"): set(),
}


@pytest.fixture(scope="module")
def described() -> Iterator[dict[str, Any]]:
    with running() as world:
        yield read(world)


def read(world: World) -> dict[str, Any]:
    answer = world.get("/openapi.json", as_=None)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def test_every_route_documents_every_refusal(described: dict[str, Any]) -> None:
    """Exactly those it can give; FastAPI's own 422 shape is nowhere."""
    found = {
        (method, path): {code for code in operation["responses"] if code >= "400"}
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }
    assert found == REFUSALS
    assert "HTTPValidationError" not in described["components"]["schemas"]


def test_every_refusal_has_the_one_shape_and_an_example(described: dict[str, Any]) -> None:
    """A client can be generated that reads all errors alike."""
    for path, methods in described["paths"].items():
        if not path.startswith("/api"):
            continue
        for operation in methods.values():
            for code, answer in operation["responses"].items():
                body = answer["content"]["application/json"]
                if code >= "400":
                    assert body["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
                    assert set(body["example"]["error"]) == {"code", "message", "remedy"}


def test_every_reference_resolves(described: dict[str, Any]) -> None:
    """No schema is named that is not there."""

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    schemas = described["components"]["schemas"]
    named = {ref.removeprefix("#/components/schemas/") for ref in references(described)}
    assert named <= set(schemas)
    assert {"DeployRequest", "WatchBody", "ErrorBody", "WhyBody"} <= named


def test_every_api_route_names_its_security(described: dict[str, Any]) -> None:
    """Tokens everywhere, signatures for deploy events only; the schemes are defined."""
    assert set(described["components"]["securitySchemes"]) == {"token", "webhookSignature", "senderSignature"}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            signed: list[dict[str, list[str]]] = (
                [{"webhookSignature": []}] if (method, path) == ("post", "/api/v1/deploys") else []
            )
            if path.startswith("/api/v1/intake"):
                signed = [{"senderSignature": []}]
            expected = [{"token": []}, *signed] if path.startswith("/api") else None
            assert operation.get("security") == expected


def test_the_example_event_is_taken(described: dict[str, Any]) -> None:
    """What the documentation shows works as it stands."""
    example = described["paths"]["/api/v1/deploys"]["post"]["requestBody"]["content"]["application/json"]["example"]
    with running() as world:
        assert world.ask("POST", "/api/v1/deploys", as_="trigger", json=example).status_code == 201


def test_the_description_does_not_change_by_being_read(described: dict[str, Any]) -> None:
    """Asked twice, told twice the same."""
    with running() as world:
        assert read(world) == read(world) == described
