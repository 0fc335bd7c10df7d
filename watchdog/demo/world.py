"""The demo's world: shop, front and visitors as processes, the real daemon beside them, and nobody left at the end."""

import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from watchdog.demo import settings
from watchdog.demo.faults import Fault, render_fault
from watchdog.demo.processes import Processes, free_ports
from watchdog.demo.scenarios import NEW, OLD, RATE, Scenario, Turn
from watchdog.demo.serving import HOST
from watchdog.demo.slack_desk import SlackDesk
from watchdog.demo.talk import answers, call, wait_for

INSTANCES = {"v1-a": OLD, "v1-b": OLD, "v2-a": NEW}  # two of the old, so that their noise can be told
START_S = 60.0  # a busy machine imports slowly


class EndedEarlyError(RuntimeError):
    """One of the world's processes ended before it answered."""


class World:
    """Starts what a scenario needs and drives it as CI and fate would; a context manager that always cleans up."""

    def __init__(self, scenario: Scenario, folder: Path, *, keep: bool, rate: float = RATE) -> None:
        self.scenario = scenario
        self.folder = folder
        self.effects = folder / "effects.jsonl"
        self.deploy_id = f"demo-{scenario.name}"
        self.deployed_at: float | None = None
        self._rate = rate
        self._token = secrets.token_hex(16)
        ports = free_ports(3 + 2 * len(INSTANCES))
        self.front_port, self.front_admin_port, self.daemon_port = ports[:3]
        self._ports = dict(zip(INSTANCES, ports[3::2], strict=True))
        self._metrics_ports = dict(zip(INSTANCES, ports[4::2], strict=True))
        self.slack_desk = SlackDesk() if not os.environ.get(settings.SLACK_TOKEN_ENV) else None
        self.processes = Processes(folder, remove=not keep)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.processes.close()
        if self.slack_desk is not None:
            self.slack_desk.close()

    @property
    def since_deploy_s(self) -> float:
        return 0.0 if self.deployed_at is None else time.time() - self.deployed_at

    # --- the shop and its visitors --------------------------------------------------------------------------

    def open_shop(self) -> None:
        """The old version serves everybody."""
        for instance in self._instances(OLD):
            self._start_instance(instance, Fault())
        upstreams = []
        for version in (OLD, NEW):
            urls = ",".join(f"http://{HOST}:{self._ports[instance]}" for instance in self._instances(version))
            upstreams += ["--upstream", f"{version}={urls}"]
        ports = ["--port", str(self.front_port), "--admin-port", str(self.front_admin_port)]
        state = ["--state", str(self.folder / "weights.json")]
        self.processes.start("front", ["-m", "watchdog.demo.front", *ports, *upstreams, *state])
        for instance in self._instances(OLD):
            self._wait_answers(self._metrics_ports[instance], "/metrics", instance)
        self._wait_answers(self.front_admin_port, "/weights", "front")
        visit = ["--front", f"http://{HOST}:{self.front_port}", "--rate", str(self._rate)]
        self.processes.start("visitors", ["-m", "watchdog.demo.visitors", *visit])

    def _start_instance(self, instance: str, fault: Fault) -> None:
        ports = ["--port", str(self._ports[instance]), "--metrics-port", str(self._metrics_ports[instance])]
        given = ["--version", INSTANCES[instance], "--db", str(self.folder / "orders.db"), *ports]
        self.processes.start(instance, ["-m", "watchdog.demo.shop", *given, "--fault", render_fault(fault)])

    def turn(self, turn: Turn) -> None:
        """Let something happen to running instances."""
        for version in turn.versions:
            for instance in self._instances(version):
                status, answer = call("PUT", self._metrics_ports[instance], "/-/fault", dict(turn.changes))
                if status != 200:
                    raise RuntimeError(f"{instance} refuses {turn.changes}: {answer}")

    def _instances(self, version: str) -> list[str]:
        return [instance for instance, its in INSTANCES.items() if its == version]

    # --- the daemon -----------------------------------------------------------------------------------------

    def start_daemon(self, env: Mapping[str, str] | None = None) -> None:
        """The real one, as an operator starts it; again after a kill, over the same ledger."""
        config = self.folder / "config.toml"
        if not config.exists():
            config.write_text(self._config())
        told = {settings.TOKEN_ENV: self._token, **(env or {})}
        if self.slack_desk is not None:
            told[settings.SLACK_TOKEN_ENV] = "xoxb-nobody-reads-this"
        self.processes.start("daemon", ["-m", "watchdog", "run", "--config", str(config)], env=told)
        self._wait_answers(self.daemon_port, "/-/ready", "daemon")

    def _config(self) -> str:
        slack = settings.Slack(channel=os.environ.get("SLACK_CHANNEL", "#deploys"))
        if self.slack_desk is not None:
            slack = settings.Slack(channel="#deploys", base_url=self.slack_desk.base_url)
        targets = settings.Targets(metrics=INSTANCES, ports=self._metrics_ports, front_admin=self.front_admin_port)
        return settings.render(self.scenario, targets, daemon_port=self.daemon_port, slack=slack, effects=self.effects)

    def ask_daemon(self, method: str, path: str, body: object = None, *, timeout_s: float = 20.0) -> tuple[int, Any]:
        """One request to the daemon's API, with the token that CI has."""
        headers = {"Authorization": f"Bearer {self._token}"}
        return call(method, self.daemon_port, path, body, headers=headers, timeout_s=timeout_s)

    def watch(self) -> dict[str, Any] | None:
        """The deploy's watch as the API tells it; None while the daemon cannot answer."""
        try:
            status, answer = self.ask_daemon("GET", f"/api/v1/deploys/{self.deploy_id}", timeout_s=3.0)
        except OSError:
            return None
        return answer if status == 200 else None

    # --- the deploy -----------------------------------------------------------------------------------------

    def deploy(self) -> None:
        """What CI does: start the new version, give it its traffic, tell the watchdog."""
        for instance in self._instances(NEW):
            self._start_instance(instance, self.scenario.fault)
            if not self.scenario.fault.hang:
                self._wait_answers(self._metrics_ports[instance], "/metrics", instance)
        share = round(100 * self.scenario.share)
        self.deployed_at = time.time()
        status, answer = call("POST", self.front_admin_port, "/weights", {OLD: 100 - share, NEW: share})
        if status != 200:
            raise RuntimeError(f"the front refuses the weights: {answer}")
        self.announce()

    def announce(self) -> int:
        """Tell the daemon of the deploy; the same event again is the same deploy."""
        status, answer = self.ask_daemon("POST", "/api/v1/deploys", self._event())
        if status not in (200, 201):
            raise RuntimeError(f"the daemon refuses the deploy with {status}: {answer}")
        return status

    def _event(self) -> dict[str, object]:
        event: dict[str, object] = {
            "id": self.deploy_id,
            "service": settings.SERVICE,
            "version": NEW,
            "previous_version": OLD,
            "strategy": self.scenario.strategy,
            "deployed_at": self.deployed_at,
        }
        if self.scenario.strategy == "canary":
            event["share"] = self.scenario.share
            event["instances"] = {
                arm: [f"{HOST}:{self._metrics_ports[instance]}" for instance in self._instances(version)]
                for arm, version in (("baseline", OLD), ("candidate", NEW))
            }
        return event

    # --- what the front knows -------------------------------------------------------------------------------

    def front_counts(self) -> dict[str, dict[str, Any]]:
        """Per version, what visitors really got."""
        counts: dict[str, dict[str, Any]] = call("GET", self.front_admin_port, "/stats")[1]["versions"]
        return counts

    def front_weights(self) -> dict[str, Any]:
        """The weights document, with every change that was made."""
        document: dict[str, Any] = call("GET", self.front_admin_port, "/weights")[1]
        return document

    def _wait_answers(self, port: int, path: str, who: str) -> None:
        def answered() -> bool:
            if not self.processes.alive(who):
                raise EndedEarlyError(f"{who} ended before it answered; its last words are in {who}.log")
            return answers(port, path)

        wait_for(answered, what=f"an answer of {who}", within_s=START_S)
