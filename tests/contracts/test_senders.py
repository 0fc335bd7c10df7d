"""What every sender kind in the table must do. A new entry without a case here fails."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tests.intake_desk import ENV, PAYLOADS, Desk, desk, sent
from watchdog.errors import RefusedError
from watchdog.senders import SENDERS
from watchdog.sending import Arrived, DeployTold, Heard, Sender

# kind → its options, and a payload that it understands
WORKS: dict[str, tuple[dict[str, Any], str]] = {
    "github": ({"secret_env": "SECRET"}, "github-deployment-status"),
    "gitlab": ({"secret_env": "SECRET"}, "gitlab-deployment"),
    "argocd": ({}, "argocd-application"),
    "flagger": ({}, "flagger-pre-rollout"),
    "cdevents": ({}, "cdevents-deployed-structured"),
    "alertmanager": ({}, "alertmanager-v4"),
}
KINDS = sorted(SENDERS)
ODD: tuple[Any, ...] = (..., None, True, -1, 1e300, "", "\x00\x1b[31m", "9" * 5000, [], {}, [{}], {"a": {"b": []}})
LEAVES = st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.text(max_size=20)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("desk")) as made:
        yield made


def built(kind: str) -> Sender:
    adapter: Any = SENDERS[kind]
    made: Sender = adapter(name=kind, options=adapter.Options(**WORKS[kind][0]), env=ENV)
    return made


def arrived(kind: str, body: Any = None, **headers: str) -> Arrived:
    told = sent(WORKS[kind][1])
    named = {name.lower(): value for name, value in (told.headers | headers).items()}
    return Arrived(headers=named, body=json.dumps(told.body if body is None else body).encode(), hook=told.hook)


def heard(kind: str, body: Any) -> Heard | None:
    """What a sender makes of it; None: refused, in one of the two ways that are allowed."""
    try:
        return built(kind).read(arrived(kind, body))
    except (RefusedError, ValidationError):
        return None


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a payload."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*at, key)
        yield from paths(below, (*at, key))


def with_at(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    """A copy with another value at one place; without that place where there is nothing to put."""
    copy = json.loads(json.dumps(value))
    here = copy
    for key in path[:-1]:
        here = here[key]
    if put is ...:
        del here[path[-1]]
    else:
        here[path[-1]] = put
    return copy


def test_every_kind_has_its_case() -> None:
    """Adding a sender means adding a payload of it."""
    assert set(SENDERS) == set(WORKS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_names_each_kind_as_it_names_itself(kind: str) -> None:
    """Table, class and configuration say the same word."""
    assert SENDERS[kind].kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_described_frozen_and_closed(kind: str) -> None:
    """Every key is documented, unknown ones are refused, nothing changes after the start."""
    options = SENDERS[kind].Options
    assert issubclass(options, BaseModel)
    assert [name for name, known in options.model_fields.items() if not known.description] == []
    assert options.model_config.get("frozen")
    with pytest.raises(ValidationError, match="extra_forbidden"):
        options(**WORKS[kind][0], no_such_key=1)


@pytest.mark.parametrize("payload", sorted(PAYLOADS.glob("*.json")), ids=lambda path: path.stem)
def test_every_payload_names_what_it_follows_and_belongs_to_a_sender(payload: Path) -> None:
    """A reader can look up upstream what the shape rests on."""
    told = sent(payload.stem)
    assert len(told.follows.split()) > 3
    assert payload.stem.partition("-")[0] in SENDERS


@pytest.mark.parametrize("kind", KINDS)
def test_a_payload_of_its_own_is_understood(kind: str) -> None:
    """And read twice it says the same: nothing is remembered between two."""
    assert built(kind).read(arrived(kind)) == built(kind).read(arrived(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_any_place_may_be_missing_or_of_another_type(kind: str) -> None:
    """Each place of the payload replaced by each kind of value: understood or refused with a reason, never a crash."""
    body = sent(WORKS[kind][1]).body
    for path in paths(body):
        for put in ODD:
            heard(kind, with_at(body, path, put))


@pytest.mark.parametrize("kind", KINDS)
def test_a_deploy_without_its_parts_is_refused(kind: str) -> None:
    """An empty object is nobody's payload."""
    assert heard(kind, {}) is None


@given(body=JSON, kind=st.sampled_from(KINDS))
@settings(max_examples=150, deadline=None)
def test_no_payload_breaks_a_sender(body: Any, kind: str) -> None:
    """Whatever is inside, it is heard or refused."""
    heard(kind, body)


@given(data=st.data(), kind=st.sampled_from(KINDS))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_payload_gives_a_500(daemon: Desk, data: st.DataObject, kind: str) -> None:
    """Through the whole daemon: any JSON, and its own payload with any place made into anything."""
    told = sent(WORKS[kind][1])
    place = data.draw(st.sampled_from(list(paths(told.body))))
    body = data.draw(JSON | JSON.map(lambda value: with_at(told.body, place, value)))
    answer = daemon.post(kind, body, told.headers, hook=told.hook)
    assert answer.status_code in (200, 201, 404, 409, 422), answer.text
    assert isinstance(answer.json(), dict)


@given(raw=st.binary(max_size=200), kind=st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_that_are_no_json_are_refused(daemon: Desk, raw: bytes, kind: str) -> None:
    """422 with a reason, or 415 where nothing was declared."""
    told = sent(WORKS[kind][1])
    answer = daemon.post(kind, b"\xff" + raw, told.headers, hook=told.hook)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


@pytest.mark.parametrize("kind", KINDS)
def test_who_cannot_show_who_they_are_is_refused(kind: str, daemon: Desk) -> None:
    """Without a credential, with a wrong one, and with the right one for another body."""
    told = sent(WORKS[kind][1])
    raw = json.dumps(told.body).encode()
    wrong = {
        "X-Hub-Signature-256": "sha256=" + "0" * 64,
        "X-Gitlab-Token": "no",
        "Authorization": "Bearer no-such-token-0123456789",
    }
    for headers in (told.headers, told.headers | wrong):
        assert daemon.post(kind, raw, headers, hook=told.hook, known=False).status_code == 401


def test_a_deploy_says_what_it_needs() -> None:
    """Of every sender of deploys: an id, a service and a version."""
    for kind in set(KINDS) - {"alertmanager"}:
        told = built(kind).read(arrived(kind))
        assert isinstance(told, DeployTold)
        assert told.request.id is not None
        assert told.request.id.startswith(kind)
        assert told.request.service == "shop"
