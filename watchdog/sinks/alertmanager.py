"""Sink `alertmanager`: an alert while a deploy needs somebody, resolved when it no longer does.

Follows the Alertmanager's API v2 (api/v2/openapi.yaml of prometheus/alertmanager: POST /alerts, postableAlerts).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from watchdog.model import Severity, State
from watchdog.ports import Clock, Delivery
from watchdog.signed_http import RootAddress
from watchdog.sinks.json_http import as_json, ask, bearer, page_of, rfc3339

ALERTS: Mapping[State, str] = {
    State.HELD: "DeployHeld",
    State.FAILED: "DeployRollbackFailed",
    State.UNKNOWN: "DeployRollbackUnknown",
    State.NOT_RECOVERED: "DeployNotRecovered",
}
SEVERITIES = {Severity.PAGE: "critical", Severity.WARNING: "warning"}  # anything milder is no alert
SUMMARY_CHARS = 1000


class AlertmanagerOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: RootAddress = Field(description="Address of the Alertmanager, without /api/v2.")
    token_env: str = Field("", description="Variable with a bearer token for it.")
    token_file: str = Field("", description="File with that token.")
    labels: dict[str, str] = Field({}, description="Labels that every alert gets, for routing.")
    keep_s: float = Field(86400.0, ge=300, description="An alert that nobody resolved ends after this many seconds.")
    timeout_s: float = Field(5.0, gt=0, le=60, description="Deadline from name lookup to the whole answer.")


class AlertmanagerSink:
    """What is firing is remembered; the same labels resolve it. Sending twice changes nothing."""

    kind: ClassVar[str] = "alertmanager"

    Options: ClassVar[type[BaseModel]] = AlertmanagerOptions

    def __init__(self, name: str, options: AlertmanagerOptions, clock: Clock, env: Mapping[str, str]) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        self._headers = {"Content-Type": "application/json", **bearer(options.token_env, options.token_file, env)}

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        """Bring the alerts of this deploy in line with where it stands now."""
        now, firing = self._clock.now(), dict(delivery.thread)
        wanted = self._wanted(delivery, now)
        alerts = []
        if firing.get("alert") and firing["alert"] != (wanted or {}).get("alert"):
            alerts.append(self._alert(delivery, firing, ends_at=now))
        if wanted:
            alerts.append(self._alert(delivery, wanted, ends_at=now + self._options.keep_s))
        if alerts:
            ask(f"alertmanager {self.name}", self._clock, "POST", f"{self._options.url}/api/v2/alerts",
                headers=self._headers, body=as_json(alerts), deadline_s=self._options.timeout_s)  # fmt: skip
        return wanted

    def _wanted(self, delivery: Delivery, now: float) -> dict[str, str]:
        """What should be firing; an alert that fires already keeps its labels and its beginning."""
        name, severity = ALERTS.get(delivery.state), SEVERITIES.get(delivery.message.severity)
        if name is not None and delivery.thread.get("alert") == name:
            return dict(delivery.thread)
        return {"alert": name, "severity": severity, "since": rfc3339(now)} if name and severity else {}

    def _alert(self, delivery: Delivery, firing: Mapping[str, str], *, ends_at: float) -> dict[str, Any]:
        deploy = delivery.deploy
        alert = {
            "labels": {
                **self._options.labels,
                "alertname": firing["alert"],
                "severity": firing["severity"],
                "service": deploy.service,
                "environment": deploy.environment,
                "version": deploy.version,
                "deploy": deploy.id,
            },
            "annotations": {"summary": delivery.message.sentence[:SUMMARY_CHARS]},
            "startsAt": firing["since"],
            "endsAt": rfc3339(ends_at),
        }
        page = page_of(delivery.message)
        return alert | ({"generatorURL": page} if page else {})
