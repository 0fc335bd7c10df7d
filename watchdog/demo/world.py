"""The demo's world: shop, front and visitors as processes, the real daemon beside them, and nobody left at the end."""

import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from watchdog.demo import settings
from watchdog.demo.kiosk import Kiosk
from watchdog.demo.processes import Processes, free_ports
from watchdog.demo.scenario import NEW, OLD, Scenario, Turn
from watchdog.demo.serving import HOST
from watchdog.demo.slack_desk import SlackDesk
from watchdog.demo.street import START_S, Street, wait_answers
from watchdog.demo.talk import call, wait_for

DECISION = "decision."  # how the events of an audit begin that a look brought about
KIOSK_FIRST_S = 1.0  # the kiosk's looks come a little before the shop's


def decision_sentences(audit: Iterable[Mapping[str, Any]]) -> dict[tuple[float, str], str]:
    """`WATCHING → INTENT: errors 4.9 % vs 1.0 % …; going back to v1`, by time and event."""
    found = {}
    for entry in audit:
        sentence = (entry["details"] or {}).get("sentence")
        if sentence and str(entry["event"]).startswith(DECISION):
            turn = f"{entry['before']} → {entry['after']}: " if entry["before"] != entry["after"] else ""
            why = f"; {entry['why']}" if entry["why"] else ""
            found[float(entry["at"]), str(entry["event"])] = f"{turn}{sentence}{why}"
    return found


class World:
    """Starts what a scenario needs and drives it as CI and fate would; a context manager that always cleans up."""

    def __init__(self, scenario: Scenario, folder: Path, *, keep: bool) -> None:
        self.scenario = scenario
        self.folder = folder
        self.effects = folder / "effects.jsonl"
        self.deploy_id = f"demo-{scenario.name}"
        self.deployed_at: float | None = None
        self.counts_before: dict[str, dict[str, Any]] = {}  # the front's, when the new version got its first traffic
        self.token = secrets.token_hex(16)
        self.slack_desk = SlackDesk() if not os.environ.get(settings.SLACK_TOKEN_ENV) else None
        self.processes = Processes(folder, remove=not keep)
        self.daemon_port = free_ports(1)[0]
        self._street = Street(scenario, folder, self.processes)
        self.front_port, self.front_admin_port = self._street.front_port, self._street.front_admin_port
        self._kiosk = Kiosk(folder, self.processes, payments=self._street.payments_url) if scenario.payments else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.processes.close()
        if self.slack_desk is not None:
            self.slack_desk.close()

    @property
    def page(self) -> str:
        """Where the deploy's page is while the daemon runs."""
        return f"http://{HOST}:{self.daemon_port}/deploys/{self.deploy_id}"

    @property
    def since_deploy_s(self) -> float:
        return 0.0 if self.deployed_at is None else time.time() - self.deployed_at

    # --- the shop and its visitors --------------------------------------------------------------------------

    def open_shop(self) -> None:
        """The old version serves everybody."""
        self._street.open()
        if self._kiosk is not None:
            self._kiosk.open()

    def turn(self, turn: Turn) -> str:
        """Let something happen; returns what to say of it."""
        return self._street.turn(turn)

    # --- the daemon -----------------------------------------------------------------------------------------

    def start_daemon(self, env: Mapping[str, str] | None = None) -> None:
        """The real one, as an operator starts it; again after a kill, over the same ledger."""
        config = self.folder / "config.toml"
        if not config.exists():
            config.write_text(self._config())
        told = {settings.TOKEN_ENV: self.token, **(env or {})}
        if self.slack_desk is not None:
            told[settings.SLACK_TOKEN_ENV] = "xoxb-nobody-reads-this"
        self.processes.start("daemon", ["-m", "watchdog", "run", "--config", str(config)], env=told)
        wait_answers(self.processes, self.daemon_port, "/-/ready", "daemon")

    def _config(self) -> str:
        slack = settings.Slack(channel=os.environ.get("SLACK_CHANNEL", "#deploys"))
        if self.slack_desk is not None:
            slack = settings.Slack(channel="#deploys", base_url=self.slack_desk.base_url)
        targets = settings.Targets(
            metrics=self.scenario.instances, ports=self._street.metrics_ports, front_admin=self.front_admin_port
        )
        text = settings.render(self.scenario, targets, daemon_port=self.daemon_port, slack=slack, effects=self.effects)
        if self._kiosk is not None:
            text += self._kiosk.config(look_s=self.scenario.rhythm_s, watch_s=self.scenario.watch_s)
        return text

    def ask_daemon(self, method: str, path: str, body: object = None, *, timeout_s: float = 20.0) -> tuple[int, Any]:
        """One request to the daemon's API, with the token that CI has."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return call(method, self.daemon_port, path, body, headers=headers, timeout_s=timeout_s)

    def watch(self) -> dict[str, Any] | None:
        """The deploy's watch as the API tells it; None while the daemon cannot answer."""
        try:
            status, answer = self.ask_daemon("GET", f"/api/v1/deploys/{self.deploy_id}", timeout_s=3.0)
        except OSError:
            return None
        return answer if status == 200 else None

    def decisions(self) -> dict[tuple[float, str], str]:
        """The sentence of each look that decided something, by its time and event in the audit."""
        try:
            status, answer = self.ask_daemon("GET", f"/api/v1/deploys/{self.deploy_id}/audit", timeout_s=3.0)
        except OSError:
            return {}
        return decision_sentences(answer["audit"]) if status == 200 else {}

    # --- the deploy -----------------------------------------------------------------------------------------

    def deploy(self) -> None:
        """What CI does: start the new version, migrate, give it its traffic, tell the watchdog."""
        rolling = self.scenario.strategy == "rolling"
        self._street.start_new(first_only=rolling)
        self._migrate()
        if self._kiosk is not None:
            self._announce(self._kiosk.deploy(time.time()))
            time.sleep(KIOSK_FIRST_S)
        self.counts_before = self.front_counts()
        self.deployed_at = time.time()
        if rolling:
            self._street.roll_out.update("a")
        elif not self.scenario.switched:
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
        return self._announce(self._event())

    def _announce(self, event: dict[str, object]) -> int:
        status, answer = self.ask_daemon("POST", "/api/v1/deploys", event)
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
                arm: [f"{HOST}:{self._street.metrics_ports[name]}" for name in self.scenario.of_version(version)]
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
