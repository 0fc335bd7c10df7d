"""What GitHub, GitLab, Argo CD and CDEvents tell becomes a watched deploy, once."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.intake_desk import SECRET, TOKEN, Desk, desk, genuine, sent
from watchdog.deploy_request import DeployRequest
from watchdog.errors import ConfigError, LedgerError
from watchdog.model import State
from watchdog.senders.gitlab import GitlabSender, GitlabSenderOptions
from watchdog.senders.naming import SenderOptions, identity

NOW = 1_700_000_000.0
LIVE = NOW - 15
TWICE = '{"deploy_watchdog": {"migration": "irreversible"}, "deploy_watchdog": {}}'
# sender, payload, version, previous version
MAPPED = [
    ("github", "github-deployment-status", "f95f852bd8fca8fcc58a9a2d6c842781e32a215e", "v1"),
    ("gitlab", "gitlab-deployment", "279484c0", "v1"),
    ("gitlab-signed", "gitlab-deployment", "279484c0", "v1"),
    ("argocd", "argocd-application", "9d921f65f3c5373b682e2eb4b37afba6592e8f8b",
     "4773b9f1f8fc425f84174c338012771c4e9a989c"),
    ("argocd-tags", "argocd-application", "v42", "v1"),
    ("cdevents", "cdevents-deployed-structured", "v42", "v41"),
    ("cdevents", "cdevents-upgraded-binary", "v42", "v1"),
    ("flagger", "flagger-pre-rollout", "shop", "shop-primary"),
]  # fmt: skip


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        yield made


@pytest.fixture
def after_v1(daemon: Desk) -> Desk:
    """A daemon that knows that v1 is live."""
    body = {"id": "first", "service": "shop", "version": "v1", "previous_version": "v0", "deployed_at": NOW - 600}
    answer = daemon.client.post("/api/v1/deploys", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 201, answer.text
    daemon.clock.advance(1)
    return daemon


def changed(payload: str, *path: str, to: Any) -> dict[str, Any]:
    """A recorded body with another value at one place."""
    body: dict[str, Any] = json.loads(json.dumps(sent(payload).body))
    here = body
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = to
    return body


@pytest.mark.parametrize(("sender", "payload", "version", "previous"), MAPPED)
def test_a_live_version_is_watched(after_v1: Desk, sender: str, payload: str, version: str, previous: str) -> None:
    """201, with service, versions and the time it went live; sent again it is the same deploy."""
    answer = after_v1.send(sender, payload)
    assert answer.status_code == 201, answer.text
    deploy = after_v1.watch(answer.json()["id"]).deploy
    assert (deploy.service, deploy.environment) == ("shop", "production")
    assert (deploy.version, deploy.previous_version) == (version, previous)
    assert deploy.deployed_at == pytest.approx(NOW + 1 if sender == "flagger" else LIVE, abs=1)
    again = after_v1.send(sender, payload)
    assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])
    assert len(after_v1.app.ledger.watches(service="shop")) == 2


@pytest.mark.parametrize("sender", ["github", "argocd"])
def test_an_id_that_another_service_has_taken_keeps_nothing_from_being_watched(
    after_v1: Desk, tmp_path: Path, sender: str
) -> None:
    """What a sender calls its next deploy can be guessed."""
    payload = next(payload for name, payload, *_ in MAPPED if name == sender)
    (tmp_path / "elsewhere").mkdir()
    with desk(tmp_path / "elsewhere") as elsewhere:
        usual = {"service": "shop", "version": "v1", "previous_version": "v0", "deployed_at": NOW - 600}
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert elsewhere.client.post("/api/v1/deploys", json=usual, headers=bearer).status_code == 201
        guessed = elsewhere.send(sender, payload).json()["id"]
    taken = DeployRequest(id=guessed, service="other", version="v9", previous_version="v8")
    after_v1.app.intake.receive(taken, actor="token:other")
    answer = after_v1.send(sender, payload)
    assert answer.status_code == 201
    assert after_v1.watch(answer.json()["id"]).deploy.service == "shop"
    assert after_v1.send(sender, payload).json()["id"] == answer.json()["id"] != guessed


def test_the_audit_names_the_sender(after_v1: Desk) -> None:
    """By its table where it signs, by its token where it has one."""
    github = after_v1.send("github", "github-deployment-status").json()["id"]
    assert after_v1.audit(github)[0].actor == "sender:github"
    argo = after_v1.send("argocd", "argocd-application").json()["id"]
    assert after_v1.audit(argo)[0].actor == "token:systems"


def test_a_second_success_of_a_deployment_is_the_same_deploy(after_v1: Desk) -> None:
    """Such as the one that the sink `github` reports when the deploy has passed: its time differs."""
    first = after_v1.send("github", "github-deployment-status").json()["id"]
    body = changed("github-deployment-status", "deployment_status", "created_at", to="2023-11-14T22:13:19Z")
    again = after_v1.post("github", body, {"X-GitHub-Event": "deployment_status"})
    assert (again.status_code, again.json()["id"]) == (200, first)


@pytest.mark.parametrize(
    ("sender", "payload", "headers", "why"),
    [
        ("github", {"zen": "Design for failure."}, {"X-GitHub-Event": "ping"}, "ping"),
        ("gitlab", {"object_kind": "push"}, {"X-Gitlab-Event": "Push Hook"}, "Push Hook"),
        ("cdevents", {}, {"ce-type": "dev.cdevents.build.finished.0.2.0", "ce-specversion": "1.0"}, "build.finished"),
        ("cdevents", {}, {"ce-type": "dev.cdevents.service.rolledback.0.3.0", "ce-specversion": "1.0"}, "rolledback"),
    ],
)
def test_other_events_are_no_concern(
    daemon: Desk, sender: str, payload: dict[str, Any], headers: dict[str, str], why: str
) -> None:
    """200, so that nobody retries, and why; nothing is watched."""
    answer = daemon.post(sender, payload, headers)
    assert answer.status_code == 200
    assert why in answer.json()["ignored"]
    assert daemon.app.ledger.watches() == []


@pytest.mark.parametrize("state", ["pending", "queued", "in_progress", "failure", "error", "inactive", "waiting"])
def test_a_github_deployment_that_is_not_live_is_no_concern(daemon: Desk, state: str) -> None:
    """Every state but success."""
    body = changed("github-deployment-status", "deployment_status", "state", to=state)
    answer = daemon.post("github", body, {"X-GitHub-Event": "deployment_status"})
    assert state in answer.json()["ignored"]


@pytest.mark.parametrize("status", ["running", "failed", "canceled", "blocked", "approved", "rejected"])
def test_a_gitlab_deployment_that_is_not_live_is_no_concern(daemon: Desk, status: str) -> None:
    """Every status but success."""
    assert status in daemon.send("gitlab", "gitlab-deployment", status=status).json()["ignored"]


@pytest.mark.parametrize(
    ("sender", "payload", "path"),
    [
        ("github", "github-deployment-status", ("deployment", "environment")),
        ("gitlab", "gitlab-deployment", ("environment",)),
        ("argocd", "argocd-application", ("app", "metadata", "labels", "env")),
    ],
)
def test_another_environment_is_not_judged_by_productions_metrics(
    after_v1: Desk, sender: str, payload: str, path: tuple[str, ...]
) -> None:
    """A staging deploy of the same service is ignored, and the answer says how to have it watched."""
    answer = after_v1.post(sender, changed(payload, *path, to="staging"), sent(payload).headers)
    assert answer.status_code == 200
    assert "'staging'" in answer.json()["ignored"]
    assert "environments" in answer.json()["ignored"]


@pytest.mark.parametrize(
    ("sender", "payload", "path", "value", "said"),
    [
        ("github", "github-deployment-status", ("deployment", "sha"), "", "version"),
        ("github", "github-deployment-status", ("deployment", "id"), "7", "deployment.id"),
        ("github", "github-deployment-status", ("repository",), None, "repository"),
        ("github", "github-deployment-status", ("deployment_status", "created_at"), "soon", "created_at"),
        ("github", "github-deployment-status", ("deployment", "payload"), {"deploy_watchdog": {"id": "x"}}, "id"),
        ("github", "github-deployment-status", ("deployment", "payload"), {"deploy_watchdog": {"nope": 1}}, "nope"),
        ("github", "github-deployment-status", ("deployment", "payload"), {"deploy_watchdog": []}, "no object"),
        ("github", "github-deployment-status", ("deployment", "payload"), "deploy_watchdog: v41", "not JSON"),
        ("github", "github-deployment-status", ("deployment", "payload"), '["deploy_watchdog"]', "not a JSON object"),
        ("github", "github-deployment-status", ("deployment", "payload"), TWICE, "twice"),
        ("github", "github-deployment-status", ("deployment", "payload"), '{"deploy_watchdog": {"nope": 1}}', "nope"),
        ("cdevents", "cdevents-upgraded-binary", ("customData",), "{'deploy_watchdog': {}}", "not JSON"),
        ("gitlab", "gitlab-deployment", ("object_kind",), "push", "object_kind"),
        ("gitlab", "gitlab-deployment", ("short_sha",), "a b", "version"),
        ("argocd", "argocd-application", ("app", "status"), [], "status"),
        ("argocd", "argocd-application", ("app", "metadata", "labels"), None, "label 'env'"),
        ("argocd-tags", "argocd-application", ("app", "status", "summary"), None, "images"),
        ("cdevents", "cdevents-upgraded-binary", ("subject", "content", "artifactId"), "shop:v1", "package URL"),
        ("cdevents", "cdevents-upgraded-binary", ("subject", "content", "artifactId"), "pkg:oci/shop", "neither"),
        ("cdevents", "cdevents-deployed-structured", ("type",), "dev.cdevents.service.upgraded.0.2.0", "different"),
        ("cdevents", "cdevents-deployed-structured", ("specversion",), "0.3", "specversion"),
        ("flagger", "flagger-pre-rollout", ("checksum",), "", "checksum"),
        ("flagger", "flagger-pre-rollout", ("metadata",), {"migration": "maybe"}, "migration"),
        ("alertmanager", "alertmanager-v4", ("version",), "3", "version"),
    ],
)
def test_what_is_malformed_is_refused_with_a_reason(
    after_v1: Desk, sender: str, payload: str, path: tuple[str, ...], value: Any, said: str
) -> None:
    """422 in the one shape, naming the place."""
    told = sent(payload)
    answer = after_v1.post(sender, changed(payload, *path, to=value), told.headers, hook=told.hook)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]["message"]
    assert answer.json()["error"]["remedy"]


def test_a_cloudevent_without_its_headers_is_refused(daemon: Desk) -> None:
    """Neither structured nor binary."""
    answer = daemon.post("cdevents", sent("cdevents-upgraded-binary").body)
    assert (answer.status_code, "ce-type" in answer.json()["error"]["message"]) == (422, True)


@pytest.mark.parametrize("written", [dict, json.dumps], ids=["object", "string"])
@pytest.mark.parametrize(
    ("sender", "payload", "path"),
    [
        ("github", "github-deployment-status", ("deployment", "payload")),
        ("cdevents", "cdevents-upgraded-binary", ("customData",)),
    ],
)
def test_the_users_own_words_travel_in_the_payload(
    after_v1: Desk, sender: str, payload: str, path: tuple[str, ...], written: Callable[[dict[str, Any]], Any]
) -> None:
    """A deployment may carry what its sender has no field for, as an object or as the text of one."""
    words = {"previous_version": "v41", "migration": "contract", "share": 0.1}
    body = changed(payload, *path, to=written({"deploy_watchdog": words}))
    answer = after_v1.post(sender, body, sent(payload).headers)
    deploy = after_v1.watch(answer.json()["id"]).deploy
    assert (deploy.previous_version, deploy.migration, deploy.share) == ("v41", "contract", 0.1)


@pytest.mark.parametrize("text", ["", "made by hand", '{"task": "deploy"}', "[1", '{"a": 1, "a": 2}'])
def test_a_text_that_says_nothing_to_us_is_left_alone(after_v1: Desk, text: str) -> None:
    """A payload belongs to whoever made the deployment, whatever they write there."""
    body = changed("github-deployment-status", "deployment", "payload", to=text)
    assert after_v1.post("github", body, {"X-GitHub-Event": "deployment_status"}).status_code == 201


def test_a_resync_of_the_version_that_is_live_does_not_end_its_watch(after_v1: Desk) -> None:
    """A new entry of the history, by another revision, with the same image: a ConfigMap was changed."""
    first = after_v1.send("argocd-tags", "argocd-application")
    body = json.loads(json.dumps(sent("argocd-application").body))
    status = body["app"]["status"]
    status["history"].append({"id": 99, "revision": "f" * 40})
    status["operationState"]["syncResult"]["revision"] = "f" * 40
    after_v1.clock.advance(60)
    again = after_v1.post("argocd-tags", body)
    assert (again.status_code, "v42 is live already" in again.json()["ignored"]) == (200, True)
    assert after_v1.watch(first.json()["id"]).state is State.WATCHING
    assert after_v1.send("argocd-tags", "argocd-application").json()["id"] == first.json()["id"]


def test_the_same_revision_synced_again_is_no_deploy(daemon: Desk) -> None:
    """Argo CD syncs for many reasons."""
    body = json.loads(json.dumps(sent("argocd-application").body))
    for past in body["app"]["status"]["history"]:
        past["revision"] = "9d921f65f3c5373b682e2eb4b37afba6592e8f8b"
    assert "again" in daemon.post("argocd", body).json()["ignored"]


def test_an_application_of_several_sources_says_what_to_do(daemon: Desk) -> None:
    """Argo CD then gives no single revision; the tag of the image is left."""
    body = json.loads(json.dumps(sent("argocd-application").body))
    body["app"]["status"]["operationState"]["syncResult"]["revision"] = ""
    for past in body["app"]["status"]["history"]:
        past["revision"] = ""
    answer = daemon.post("argocd", body)
    assert answer.status_code == 422
    assert 'version = "image_tag"' in answer.json()["error"]["message"]


@pytest.mark.parametrize("at", [20231114, 1.5, True, None, "yesterday", ["2023-11-14T22:13:05Z"]])
def test_what_is_no_time_is_refused(daemon: Desk, at: Any) -> None:
    """A number that could be read as a date above all."""
    body = changed("github-deployment-status", "deployment_status", "created_at", to=at)
    answer = daemon.post("github", body, {"X-GitHub-Event": "deployment_status"})
    assert (answer.status_code, "created_at" in answer.json()["error"]["message"]) == (422, True)


def test_a_refusal_by_the_ledger_is_counted(daemon: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer is in the metric, also that nothing could be recorded."""

    def full(*_: Any, **__: Any) -> None:
        raise LedgerError("disk full", permanent=False)

    monkeypatch.setattr(type(daemon.app.ledger), "watch", full)
    assert daemon.send("github", "github-deployment-status").status_code == 503
    counted = daemon.client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert 'deploy_watchdog_intake_requests_total{code="503",sender="github"} 1.0' in counted


