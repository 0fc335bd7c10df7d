"""The demo's world: shop, front and visitors as processes, the real daemon beside them, and nobody left at the end."""

import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from watchdog.demo import settings
from watchdog.demo.faults import Fault, render_fault
from watchdog.demo.orders import CENTS, TOTAL_CENTS
from watchdog.demo.processes import Processes, free_ports
from watchdog.demo.roll_out import RollOut
from watchdog.demo.scenario import NEW, OLD, Actor, Scenario, Turn
from watchdog.demo.serving import HOST
from watchdog.demo.slack_desk import SlackDesk
from watchdog.demo.talk import answers, call, wait_for

START_S = 60.0  # a busy machine imports slowly


class EndedEarlyError(RuntimeError):
    """One of the world's processes ended before it answered."""


class World:
    """Starts what a scenario needs and drives it as CI and fate would; a context manager that always cleans up."""

    def __init__(self, scenario: Scenario, folder: Path, *, keep: bool) -> None:
        self.scenario = scenario
        self.folder = folder
        self.effects = folder / "effects.jsonl"
        self.deploy_id = f"demo-{scenario.name}"
        self.deployed_at: float | None = None
        self._token = secrets.token_hex(16)
        instances = scenario.instances
        ports = free_ports(5 + 2 * len(instances))
        self.front_port, self.front_admin_port, self.daemon_port, self._visitors_port, self._payments_port = ports[:5]
        self._ports = dict(zip(instances, ports[5::2], strict=True))
        self._metrics_ports = dict(zip(instances, ports[6::2], strict=True))
        self._roll_out = RollOut(self.front_admin_port)
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
        if self.scenario.payments:
            self.processes.start("payments", ["-m", "watchdog.demo.payments", "--port", str(self._payments_port)])
        old = self.scenario.of_version(OLD)
        for instance in old:
            self._start_instance(instance)
        upstreams = [part for version in (OLD, NEW) for part in self._upstreams(version)]
        ports = ["--port", str(self.front_port), "--admin-port", str(self.front_admin_port)]
        state = ["--state", str(self.folder / "weights.json")]
        self.processes.start("front", ["-m", "watchdog.demo.front", *ports, *upstreams, *state])
        for instance in old:
            self._wait_answers(self._metrics_ports[instance], "/metrics", instance)
        self._wait_answers(self.front_admin_port, "/weights", "front")
        visit = ["--front", f"http://{HOST}:{self.front_port}", "--rate", str(self.scenario.rate)]
        visit += ["--admin-port", str(self._visitors_port), "--mix", json.dumps(self.scenario.mix)]
        self.processes.start("visitors", ["-m", "watchdog.demo.visitors", *visit])

    def _upstreams(self, version: str) -> list[str]:
        """What the front knows of a version: all its servers together, or each by itself where they are replaced."""
        urls = {name: f"http://{HOST}:{self._ports[name]}" for name in self.scenario.of_version(version)}
        if self.scenario.strategy == "rolling":
            return [word for name, url in urls.items() for word in ("--upstream", f"{name.replace('-', '/')}={url}")]
        return ["--upstream", f"{version}={','.join(urls.values())}"]

    def _start_instance(self, instance: str) -> None:
        scenario = self.scenario
        version = scenario.instances[instance]
        fault = scenario.usual
        if version != OLD and scenario.fault != Fault():
            fault = scenario.fault
        fault = scenario.server_faults.get(instance, fault)
        given = ["--version", version or OLD, "--db", str(self.folder / "orders.db")]
        given += ["--port", str(self._ports[instance]), "--metrics-port", str(self._metrics_ports[instance])]
        if not version:
            given += ["--variations", f"{OLD},{NEW}"]
        if scenario.migrates == "rename":
            given += ["--column", TOTAL_CENTS if version == NEW else CENTS]
        if scenario.payments:
            given += ["--payments", f"http://{HOST}:{self._payments_port}"]
        self.processes.start(instance, ["-m", "watchdog.demo.shop", *given, "--fault", render_fault(fault)])

    def turn(self, turn: Turn) -> str:
        """Let something happen; returns what to say of it."""
        if turn.actor is Actor.ROLL_OUT:
            done = self._update(str(turn.changes["server"]))
            return turn.says if done else "the roll-out was stopped: no further server gets v2"
        admins = {
            Actor.SHOP: [
                (self._metrics_ports[name], "/-/fault") for v in turn.versions for name in self.scenario.of_version(v)
            ],
            Actor.VISITORS: [(self._visitors_port, "/-/visits")],
            Actor.FRONT: [(self.front_admin_port, "/skew")],
            Actor.PAYMENTS: [(self._payments_port, "/-/fault")],
        }
        for port, path in admins[turn.actor]:
            status, answer = call("PUT", port, path, dict(turn.changes))
            if status != 200:
                raise RuntimeError(f"{turn.actor.value} refuses {turn.changes}: {answer}")
        return turn.says

    def _update(self, server: str) -> bool:
        """The next server of a roll-out, unless that was stopped or undone; the old process stands by meanwhile."""
        if not self._roll_out.may_go_on():
            return False
        self._start_instance(f"{NEW}-{server}")
        self._wait_answers(self._metrics_ports[f"{NEW}-{server}"], "/metrics", f"{NEW}-{server}")
        self.deployed_at = self.deployed_at or time.time()
        return self._roll_out.update(server)

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
        targets = settings.Targets(
            metrics=self.scenario.instances, ports=self._metrics_ports, front_admin=self.front_admin_port
        )
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
        """What CI does: start the new version, migrate, give it its traffic, tell the watchdog."""
        if self.scenario.strategy == "rolling":
            self._migrate()
            self._update("a")
        else:
            for instance, version in self.scenario.instances.items():
                if version == NEW:
                    self._start_instance(instance)
                    if not self.scenario.fault.hang:
                        self._wait_answers(self._metrics_ports[instance], "/metrics", instance)
            if self.scenario.strategy == "flag":
                self.turn(Turn(after_s=0.0, says="", versions=(NEW,), changes=asdict(self.scenario.fault)))
            self._migrate()
            self.deployed_at = time.time()
            if not self.scenario.switched:
                self._give_traffic()
        self.announce()

    def _give_traffic(self) -> None:
        share = round(100 * self.scenario.share)
        status, answer = call("POST", self.front_admin_port, "/weights", {OLD: 100 - share, NEW: share})
        if status != 200:
            raise RuntimeError(f"the front refuses the weights: {answer}")

    def _migrate(self) -> None:
        """The deploy's migration: a quick one is waited for, a long one runs on."""
        if not self.scenario.migrates:
            return
        argv = ["-m", "watchdog.demo.migration", "--db", str(self.folder / "orders.db"), self.scenario.migrates]
        self.processes.start("migration", argv)
        if self.scenario.migrates != "lock":
            wait_for(lambda: not self.processes.alive("migration"), what="the migration", within_s=START_S)

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
        if self.scenario.migration != "none":
            event["migration"] = self.scenario.migration
        if self.scenario.strategy in ("canary", "flag"):
            event["share"] = self.scenario.share
        if self.scenario.strategy == "canary":
            event["instances"] = {
                arm: [f"{HOST}:{self._metrics_ports[instance]}" for instance in self.scenario.of_version(version)]
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
