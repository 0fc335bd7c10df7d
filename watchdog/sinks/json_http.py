"""Sending JSON over HTTP, as several sinks do: one bounded request, its faults told as SinkError."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from watchdog.config import read_secret
from watchdog.errors import SinkError
from watchdog.model import Message
from watchdog.ports import Clock
from watchdog.signed_http import NoReplyError, NotSentError, Reply, exchange, retry_after_s

# Gone for good, or a body they will never take. 401, 403 and 404 may be mended while we retry.
NEVER = frozenset({400, 410, 413, 422})


def ask(
    who: str,
    clock: Clock,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes = b"",
    deadline_s: float,
    never: frozenset[int] = NEVER,
    accept: frozenset[int] = frozenset(),
) -> Reply:
    """The answer, where it is 2xx or in `accept`; anything else is a SinkError, permanent where it is in `never`."""
    try:
        reply = exchange(
            method, url, headers={"User-Agent": "deploy-watchdog", **headers}, body=body, deadline_s=deadline_s
        )
    except (NotSentError, NoReplyError) as error:
        raise SinkError(f"{who}: {error}") from None
    if 200 <= reply.status < 300 or reply.status in accept:
        return reply
    raise SinkError(
        f"{who}: HTTP {reply.status}",
        permanent=reply.status in never,
        retry_after_s=retry_after_s(reply.headers, now=clock.now()),
    )


def as_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def read_json(who: str, reply: Reply) -> Any:
    """What was answered; a page instead of JSON, as a proxy gives it, is a fault that may pass."""
    try:
        return json.loads(reply.body)
    except ValueError:
        raise SinkError(f"{who}: the answer is not JSON") from None


def bearer(token_env: str, token_file: str, env: Mapping[str, str]) -> dict[str, str]:
    """The header that carries a token, where one is named."""
    token = read_secret(token_env, token_file, env, Path())
    return {"Authorization": f"Bearer {token.get_secret_value()}"} if token is not None else {}


def page_of(message: Message) -> str:
    """The address of the deploy's page; empty where there is none."""
    url = str(message.facts.get("public_url") or "")
    return url if urlsplit(url).scheme in ("http", "https") else ""


def rfc3339(at: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
