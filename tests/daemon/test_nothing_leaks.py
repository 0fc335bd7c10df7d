"""Secrets stay where they were put: a daemon that is used, abused and lied to repeats none of them anywhere."""

import base64
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.receivers import Answer, Received, Receiver, receiver
from tests.servers import wait_until
from tests.web_server import on_a_port
from watchdog.app import App, build, load_config

CONFIG = """
[daemon]
ledger = "{ledger}"
[auth]
webhook_secret_env = "HOOK_SECRET"
webhook_secret_previous_env = "HOOK_SECRET_BEFORE"
[[auth.tokens]]
name = "ops"
token_env = "OPS_TOKEN"
token_previous_env = "OPS_TOKEN_BEFORE"
scopes = ["admin"]
[sources.prom]
kind = "prometheus"
url = "{elsewhere}"
token_env = "PROM_TOKEN"
[sources.basic]
kind = "prometheus"
url = "{elsewhere}"
username = "watchdog"
password_env = "PROM_PASSWORD"
[sinks.slack]
kind = "slack"
token_env = "SLACK_TOKEN"
channel = "#deploys"
base_url = "{elsewhere}/"
[sinks.partner]
kind = "webhook"
url = "{elsewhere}/partner"
secret_env = "PARTNER_SECRET"
[sinks.alerts]
kind = "alertmanager"
url = "{elsewhere}"
token_env = "ALERTS_TOKEN"
[sinks.log]
kind = "log"
[hooks.back]
kind = "http"
url = "{elsewhere}/back"
secret_env = "BACK_SECRET"
"""
SERVICE = """
[services.{name}]
mode = "auto"
source = "{source}"
rollback_hook = "back"
look_s = 5
[[services.{name}.metrics]]
name = "errors"
kind = "ratio"
bad = 'r{{code="500"}}'
total = "r"
"""
SIGNING = ("HOOK_SECRET", "HOOK_SECRET_BEFORE", "PARTNER_SECRET", "BACK_SECRET")
BEARING = ("OPS_TOKEN", "OPS_TOKEN_BEFORE", "PROM_TOKEN", "PROM_PASSWORD", "SLACK_TOKEN", "ALERTS_TOKEN")


def canaries() -> dict[str, str]:
    """A secret for every place that takes one, each to be recognised anywhere."""
    signing = {n: "whsec_" + base64.b64encode(f"canary-{n:_<24}".encode()).decode() for n in SIGNING}
    return signing | {name: f"{'xoxb-' if name == 'SLACK_TOKEN' else ''}canary-{name.lower()}-0123" for name in BEARING}


def found(secrets: dict[str, str], where: str, text: str) -> list[str]:
    """Which secrets stand in a text, in any usual spelling."""
    hits = []
    for name, secret in secrets.items():
        raw = secret.removeprefix("whsec_")
        spellings = {secret, raw, quote(secret), base64.b64encode(secret.encode()).decode().rstrip("=")}
        if secret != raw:
            spellings.add(base64.b64decode(raw).decode())
        hits += [f"{name} in {where}" for spelling in spellings if spelling in text]
    return hits


@dataclass
class Used:
    """A daemon, and the world that it talks to."""

    app: App
    url: str
    secrets: dict[str, str]
    elsewhere: Receiver
    folder: Path

    def ask(self, method: str, path: str, *, token: str = "", body: bytes | None = None) -> str:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        answer = requests.request(method, self.url + path, headers=headers, data=body, timeout=20)
        return f"{answer.headers}\n{answer.text}"


def parrot(request: Received) -> Answer:
    """A service that fails, and repeats what it was sent in its error: the worst that a log can be given."""
    said = f"you sent {request.headers.get('authorization', '')} {request.body.decode('utf-8', 'replace')}"
    return Answer(status=500, body=json.dumps({"status": "error", "errorType": "internal", "error": said}).encode())


