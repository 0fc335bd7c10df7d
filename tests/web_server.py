"""The real API on a real socket, over a ledger in memory that can be told to fail."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import requests
from pydantic import SecretStr
from standardwebhooks import Webhook
from starlette.types import ASGIApp

from tests.fakes import FakeClock
from tests.samples import a_deploy, a_watch
from watchdog.clock import SystemClock
from watchdog.errors import LedgerError, NotFoundError, RefusedError
from watchdog.intake import Asking, DeployRequest, Intake, Received
from watchdog.ledger.encode import to_json
from watchdog.model import (
    Action,
    ActionState,
    AuditEntry,
    Change,
    Label,
    Recorded,
    State,
    StoredLook,
    Watch,
)
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import CellKeys, Clock, EvidencePoint, Ledger, OutboxRow, RawSamples, StoredVerdict, Tally
from watchdog.senders import SENDERS
from watchdog.sending import Sender
from watchdog.telemetry import Telemetry
from watchdog.web import Authenticator, Credential, Health, create_api, serve
from watchdog.web.rate_limit import Limits

NOW = 1_700_000_000.0
CURRENT = SecretStr("whsec_" + "Y3VycmVudC1zZWNyZXQtb2YtMzItYnl0ZXMtbG9uZyEh")
PREVIOUS = SecretStr("whsec_" + "cHJldmlvdXMtc2VjcmV0LW9mLTMyLWJ5dGVzLWxvbmch")
SCOPES = ("read", "trigger", "approve", "rollback", "label", "admin")
UNBOUNDED = Limits(per_s=1e9, burst=1e9)


def token(name: str) -> str:
    """The bearer token of a credential of this name."""
    return f"token-of-{name}-0123456789"


def credential(name: str, *scopes: str, services: tuple[str, ...] = ("*",)) -> Credential:
    return Credential(name=name, secret=SecretStr(token(name)), scopes=frozenset(scopes), services=services)


ONE_TOKEN_PER_SCOPE = tuple(credential(scope, scope) for scope in SCOPES)


@dataclass
class FakeLedger:
    """What the web side asks of a ledger. `broken` makes every call fail as a full disk does."""

    stored: dict[str, Watch] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    entries: list[AuditEntry] = field(default_factory=list)
    intended: list[Action] = field(default_factory=list)
    judged: list[StoredVerdict] = field(default_factory=list)
    seen: list[StoredLook] = field(default_factory=list)
    told: list[tuple[OutboxRow, str]] = field(default_factory=list)
    labelled: dict[str, Label] = field(default_factory=dict)
    brake: str | None = None
    broken: bool = False
    writers: int = 1

    def snapshot(self) -> AbstractContextManager[None]:
        return nullcontext()

    def put(self, watch: Watch) -> Watch:
        self.stored[watch.id] = watch
        return watch

    def watch(self, watch_id: str) -> Watch | None:
        self._check()
        return self.stored.get(watch_id)

    def watches(
        self,
        *,
        service: str | None = None,
        environment: str | None = None,
        states: frozenset[State] | None = None,
        limit: int = 100,
        before: float | None = None,
        before_id: str | None = None,
        services: frozenset[str] | None = None,
    ) -> list[Watch]:
        self._check()
        found = [
            w
            for w in sorted(self.stored.values(), key=lambda w: (w.created_at, w.id), reverse=True)
            if service in (None, w.deploy.service)
            and (services is None or w.deploy.service in services)
            and environment in (None, w.deploy.environment)
            and (states is None or w.state in states)
            and (before is None or (w.created_at, w.id if before_id is not None else "") < (before, before_id or ""))
        ]
        return found[:limit]

    def commit(self, change: Change) -> bool:
        self._check()
        watch = self.stored[change.watch_id]
        if watch.state is not change.expect_state:
            return False
        self.stored[watch.id] = replace(watch, state=change.to_state or watch.state, **change.fields)
        self.entries.extend(change.audit)
        return True

    def audit(self, watch_id: str | None = None, *, limit: int = 1000) -> list[AuditEntry]:
        self._check()
        return [e for e in self.entries if watch_id in (None, e.watch_id)][:limit]

    def actions(self, *, watch_id: str | None = None, states: frozenset[ActionState] | None = None) -> list[Action]:
        self._check()
        return [a for a in self.intended if watch_id in (None, a.watch_id) and (states is None or a.state in states)]

    def train(self, name: str, *, environment: str) -> list[Watch]:
        self._check()
        found = [w for w in self.stored.values() if (w.deploy.train, w.deploy.environment) == (name, environment)]
        return sorted(found, key=lambda w: w.deploy.deployed_at)

    def verdicts(self, watch_id: str, *, last: int | None = None) -> list[StoredVerdict]:
        self._check()
        return self.judged[-(last or 0) :] if watch_id in self.stored else []

    def services(self) -> list[str]:
        return sorted({w.deploy.service for w in self.stored.values()})

    def environments(self) -> list[str]:
        return sorted({w.deploy.environment for w in self.stored.values()})

    def evidence_path(self, watch_id: str) -> list[EvidencePoint]:
        told = self.verdicts(watch_id)
        return [
            EvidencePoint(look=v.look, at=v.at, log_evidence=v.log_evidence, log_threshold=v.log_threshold)
            for v in told
        ]

    def metric_evidence(self, watch_id: str, *, after: int | None = None) -> Iterator[tuple[int, Mapping[str, float]]]:
        for v in self.verdicts(watch_id):
            if after is None or v.look > after:
                yield (
                    v.look,
                    {
                        e["metric"]: float(e["log_evidence"])
                        for e in v.payload.get("evidence", ())
                        if "log_evidence" in e
                    },
                )

    def last_look(self, watch_id: str) -> StoredLook | None:
        return self.seen[-1] if self.seen else None

    def raw_samples(self, watch_id: str, *, after: int | None = None) -> Iterator[RawSamples]:
        for look in self.seen:
            for metric, cells in look.cells.items():
                if after is None or look.interval > after:
                    told = to_json(cells)
                    keys = CellKeys(arm=told["arm"], replica=told["replica"], stratum=told["stratum"], le=told["le"])
                    numbers = {"value_json": json.dumps(told["value"]), "total_json": json.dumps(told["total"])}
                    yield RawSamples(interval=look.interval, metric=metric, keys=keys, **numbers)

    def messages(self, watch_id: str) -> list[tuple[OutboxRow, str]]:
        return list(self.told)

    def labels(self, watch_ids: Sequence[str]) -> Mapping[str, Label]:
        self._check()
        return {name: self.labelled[name] for name in watch_ids if name in self.labelled}

    def set_label(self, label: Label, entry: AuditEntry) -> None:
        self._check()
        self.labelled[label.watch_id] = label
        self.entries.append(entry)

    def tallies(self, *, service: str | None = None, since: float | None = None) -> list[Tally]:
        self._check()
        return [
            Tally(service=w.deploy.service, mode=w.mode.value, day=int(w.created_at // 86400), state=w.state,
                  verdict=w.verdict, label=said.kind if (said := self.labelled.get(w.id)) else None,
                  budget=w.plan.judge.budget, count=1)
            for w in self.stored.values()
            if service in (None, w.deploy.service) and (since is None or w.created_at >= since)
        ]  # fmt: skip

    def times_to_restore(self, service: str, *, since: float) -> list[float]:
        return [w.recovered_at - w.degraded_at for w in self.stored.values() if w.recovered_at and w.degraded_at]

    def set_paused(self, paused: bool, *, actor: str, why: str, at: float) -> None:
        self._check()
        self.brake = f"{actor}: {why}" if paused else None

    def paused(self) -> str | None:
        self._check()
        return self.brake

    def counts(self) -> Mapping[str, int]:
        self._check()
        found: dict[str, int] = {}
        for watch in self.stored.values():
            found[watch.state.value] = found.get(watch.state.value, 0) + 1
        return found

    def _check(self) -> None:
        if self.broken:
            raise LedgerError("database or disk is full")


@dataclass
class FakeIntake:
    """Knows the service `shop`, as the real one does; a version `v0` cannot be watched."""

    ledger: FakeLedger
    received: list[DeployRequest] = field(default_factory=list)

    def receive_all(self, told: Sequence[Asking]) -> list[Received | BaseException]:
        return [self._tried(one.request, one.actor) for one in told]

    def _tried(self, request: DeployRequest, actor: str) -> Received | BaseException:
        try:
            recorded, watch = self.receive(request, actor=actor)
        except Exception as error:  # noqa: BLE001 (as the real one)
            return error
        return Received(recorded=recorded, watch=watch)

    def receive(self, request: DeployRequest, *, actor: str) -> tuple[Recorded, Watch]:
        self.received.append(request)
        if request.service != "shop":
            raise NotFoundError(f"the service {request.service!r} is not in the configuration; did you mean 'shop'?")
        if request.version == "v0":
            raise RefusedError("send previous_version: no earlier deploy of this service is on record")
        deploy_id = request.id or f"new-{len(self.ledger.stored)}"
        digest = request.model_dump_json()
        known = self.ledger.watch(deploy_id)
        if known is not None:
            return (Recorded.SAME if self.ledger.digests[deploy_id] == digest else Recorded.CONFLICT), known
        self.ledger.digests[deploy_id] = digest
        deploy = replace(a_deploy(deploy_id=deploy_id, version=request.version), triggered_by=actor)
        return Recorded.CREATED, self.ledger.put(replace(a_watch(deploy_id=deploy_id), deploy=deploy))


@dataclass
class World:
    """A running server and what is behind it."""

    url: str
    port: int
    ledger: FakeLedger
    intake: FakeIntake
    clock: Clock
    telemetry: Telemetry
    health: SimpleNamespace  # .now: the Health that is told next
    session: requests.Session

    def fresh(self) -> "World":
        """The same server with nothing on record: tests that share it begin alike."""
        self.ledger.__init__()  # type: ignore[misc]
        self.intake.received.clear()
        self.health.now = Health(tick_age_s=0.5, ledger_ok=True)
        return self

    def ask(self, method: str, path: str, *, as_: str | None = None, **kwargs: Any) -> requests.Response:
        headers = {**({"Authorization": f"Bearer {token(as_)}"} if as_ else {}), **kwargs.pop("headers", {})}
        return self.session.request(method, self.url + path, headers=headers, timeout=20, **kwargs)

    def get(self, path: str, *, as_: str | None = "admin", **kwargs: Any) -> requests.Response:
        return self.ask("GET", path, as_=as_, **kwargs)

    def post(
        self, path: str, body: bytes | None = None, *, as_: str | None = "admin", **kwargs: Any
    ) -> requests.Response:
        headers = {"Content-Type": "application/json", **kwargs.pop("headers", {})}
        return self.ask("POST", path, as_=as_, data=body, headers=headers, **kwargs)

    def send(self, body: bytes, headers: Mapping[str, str]) -> requests.Response:
        """Send a deploy event with a signature instead of a token."""
        return self.post("/api/v1/deploys", body, as_=None, headers=dict(headers))


def signed(body: bytes, *, key: SecretStr = CURRENT, at: float = NOW, message_id: str = "msg_1") -> dict[str, str]:
    """The headers that the reference library gives a message."""
    stamp = datetime.fromtimestamp(int(at), tz=UTC)
    signature = Webhook(key.get_secret_value()).sign(message_id, stamp, body.decode())
    return {"webhook-id": message_id, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def made(sender: Any) -> Sender:
    """A sender as its table in config.toml makes it, with nothing set."""
    built: Sender = sender(name=sender.kind, options=sender.Options(), env={})
    return built


@contextmanager
def running(
    *,
    credentials: Sequence[Credential] = ONE_TOKEN_PER_SCOPE,
    webhook_secrets: Sequence[SecretStr] = (CURRENT, PREVIOUS),
    limits: Limits = UNBOUNDED,
    real_time: bool = False,
) -> Iterator[World]:
    """Serve the API with a ledger of its own, on a free port, until the block ends."""
    ledger, telemetry = FakeLedger(), Telemetry()
    clock: Clock = SystemClock() if real_time else FakeClock(NOW)
    intake = FakeIntake(ledger)
    health = SimpleNamespace(now=Health(tick_age_s=0.5, ledger_ok=True))
    app = create_api(
        ledger=cast("Ledger", ledger),
        intake=cast("Intake", intake),
        desk=OperatorDesk(ledger=cast("Ledger", ledger), clock=clock),
        auth=Authenticator(credentials, webhook_secrets, clock=clock),
        clock=clock,
        health=lambda: cast("Health", health.now),
        telemetry=telemetry,
        limits=limits,
        senders={kind: made(SENDERS[kind]) for kind in ("argocd", "flagger")},
        environments={"shop": "production"},
    )
    with on_a_port(app) as port, requests.Session() as session:
        session.trust_env = False
        yield World(f"http://127.0.0.1:{port}", port, ledger, intake, clock, telemetry, health, session)


@contextmanager
def on_a_port(app: ASGIApp) -> Iterator[int]:
    """Serve an application as the daemon does, on a free port, until the block ends."""
    # The protocol by name: asyncio switches off Nagle's delay (40 ms an answer) only on sockets that say TCP.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(128)
    port = listening.getsockname()[1]
    server = serve(app, "127.0.0.1", port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive(), "the server did not stop"
