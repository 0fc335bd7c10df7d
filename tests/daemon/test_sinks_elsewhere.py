"""The sinks `cdevents`, `grafana` and `github` against servers that answer as their documentation says.

CDEvents: https://github.com/cdevents/spec (v0.5.1: spec.md, schemas/servicerolledback.json, cloudevents-binding.md).
Grafana: https://grafana.com/docs/grafana/latest/developers/http_api/annotations/.
GitHub: https://docs.github.com/en/rest/commits/statuses and https://docs.github.com/en/rest/deployments/statuses.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes import FakeClock
from tests.receivers import Answer, Received, Receiver, receiver
from tests.samples import DEPLOYED_AT, a_deploy
from watchdog.errors import SinkError
from watchdog.model import Message, MessageKind, Severity, State
from watchdog.ports import Delivery
from watchdog.sinks.cdevents import CdEventsOptions, CdEventsSink
from watchdog.sinks.github import STATES, GithubOptions, GithubSink
from watchdog.sinks.grafana import GrafanaOptions, GrafanaSink

SHA = "6dcb09b5b57875f334f61aebed695e2e4193db5e"
PAGE = "https://watch.example/deploys/d1"


@pytest.fixture
def web() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


def a_delivery(
    state: State = State.WATCHING, *, sentence: str = "shop v2: errors", thread: Mapping[str, str] | None = None
) -> Delivery:
    ended = state in (State.PASSED, State.ROLLED_BACK, State.NOT_RECOVERED)
    message = Message(
        key=state.value, watch_id="d1", kind=MessageKind.ENDED if ended else MessageKind.STARTED,
        severity=Severity.INFO, sentence=sentence, facts={"state": state.value, "public_url": PAGE},
    )  # fmt: skip
    return Delivery(message=message, deploy=a_deploy(), state=state, thread=thread or {})


# --- CDEvents ------------------------------------------------------------------------------------------------


def a_broker(web: Receiver, **options: Any) -> CdEventsSink:
    return CdEventsSink("events", CdEventsOptions(url=f"{web.url}/events", **options), FakeClock(), {"T": "secret"})


def test_a_rollback_is_a_cdevent_in_a_cloudevent(web: Receiver) -> None:
    """Every part that the two specifications ask for, with the version that serves again."""
    a_broker(web, artifact="pkg:oci/{service}@{version}", token_env="T").send(a_delivery(State.ROLLED_BACK))
    (request,) = web.received
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["authorization"] == "Bearer secret"
    told = request.json()
    event = told.pop("data")
    assert told == {
        "specversion": "1.0", "id": event["context"]["id"], "source": "/deploy-watchdog",
        "type": "dev.cdevents.service.rolledback.0.3.0", "subject": "shop", "time": "2023-11-14T22:13:20.000Z",
        "datacontenttype": "application/json",
    }  # fmt: skip
    assert event["context"] == {
        "specversion": "0.5.1", "id": event["context"]["id"], "source": "/deploy-watchdog",
        "type": "dev.cdevents.service.rolledback.0.3.0", "timestamp": "2023-11-14T22:13:20.000Z",
    }  # fmt: skip
    assert event["subject"] == {
        "id": "shop", "source": "/deploy-watchdog",
        "content": {"environment": {"id": "production"}, "artifactId": "pkg:oci/shop@v1"},
    }  # fmt: skip
    assert event["customData"]["sentence"] == "shop v2: errors"


def test_only_a_rollback_is_an_event_and_its_copies_have_one_id(web: Receiver) -> None:
    """A deploy that passed or is watched says nothing here; a message told twice is one event."""
    sink = a_broker(web)
    for state in (State.WATCHING, State.PASSED, State.NOT_RECOVERED, State.NOT_RECOVERED):
        sink.send(a_delivery(state))
    assert len({request.json()["id"] for request in web.received}) == 1
    assert len(web.received) == 2


def test_a_version_of_any_letters_stays_a_package_url(web: Receiver) -> None:
    """What has a meaning in an address is escaped."""
    delivery = a_delivery(State.ROLLED_BACK)
    deploy = replace(delivery.deploy, previous_version="sha256:ab/c@d?e#f g\ud800")
    a_broker(web).send(replace(delivery, deploy=deploy))
    content = web.received[0].json()["data"]["subject"]["content"]
    assert content["artifactId"] == "pkg:generic/shop@sha256%3Aab%2Fc%40d%3Fe%23f%20g%3F"


@pytest.mark.parametrize("artifact", ["shop@{version}", "pkg:oci/shop"])
def test_what_is_no_package_url_is_refused(artifact: str) -> None:
    """When the file is read, not when something is rolled back."""
    with pytest.raises(ValidationError, match="package URL"):
        CdEventsOptions(url="https://x/", artifact=artifact)


# --- Grafana -------------------------------------------------------------------------------------------------


@dataclass
class FakeGrafana:
    """Annotations as Grafana keeps them: found by all of the tags, made with a number, patched by it."""

    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)

    def answer(self, request: Received) -> Answer:
        if request.headers.get("authorization") != "Bearer secret":
            return Answer(401, b'{"message": "Unauthorized"}')
        if request.method == "GET":
            wanted = request.query["tags"]  # the first of them: the deploy's own
            found = [{"id": n, **a} for n, a in self.annotations.items() if wanted in a["tags"]]
            return Answer(body=json.dumps(found).encode())
        if request.method == "POST":
            number = len(self.annotations) + 1
            self.annotations[number] = request.json()
            return Answer(body=json.dumps({"message": "Annotation added", "id": number}).encode())
        number = int(request.path.rsplit("/", 1)[-1])
        if number not in self.annotations:
            return Answer(404, b'{"message": "Annotation not found"}')
        self.annotations[number] |= request.json()
        return Answer(body=b'{"message": "Annotation patched"}')


@pytest.fixture
def grafana(web: Receiver) -> FakeGrafana:
    fake = FakeGrafana()
    web.otherwise = fake.answer
    return fake


def a_grafana(web: Receiver, **options: Any) -> GrafanaSink:
    chosen = GrafanaOptions(url=web.url, token_env="T", **options)
    return GrafanaSink("charts", chosen, FakeClock(DEPLOYED_AT + 90), {"T": "secret"})


def test_a_deploy_is_one_annotation_that_ends_with_it(web: Receiver, grafana: FakeGrafana) -> None:
    """Made when it begins, a region when it is over; its text and state are those of the last message."""
    sink = a_grafana(web, dashboard_uid="abc", tags=("team:shop",))
    thread = dict(sink.send(a_delivery()))
    assert "timeEnd" not in grafana.annotations[1]
    assert sink.send(a_delivery(State.PASSED, sentence="1 < 2", thread=thread)) == thread
    assert grafana.annotations == {
        1: {
            "time": 1_700_000_000_000,
            "timeEnd": 1_700_000_090_000,
            "dashboardUID": "abc",
            "text": f'1 &lt; 2 <a href="{PAGE}">open</a>',
            "tags": [
                "deploy-watchdog", "deploy:d1", "service:shop", "environment:production", "state:passed", "team:shop",
            ],
        }
    }  # fmt: skip


def test_a_message_told_twice_makes_one_annotation(web: Receiver, grafana: FakeGrafana) -> None:
    """The answer was lost, so nothing was remembered: it is found by its tag."""
    sink = a_grafana(web)
    sink.send(a_delivery())
    sink.send(a_delivery())
    assert len(grafana.annotations) == 1


def test_an_annotation_that_somebody_deleted_is_made_again(web: Receiver, grafana: FakeGrafana) -> None:
    """As with a message in a chat."""
    assert a_grafana(web).send(a_delivery(thread={"annotation": "99"})) == {"annotation": "1"}
    assert len(grafana.annotations) == 1


def test_a_page_instead_of_json_is_a_fault_that_may_pass(web: Receiver) -> None:
    """As a proxy gives it to whoever has to sign in."""
    web.otherwise = lambda _: Answer(200, b"<html>")
    with pytest.raises(SinkError) as failed:
        a_grafana(web).send(a_delivery())
    assert not failed.value.permanent


# --- GitHub --------------------------------------------------------------------------------------------------


@dataclass
class FakeGithub:
    """The five requests as GitHub answers them; `statuses` is what was told, by path."""

    refs: dict[str, str] = field(default_factory=lambda: {"v2": SHA})
    deployments: list[dict[str, Any]] = field(default_factory=lambda: [{"id": 42, "sha": SHA}])
    statuses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def answer(self, request: Received) -> Answer:
        self.paths.append(f"{request.method} {request.path}")
        if request.headers.get("authorization") != "Bearer secret":
            return Answer(401, b'{"message": "Bad credentials"}')
        if "/commits/" in request.path:
            sha = self.refs.get(request.path.rsplit("/", 1)[-1])
            return Answer(body=sha.encode()) if sha else Answer(422, b'{"message": "No commit found for SHA"}')
        if request.method == "GET" and "/deployments/" in request.path:
            number = request.path.rsplit("/", 1)[-1]
            found = next((one for one in self.deployments if str(one["id"]) == number), None)
            return Answer(body=json.dumps(found).encode()) if found else Answer(404, b'{"message": "Not Found"}')
        if request.method == "GET":
            is_asked_for = (request.query["sha"], request.query["environment"]) == (SHA, "production")
            return Answer(body=json.dumps(self.deployments if is_asked_for else []).encode())
        told = request.json()
        assert len(told["description"]) <= 140
        self.statuses.append((request.path, told))
        return Answer(201, b"{}")


@pytest.fixture
def github(web: Receiver) -> FakeGithub:
    fake = FakeGithub()
    web.otherwise = fake.answer
    return fake


def a_github(web: Receiver, **options: Any) -> GithubSink:
    chosen = GithubOptions(url=web.url, repository="example/shop", token_env="T", **options)
    return GithubSink("hub", chosen, FakeClock(), {"T": "secret"})


def test_commit_and_deployment_are_told_where_it_stands(web: Receiver, github: FakeGithub) -> None:
    """Looked for once, told at every turn, with the sentence and the page."""
    sink = a_github(web)
    thread = dict(sink.send(a_delivery()))
    assert thread == {"sha": SHA, "deployment": "42"}
    assert sink.send(a_delivery(State.ROLLED_BACK, sentence="x" * 200, thread=thread)) == thread
    commit, deployment = f"/repos/example/shop/statuses/{SHA}", "/repos/example/shop/deployments/42/statuses"
    long = "x" * 139 + "…"
    assert github.statuses == [
        (commit, {"state": "pending", "context": "deploy-watchdog/shop/production", "description": "shop v2: errors",
                  "target_url": PAGE}),
        (deployment, {"state": "in_progress", "auto_inactive": False, "description": "shop v2: errors",
                      "log_url": PAGE}),
        (commit, {"state": "failure", "context": "deploy-watchdog/shop/production", "description": long,
                  "target_url": PAGE}),
        (deployment, {"state": "failure", "auto_inactive": False, "description": long, "log_url": PAGE}),
    ]  # fmt: skip
    assert [path for path in github.paths if path.startswith("GET")] == [
        "GET /repos/example/shop/commits/v2", "GET /repos/example/shop/deployments",
    ]  # fmt: skip


def test_every_state_has_its_words_and_only_passed_is_a_success() -> None:
    """The words that GitHub knows; what nobody can tell is never green."""
    assert set(STATES) == set(State)
    assert {commit for commit, _ in STATES.values()} <= {"error", "failure", "pending", "success"}
    assert {d for _, d in STATES.values()} <= {"error", "failure", "inactive", "in_progress", "success"}
    assert [state for state, words in STATES.items() if "success" in words] == [State.PASSED]


def test_without_a_deployment_of_githubs_the_commit_is_told_alone(web: Receiver, github: FakeGithub) -> None:
    """CI that makes none is no mistake; one that comes later is found."""
    github.deployments = []
    thread = dict(a_github(web).send(a_delivery()))
    assert (thread, len(github.statuses)) == ({"sha": SHA}, 1)
    github.deployments = [{"id": 42}]
    assert a_github(web).send(a_delivery(thread=thread))["deployment"] == "42"


def test_services_of_one_repository_have_a_status_each(web: Receiver, github: FakeGithub) -> None:
    """What went back is not painted green by its neighbour; of two deployments nobody guesses which is meant."""
    github.deployments = [{"id": 42, "sha": SHA}, {"id": 43, "sha": SHA}]
    for service, state in (("pay", State.ROLLED_BACK), ("shop", State.PASSED)):
        told = a_delivery(state)
        a_github(web).send(replace(told, deploy=replace(told.deploy, service=service)))
    assert [(path.rsplit("/", 2)[-2], told["context"], told["state"]) for path, told in github.statuses] == [
        ("statuses", "deploy-watchdog/pay/production", "failure"),
        ("statuses", "deploy-watchdog/shop/production", "success"),
    ]


@pytest.mark.parametrize(
    ("deploy_id", "told_to"),
    [("github:186853002:43", "43"), ("github:186853002:44", ""), ("github:186853002:99", ""), ("mine:7:43", "")],
    ids=["the one it came from", "of another commit", "none of this repository", "another system's id"],
)
def test_a_deploy_that_github_told_of_goes_to_its_own_deployment(
    web: Receiver, github: FakeGithub, deploy_id: str, told_to: str
) -> None:
    """Its id names it; but ids can be chosen, so that the commit must be the same."""
    github.deployments = [{"id": 42, "sha": SHA}, {"id": 43, "sha": SHA}, {"id": 44, "sha": "e" * 40}]
    told = a_delivery()
    thread = a_github(web).send(replace(told, deploy=replace(told.deploy, id=deploy_id)))
    assert thread.get("deployment", "") == told_to


def test_a_version_that_git_does_not_know_is_said_for_good(web: Receiver, github: FakeGithub) -> None:
    """No retry makes a commit of it; the ref can be written as git has it."""
    github.refs = {"release-v2": SHA}
    with pytest.raises(SinkError, match="has no commit 'v2'") as failed:
        a_github(web).send(a_delivery())
    assert failed.value.permanent
    assert a_github(web, ref="release-{version}").send(a_delivery())["sha"] == SHA


def test_a_limit_of_githubs_may_pass(web: Receiver) -> None:
    """403 with Retry-After, as its secondary limits answer."""
    web.otherwise = lambda _: Answer(403, b"{}", {"Retry-After": "60"})
    with pytest.raises(SinkError) as failed:
        a_github(web).send(a_delivery())
    assert (failed.value.permanent, failed.value.retry_after_s) == (False, 60.0)


@pytest.mark.parametrize(
    "wrong", [{"repository": "shop"}, {"repository": "a/b/c"}, {"token_env": ""}, {"url": "ftp://x"}]
)
def test_half_a_configuration_is_refused(wrong: dict[str, str]) -> None:
    """Before anything is sent."""
    with pytest.raises(ValidationError):
        GithubOptions(**{"repository": "example/shop", "token_env": "T", **wrong})