def test_a_github_signature_is_of_this_body(daemon: Desk) -> None:
    """A signature taken from another delivery is refused; so is one of another algorithm."""
    body = json.dumps(sent("github-deployment-status").body).encode()
    of_another = genuine("github", b"{}", NOW)
    for headers in (of_another, {"X-Hub-Signature": genuine("github", body, NOW)["X-Hub-Signature-256"]}):
        assert daemon.post("github", body, headers, known=False).status_code == 401


def test_a_gitlab_signature_is_good_for_five_minutes(daemon: Desk) -> None:
    """The signing token is Standard Webhooks; the plain token is then not enough."""
    body = json.dumps(sent("gitlab-deployment").body).encode()
    old = genuine("gitlab-signed", body, NOW - 301)
    assert daemon.post("gitlab-signed", body, old, known=False).status_code == 401
    assert daemon.post("gitlab-signed", body, {"X-Gitlab-Token": SECRET}, known=False).status_code == 401


def test_a_token_may_be_the_password_in_the_address(after_v1: Desk) -> None:
    """Flagger can send no header; Go's client makes Basic of `https://any:TOKEN@host/`."""
    told = sent("flagger-pre-rollout")
    path = f"/api/v1/intake/flagger/{told.hook}"
    assert after_v1.client.post(path, json=told.body, auth=("any", TOKEN)).status_code == 201
    assert after_v1.client.post(path, json=told.body, auth=("any", "no-such-token-0123456")).status_code == 401


