"""Sender `alertmanager`: alerts of other people's rules about a service that is being watched.

Follows Alertmanager's webhook_config, payload version 4 (prometheus.io: "Alerting: Configuration"). What an alert may
and may not do to a deploy: docs/adr/0013-alerts-are-notes.md.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from watchdog.clean_text import clean
from watchdog.senders.naming import SenderOptions, Told, UnixTime
from watchdog.sending import Alert, AlertsTold, Arrived, Heard, Unrelated

OUR_LABEL = "deploy"  # the sink `alertmanager` sets it on every alert: our own are no news
NAME_CHARS, SUMMARY_CHARS = 120, 300


class AlertmanagerSenderOptions(SenderOptions):
    """What config.toml may say about it. Alertmanager sends a token of [auth] (http_config.authorization)."""

    service_label: str = Field("service", min_length=1, description="Label of an alert that names the service.")
    environment_label: str = Field("", description="Label of an alert that names the environment; default: any.")


class _Alert(Told):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = Field(default_factory=dict)
    startsAt: UnixTime  # noqa: N815 (its name there)
    fingerprint: str = Field(min_length=1, max_length=64)


class _Webhook(Told):
    version: Literal["4"]
    alerts: tuple[_Alert, ...] = Field(max_length=2000)


class AlertmanagerSender:
    """Takes the alerts of known services out of a notification; silent about those that we sent ourselves."""

    kind: ClassVar[str] = "alertmanager"
    hooks: ClassVar[frozenset[str]] = frozenset()
    content_types: ClassVar[frozenset[str]] = frozenset({"application/json"})

    Options: ClassVar[type[BaseModel]] = AlertmanagerSenderOptions

    def __init__(self, name: str, options: AlertmanagerSenderOptions, env: Mapping[str, str]) -> None:  # noqa: ARG002
        self.name = name
        self._options = options

    def is_genuine(self, headers: Mapping[str, str], body: bytes, *, now: float) -> bool | None:  # noqa: ARG002
        return None

    def read(self, arrived: Arrived) -> Heard:
        told = arrived.typed(_Webhook).alerts
        label = self._options.service_label
        ours = tuple(self._alert(alert) for alert in told if label in alert.labels and OUR_LABEL not in alert.labels)
        if not ours:
            return Unrelated(why=f"none of {len(told)} alerts has a label {label!r}, or they came from here")
        return AlertsTold(alerts=ours, unrelated=len(told) - len(ours))

    def _alert(self, alert: _Alert) -> Alert:
        place = alert.labels.get(self._options.environment_label) if self._options.environment_label else None
        return Alert(
            key=alert.fingerprint,
            name=clean(alert.labels.get("alertname", "an alert without a name"))[:NAME_CHARS],
            service=self._options.service(alert.labels[self._options.service_label]),
            environment=self._options.environment(place),
            starts_at=alert.startsAt,
            is_firing=alert.status == "firing",
            summary=clean(alert.annotations.get("summary", ""))[:SUMMARY_CHARS],
        )
