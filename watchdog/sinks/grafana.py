"""Sink `grafana`: each deploy as an annotation that grows into a region, for every dashboard that shows its tags.

Follows Grafana's HTTP API, "Annotations API": GET, POST and PATCH /api/annotations.
"""

from collections.abc import Mapping
from html import escape
from typing import Any, ClassVar, Self
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, model_validator

from watchdog.model import FINAL
from watchdog.ports import Clock, Delivery
from watchdog.signed_http import RootAddress
from watchdog.sinks.json_http import as_json, ask, bearer, page_of, read_json

TAG = "deploy-watchdog"
TEXT_CHARS = 2000
GONE = frozenset({404})


class GrafanaOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: RootAddress = Field(description="Address of Grafana, without /api.")
    token_env: str = Field("", description="Variable with a service account's token (annotations:create, write, read).")
    token_file: str = Field("", description="File with that token.")
    dashboard_uid: str = Field("", description="Only on this dashboard; empty: wherever its tags are asked for.")
    tags: tuple[str, ...] = Field((), description="Further tags of every annotation.")
    timeout_s: float = Field(5.0, gt=0, le=60, description="Deadline for each request.")

    @model_validator(mode="after")
    def _needs_a_token(self) -> Self:
        if not (self.token_env or self.token_file):
            raise ValueError("expected token_env or token_file with a service account's token")
        return self


class GrafanaSink:
    """One annotation a deploy: sought by its tag before it is made, so that a repeated message adds none."""

    kind: ClassVar[str] = "grafana"

    Options: ClassVar[type[BaseModel]] = GrafanaOptions

    def __init__(self, name: str, options: GrafanaOptions, clock: Clock, env: Mapping[str, str]) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            **bearer(options.token_env, options.token_file, env),
        }

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        known = delivery.thread.get("annotation") or self._find(delivery)
        told = self._annotation(delivery)
        if known and self._ask("PATCH", f"/{known}", told, accept=GONE) is not None:
            return {"annotation": known}
        made = self._ask("POST", "", told | self._place(delivery))
        number = made.get("id") if isinstance(made, dict) else None
        return {"annotation": str(number)} if number is not None else {}

    def _find(self, delivery: Delivery) -> str:
        """The annotation that an earlier try made, whose answer was lost."""
        asked = urlencode([("type", "annotation"), ("limit", "1"), ("tags", _own_tag(delivery)), ("tags", TAG)])
        found = self._ask("GET", f"?{asked}", None)
        first = found[0] if isinstance(found, list) and found else None
        return str(first["id"]) if isinstance(first, dict) and "id" in first else ""

    def _annotation(self, delivery: Delivery) -> dict[str, Any]:
        """What changes as the deploy goes on. Grafana shows the text as HTML."""
        deploy, page = delivery.deploy, page_of(delivery.message)
        text = escape(delivery.message.sentence[:TEXT_CHARS])
        tags = [TAG, _own_tag(delivery), f"service:{deploy.service}", f"environment:{deploy.environment}"]
        told: dict[str, Any] = {
            "text": f'{text} <a href="{escape(page)}">open</a>' if page else text,
            "tags": [*tags, f"state:{delivery.state.outcome}", *self._options.tags],
        }
        if delivery.state in FINAL:
            told["timeEnd"] = round(1000 * self._clock.now())
        return told

    def _place(self, delivery: Delivery) -> dict[str, Any]:
        """Where it begins; this never changes."""
        place: dict[str, Any] = {"time": round(1000 * delivery.deploy.deployed_at)}
        return place | ({"dashboardUID": self._options.dashboard_uid} if self._options.dashboard_uid else {})

    def _ask(self, method: str, path: str, told: object, *, accept: frozenset[int] = frozenset()) -> Any:
        """Grafana's answer; None for a status in `accept`."""
        who, url = f"grafana {self.name}", f"{self._options.url}/api/annotations{path}"
        body = b"" if told is None else as_json(told)
        reply = ask(who, self._clock, method, url, headers=self._headers, body=body,
                    deadline_s=self._options.timeout_s, accept=accept)  # fmt: skip
        return None if reply.status in accept else read_json(who, reply)


def _own_tag(delivery: Delivery) -> str:
    return f"deploy:{delivery.deploy.id}"
