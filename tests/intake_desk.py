"""A real daemon with every kind of sender, asked without a socket; and the payloads of tests/payloads."""

import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook
from starlette.testclient import TestClient

from tests.fakes import FakeClock
from watchdog.app import App, build, load_config
from watchdog.clock import SystemClock
from watchdog.model import AuditEntry, Watch

PAYLOADS = Path(__file__).parent / "payloads"
TOKEN = "token-of-systems-0123456789"
SECRET = "a-shared-secret-of-both-sides"
SIGNING = "whsec_" + "Y3VycmVudC1zZWNyZXQtb2YtMzItYnl0ZXMtbG9uZyEh"
ENV = {"TOKEN": TOKEN, "READER": "token-of-a-reader-0123456789", "SECRET": SECRET, "SIGNING": SIGNING}
CONFIG = """
[daemon]
ledger = "{ledger}"

[[auth.tokens]]
name = "systems"
token_env = "TOKEN"
scopes = ["read", "trigger"]
services = ["shop"]

[[auth.tokens]]
name = "reader"
token_env = "READER"
scopes = ["read"]

[sources.pages]
kind = "scrape"
targets = [{{ url = "http://127.0.0.1:1/metrics", labels = {{ version = "v1" }} }}]

[hooks.back]
kind = "gate"

[sinks.log]
kind = "log"

[senders.github]
kind = "github"
secret_env = "SECRET"

[senders.gitlab]
kind = "gitlab"
secret_env = "SECRET"

[senders.gitlab-signed]
kind = "gitlab"
secret_env = "SIGNING"

[senders.argocd]
kind = "argocd"
environment_label = "env"

[senders.argocd-tags]
kind = "argocd"
version = "image_tag"

[senders.flagger]
kind = "flagger"

[senders.cdevents]
kind = "cdevents"

[senders.alertmanager]
kind = "alertmanager"
environment_label = "env"

[services.shop]
mode = "{mode}"
source = "pages"
rollback_hook = "back"
[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = 'r{{code="500"}}'
total = "r"

[services.other]
source = "pages"
[[services.other.metrics]]
name = "errors"
kind = "ratio"
bad = 'r{{code="500"}}'
total = "r"
"""


@dataclass(frozen=True)
class Sent:
    """A recorded shape: what it follows, its headers, where it goes and its body."""

    follows: str
    headers: dict[str, str]
    hook: str
    body: dict[str, Any]


def sent(name: str) -> Sent:
    told = json.loads((PAYLOADS / f"{name}.json").read_text())
    return Sent(told["follows"], told["headers"], told.get("hook", ""), told["body"])


def genuine(sender: str, body: bytes, at: float) -> dict[str, str]:
    """The headers by which a sender shows who it is."""
    if sender == "github":
        return {"X-Hub-Signature-256": f"sha256={hmac.digest(SECRET.encode(), body, 'sha256').hex()}"}
    if sender == "gitlab":
        return {"X-Gitlab-Token": SECRET}
    if sender == "gitlab-signed":
        from datetime import UTC, datetime

        signature = Webhook(SIGNING).sign("msg1", datetime.fromtimestamp(at, tz=UTC), body.decode())
        return {"webhook-id": "msg1", "webhook-timestamp": f"{at:.0f}", "webhook-signature": signature}
    return {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Desk:
    """The daemon and a client of it."""

    app: App
    clock: FakeClock  # moves the daemon, unless that lives in real time
    client: TestClient

    def post(
        self, sender: str, body: Any, headers: Mapping[str, str] | None = None, *, hook: str = "", known: bool = True
    ) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        shown = genuine(sender, raw, self.app.clock.now()) if known else {}
        path = f"/api/v1/intake/{sender}" + (f"/{hook}" if hook else "")
        return self.client.post(
            path, content=raw, headers={"Content-Type": "application/json", **(headers or {}), **shown}
        )

    def send(self, sender: str, payload: str, **changed: Any) -> Any:
        """Send a recorded payload, with some keys of its body replaced."""
        told = sent(payload)
        return self.post(sender, {**told.body, **changed}, told.headers, hook=told.hook)

    def ask(self, hook: str, **changed: Any) -> Any:
        """One of Flagger's questions."""
        return self.post("flagger", {**sent("flagger-pre-rollout").body, **changed}, hook=hook)

    def gate(self, **query: str) -> Any:
        return self.client.get("/api/v1/gate", params=query, headers={"Authorization": f"Bearer {TOKEN}"})

    def watch(self, watch_id: str) -> Watch:
        found = self.app.ledger.watch(watch_id)
        assert found is not None
        return found

    def audit(self, watch_id: str) -> list[AuditEntry]:
        return self.app.ledger.audit(watch_id)


@contextmanager
def desk(folder: Path, *, mode: str = "auto", real_time: bool = False, config: str = CONFIG) -> Iterator[Desk]:
    """A daemon with a ledger in this folder; nothing ticks, so a deploy stays as the test leaves it."""
    (folder / "config.toml").write_text(config.format(ledger=folder / "w.db", mode=mode))
    clock = FakeClock()
    app = build(load_config(folder / "config.toml", ENV), clock=SystemClock() if real_time else clock, env=ENV)
    try:
        yield Desk(app, clock, TestClient(app.web, raise_server_exceptions=False))
    finally:
        app.ledger.close()
