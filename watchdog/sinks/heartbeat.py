"""Sink `heartbeat`: a sign of life for a dead-man's switch, which tells people when it stops coming.

It takes no messages: whoever watches over the daemon must not depend on it. The daemon gives the sign only while its
ticks end and its ledger can be used, so a process that hangs is as silent as one that is gone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from watchdog.config import read_secret
from watchdog.errors import ConfigError, Problem
from watchdog.ports import Clock, Delivery
from watchdog.signed_http import OptionalAddress, check_url
from watchdog.sinks.json_http import as_json, ask


class HeartbeatOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: OptionalAddress = Field("", description="Where to POST, https://… Redirects are not followed.")
    url_env: str = Field("", description="Variable with the address, where knowing it is enough to give the sign.")
    url_file: str = Field("", description="File with the address.")
    every_s: float = Field(60.0, ge=1, le=3600, description="Seconds between two signs of life.")
    timeout_s: float = Field(5.0, gt=0, le=60, description="Deadline from name lookup to the whole answer.")

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if sum(map(bool, (self.url, self.url_env, self.url_file))) != 1:
            raise ValueError("expected exactly one of url, url_env and url_file")
        return self


class HeartbeatSink:
    """One small POST now and then; any 2xx is an ear that listens."""

    kind: ClassVar[str] = "heartbeat"

    Options: ClassVar[type[BaseModel]] = HeartbeatOptions

    def __init__(self, name: str, options: HeartbeatOptions, clock: Clock, env: Mapping[str, str]) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        self._url = options.url
        if not self._url:
            secret = read_secret(options.url_env, options.url_file, env, Path())
            try:
                self._url = check_url(secret.get_secret_value() if secret is not None else "")
            except ValueError:  # what it is stays unsaid: it may be a secret
                wanted = "what url_env or url_file names is no address; expected https://host/path"
                raise ConfigError([Problem("", None, f"sinks.{name}.url", wanted)]) from None

    @property
    def every_s(self) -> float:
        return self._options.every_s

    def beat(self, facts: Mapping[str, object]) -> None:
        headers = {"Content-Type": "application/json"}
        ask(f"heartbeat {self.name}", self._clock, "POST", self._url, headers=headers, body=as_json(dict(facts)),
            deadline_s=self._options.timeout_s)  # fmt: skip

    def send(self, delivery: Delivery) -> Mapping[str, str]:  # noqa: ARG002
        return {}
