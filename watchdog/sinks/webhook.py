"""Sink `webhook`: a signed POST of each message, described by webhook.schema.json beside this file."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from watchdog.config import read_secret
from watchdog.errors import ConfigError, Problem
from watchdog.ports import Clock, Delivery
from watchdog.signed_http import Address, signature, signer
from watchdog.sinks.json_http import ask
from watchdog.sinks.payload import message_id, payload


class WebhookOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Address = Field(description="Where to POST, https://… Redirects are not followed.")
    secret_env: str = Field("", description="Variable with the Standard Webhooks secret (whsec_…) to sign with.")
    secret_file: str = Field("", description="File with that secret.")
    timeout_s: float = Field(5.0, gt=0, le=60, description="Deadline from name lookup to the whole answer.")


class WebhookSink:
    """At least once: the same message keeps its webhook-id, whatever the number of deliveries."""

    kind: ClassVar[str] = "webhook"

    Options: ClassVar[type[BaseModel]] = WebhookOptions

    def __init__(self, name: str, options: WebhookOptions, clock: Clock, env: Mapping[str, str]) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        try:
            self._key = signer(read_secret(options.secret_env, options.secret_file, env, Path()))
        except ValueError as error:
            raise ConfigError([Problem("", None, f"sinks.{name}.secret", f"{error}, expected whsec_…")]) from None

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        now = self._clock.now()
        body = self._body(delivery, now)
        headers = {
            "Content-Type": "application/json",
            **signature(self._key, message_id=message_id(delivery.message), at=now, body=body),
        }
        ask(f"webhook {self.name}", self._clock, "POST", self._options.url, headers=headers, body=body,
            deadline_s=self._options.timeout_s)  # fmt: skip
        return {}

    def _body(self, delivery: Delivery, now: float) -> bytes:
        event = {
            "type": f"deploy.{delivery.message.kind.value}",
            "timestamp": datetime.fromtimestamp(now, tz=UTC).isoformat(),
            "data": payload(delivery),
        }
        return json.dumps(event, separators=(",", ":")).encode()