def test_a_token_without_the_scope_or_the_service_is_refused(daemon: Desk) -> None:
    """403 for a reader, and for a service that the token is not good for."""
    reader = {"Authorization": "Bearer token-of-a-reader-0123456789"}
    body = sent("argocd-application").body
    assert daemon.post("argocd", body, reader, known=False).status_code == 403
    other = changed("argocd-application", "app", "metadata", "name", to="other")
    assert daemon.post("argocd", other).status_code == 403


def test_an_unknown_service_or_address_is_said(daemon: Desk) -> None:
    """404 with the remedy."""
    body = changed("github-deployment-status", "repository", "name", to="none")
    answer = daemon.post("github", body, {"X-GitHub-Event": "deployment_status"})
    assert (answer.status_code, "'none'" in answer.json()["error"]["message"]) == (404, True)
    for sender, hook in (("nobody", ""), ("flagger", ""), ("flagger", "load-test"), ("github", "rollback")):
        assert daemon.post(sender, {}, hook=hook, known=False).status_code == 404


def test_a_large_or_deep_body_is_refused(daemon: Desk) -> None:
    """413 beyond 256 KB, 422 beyond what any of them nests."""
    assert daemon.post("argocd", b'{"a": "' + b"x" * 262_144 + b'"}').status_code == 413
    assert daemon.post("argocd", b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}").status_code == 422