@pytest.fixture
def used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Used]:
    monkeypatch.setenv("no_proxy", "*")
    secrets = canaries()
    with receiver() as elsewhere:
        elsewhere.otherwise = parrot
        text = CONFIG.format(ledger=tmp_path / "w.db", elsewhere=elsewhere.url)
        text += "".join(SERVICE.format(name=name, source=name) for name in ("prom", "basic"))
        (tmp_path / "config.toml").write_text(text, encoding="utf-8")
        app = build(load_config(tmp_path / "config.toml", secrets), env=secrets)
        app.start()
        try:
            with on_a_port(app.web) as port:
                yield Used(app, f"http://127.0.0.1:{port}", secrets, elsewhere, tmp_path)
        finally:
            app.stop()


def test_no_secret_is_repeated_in_logs_answers_pages_metrics_or_the_ledger(
    used: Used, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Deploys are watched with a source and sinks that fail and echo; everything that is left behind is searched."""
    caplog.set_level(logging.DEBUG)
    ops, before = used.secrets["OPS_TOKEN"], used.secrets["OPS_TOKEN_BEFORE"]
    answers = []
    for name in ("prom", "basic"):
        deploy = {"id": name, "service": name, "version": "v2", "previous_version": "v1", "share": 0.1}
        deploy |= {"deployed_at": time.time() - 60}
        answers.append(used.ask("POST", "/api/v1/deploys", token=ops, body=json.dumps(deploy).encode()))
    assert [used.app.ledger.watch(name) is None for name in ("prom", "basic")] == [False, False], answers
    wait_until(
        lambda: all(used.app.ledger.looks(name) for name in ("prom", "basic")), within_s=60, what="looks of both"
    )
    answers.append(used.ask("POST", "/api/v1/deploys/prom/rollback", token=before, body=b'{"why": "now"}'))
    wait_until(
        lambda: {r.path.partition("/api")[0] for r in used.elsewhere.received} >= {"/partner", "/back"},
        within_s=60,
        what="hook and sinks were called",
    )
    wrong, nonsense = ("", "wrong-" + ops, before + "-wrong"), (b"{", b'{"service": "nobody", "version": "v1"}')
    answers += [used.ask("GET", "/api/v1/deploys", token=token) for token in wrong]
    answers += [used.ask("POST", "/api/v1/deploys", token=ops, body=body) for body in nonsense]
    pages = ["/", "/metrics", "/openapi.json", "/-/healthy", "/-/ready", "/api/v1/deploys", "/api/v1/nothing"]
    for name in ("prom", "basic"):
        pages += [f"/deploys/{name}", f"/api/v1/deploys/{name}", f"/api/v1/deploys/{name}/audit", f"/services/{name}"]
    answers += [used.ask("GET", page, token=ops) for page in pages]
    assert any("authorization" in r.headers for r in used.elsewhere.received), "the parrot has something to repeat"
    used.app.stop()
    out, err = capfd.readouterr()
    left = {"the log": caplog.text, "stdout": out, "stderr": err}
    left |= {f"answer {number}": answer for number, answer in enumerate(answers)}
    files = [path for path in used.folder.rglob("*") if path.is_file()]
    left |= {path.name: path.read_bytes().decode("utf-8", "replace") for path in files}
    assert {"w.db", "config.toml"} <= {path.name for path in files}
    assert [hit for where, text in left.items() for hit in found(used.secrets, where, text)] == []


def test_the_search_finds_what_it_looks_for() -> None:
    """In each spelling; else the other test proves nothing."""
    secrets = canaries()
    for name, secret in secrets.items():
        assert found(secrets, "x", f"...{secret}...") != []
        assert f"{name} in x" in found(secrets, "x", base64.b64encode(secret.encode()).decode())
    assert found(secrets, "x", base64.b64decode(secrets["BACK_SECRET"].removeprefix("whsec_")).decode()) != []
    assert found(secrets, "x", "nothing") == []
