"""Hook `http`: a signed POST to an address of yours.

| what happened                                         | outcome     |
|-------------------------------------------------------|-------------|
| 2xx (202 too: verification waits for the effect)      | OK          |
| 425, 429, 503 with Retry-After: it did nothing yet    | RETRY       |
| 502, 503, 504, connection lost, late: nobody knows    | TIMED_OUT   |
| name, connection or TLS failed: nothing was sent      | NOT_STARTED |
| anything else, 409 and 412 (fenced off) and 3xx too   | FAILED      |
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlencode, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from watchdog.config import read_secret
from watchdog.errors import ConfigError, Problem
from watchdog.hooks.document import encode, fields
from watchdog.hooks.process import printable
from watchdog.ports import Clock, HookCall, HookOutcome, HookResult, ProbeAnswer
from watchdog.signed_http import NoReplyError, NotSentError, OptionalAddress, Reply, exchange, signature, signer

NOT_YET = frozenset({425, 429})
NOBODY_KNOWS = frozenset({502, 503, 504})  # a proxy says so too where a request had gone through


class HttpOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: OptionalAddress = Field(description="Where to POST the action, https://… Redirects are not followed.")
    probe_url: OptionalAddress = Field(
        "",
        description="Where to GET whether the action is in effect; its fields are added to the query. Expected "
        '200 and {"state": "applied" | "not_applied" | "partial" | "moved_on"}. Empty: no probe.',
    )
    secret_env: str = Field("", description="Variable with the Standard Webhooks secret (whsec_…) to sign with.")
    secret_file: str = Field("", description="File with that secret.")
    timeout_s: float = Field(30.0, gt=0, le=3600, description="Deadline from name lookup to the whole answer.")
    probe_timeout_s: float = Field(10.0, gt=0, le=600, description="The same for the probe.")
    idempotent: bool = Field(
        False, description="True only if the receiver honours Idempotency-Key; allows blind retries."
    )

    @field_validator("url")
    @classmethod
    def _is_given(cls, value: str) -> str:
        if not value:
            raise ValueError("expected https://host/path")
        return value


class HttpHook:
    """POSTs the action as JSON with `Idempotency-Key: <action id>`; asks `probe_url` whether it took effect."""

    kind: ClassVar[str] = "http"

    Options: ClassVar[type[BaseModel]] = HttpOptions

    def __init__(
        self,
        name: str,
        options: HttpOptions,
        clock: Clock,
        env: Mapping[str, str],
        state_dir: Path,  # noqa: ARG002
    ) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        try:
            self._key = signer(read_secret(options.secret_env, options.secret_file, env, Path()))
        except ValueError as error:
            raise ConfigError([Problem("", None, f"hooks.{name}.secret", f"{error}, expected whsec_…")]) from None

    @property
    def has_probe(self) -> bool:
        return bool(self._options.probe_url)

    @property
    def acts_elsewhere(self) -> bool:
        return True

    @property
    def idempotent(self) -> bool:
        return self._options.idempotent

    @property
    def timeout_s(self) -> float:
        return self._options.timeout_s

    def run(self, call: HookCall) -> HookResult:
        began = self._clock.monotonic()
        outcome, status, output = self._post(call)
        return HookResult(outcome=outcome, exit_code=status, output=output, duration_s=self._clock.monotonic() - began)

    def _post(self, call: HookCall) -> tuple[HookOutcome, int | None, str]:
        try:
            reply = self._exchange("POST", self._options.url, call, encode(call), self._options.timeout_s)
        except NotSentError as error:
            return HookOutcome.NOT_STARTED, None, f"nothing was sent: {error}"
        except NoReplyError as error:
            return HookOutcome.TIMED_OUT, None, f"sent, but unanswered: {error}"
        return _outcome(reply), reply.status, f"HTTP {reply.status}\n{printable(reply.body)}"

    def probe(self, call: HookCall) -> ProbeAnswer:
        if not self._options.probe_url:
            return ProbeAnswer.UNKNOWN
        url = _with_query(self._options.probe_url, fields(call))
        try:
            return _answer(self._exchange("GET", url, call, b"", self._options.probe_timeout_s))
        except (NotSentError, NoReplyError):
            return ProbeAnswer.UNKNOWN

    def still_running(self, action_id: str) -> bool:  # noqa: ARG002
        """Always False: a request ends with the daemon. What the receiver still does is for the probe to say."""
        return False

    def _exchange(self, method: str, url: str, call: HookCall, body: bytes, deadline_s: float) -> Reply:
        # The key names the action, the message id one attempt: a receiver that refuses replays takes the next one.
        message_id = f"{call.action_id}-{call.attempt}" + ("-probe" if method == "GET" else "")
        headers = {
            "Idempotency-Key": call.action_id,
            "User-Agent": "deploy-watchdog",
            "Accept": "application/json",
            **signature(self._key, message_id=message_id, at=self._clock.now(), body=body),
        }
        if body:
            headers["Content-Type"] = "application/json"
        return exchange(method, url, headers=headers, body=body, deadline_s=deadline_s)


def _outcome(reply: Reply) -> HookOutcome:
    if 200 <= reply.status < 300:
        return HookOutcome.OK
    if reply.status in NOT_YET or (reply.status == 503 and "retry-after" in reply.headers):
        return HookOutcome.RETRY
    return HookOutcome.TIMED_OUT if reply.status in NOBODY_KNOWS else HookOutcome.FAILED


def _with_query(url: str, added: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    query = "&".join(part for part in (parts.query, urlencode(added)) if part)
    return urlunsplit(parts._replace(query=query, fragment=""))


def _answer(reply: Reply) -> ProbeAnswer:
    try:
        return ProbeAnswer(json.loads(reply.body)["state"]) if reply.status == 200 else ProbeAnswer.UNKNOWN
    except (ValueError, KeyError, TypeError, RecursionError):  # every way an answer can be something else
        return ProbeAnswer.UNKNOWN