def test_addresses_in_a_payload_are_not_followed(after_v1: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is connected to, whatever URLs a payload holds."""

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.create_connection", forbidden)
    monkeypatch.setattr("socket.getaddrinfo", forbidden)
    for sender, payload in (("github", "github-deployment-status"), ("gitlab", "gitlab-deployment")):
        assert after_v1.send(sender, payload).status_code == 201


def test_every_request_is_counted_by_kind_and_answer(daemon: Desk) -> None:
    """For dashboards: how many of GitHub's events were refused."""
    daemon.post("github", {}, {"X-GitHub-Event": "ping"})
    daemon.post("github", {}, known=False)
    metrics = daemon.client.get("/metrics").text
    assert 'deploy_watchdog_intake_requests_total{code="200",sender="github"} 1.0' in metrics
    assert 'deploy_watchdog_intake_requests_total{code="401",sender="github"} 1.0' in metrics


def test_names_are_translated_by_the_table() -> None:
    """The full name is looked up before the short one; what is in no table keeps its own."""
    options = SenderOptions(services={"acme/shop": "storefront"}, environments={"prod": "production"})
    assert options.service("acme/shop", "shop") == "storefront"
    assert options.service("acme/other", "other") == "other"
    assert (options.environment("prod"), options.environment("dev"), options.environment(None)) == (
        "production",
        "dev",
        None,
    )


def test_ids_of_odd_parts_are_still_ids() -> None:
    """Long, or with signs that no id may hold: a digest, and another one for other parts."""
    assert identity("cdevents", "/ci", "a b") != identity("cdevents", "/ci", "a  b")
    assert len(identity("argocd", "n" * 253, "a" * 253, "1")) < 100


def test_a_signing_token_that_is_none_is_a_mistake_of_the_configuration() -> None:
    """Said at the start, not at the first event."""
    with pytest.raises(ConfigError, match="whsec_"):
        GitlabSender("gitlab", GitlabSenderOptions(secret_env="S"), {"S": "whsec_short"})
