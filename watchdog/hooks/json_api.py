"""Ask a JSON API within a call's time, for the hooks that set a state there; every way it can fail ends the attempt."""

import json
import ssl
from collections.abc import Mapping
from typing import Any

from watchdog.hooks.wanted_state import HookEndedError, Span, again_later, unclear
from watchdog.ports import HookOutcome
from watchdog.signed_http import NoReplyError, NotSentError, Reply, exchange

MAX_ANSWER_BYTES = 16 * 1024 * 1024  # every ReplicaSet of a service, with what each manager of its fields wrote
_LATER = frozenset({429, 500, 502, 503, 504})


def ask(
    method: str,
    url: str,
    span: Span,
    *,
    headers: Mapping[str, str],
    change: Any = None,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """The answer, whatever its status. What was not sent, or only read, may be tried again; a change may have been
    made where no answer came."""
    told = {"Accept": "application/json", "User-Agent": "deploy-watchdog", **headers}
    body = b"" if change is None else json.dumps(change).encode()
    if body:
        told.setdefault("Content-Type", "application/json")
    try:
        return exchange(
            method, url, headers=told, body=body, deadline_s=span.left(), tls=tls, most_bytes=MAX_ANSWER_BYTES
        )
    except NotSentError as error:
        again_later(f"nothing was sent: {error}")
    except NoReplyError as error:
        if method == "GET":
            again_later(f"no answer: {error}")
        unclear(f"sent, but unanswered: {error}")


def answered(reply: Reply, what: str) -> dict[str, Any]:
    """The object that a 2xx brings, empty where it brings none; else the attempt ends with what was said."""
    try:
        parsed = json.loads(reply.body) if reply.body else {}
    except (ValueError, RecursionError):
        parsed = None
    if 200 <= reply.status < 300 and isinstance(parsed, dict):
        return parsed
    said = parsed.get("message") if isinstance(parsed, dict) else None
    outcome = HookOutcome.RETRY if reply.status in _LATER else HookOutcome.FAILED
    raise HookEndedError(outcome, f"{what}: answer {reply.status} {said or ''}".rstrip())
