"""Sink `slack`: one message per deploy that follows its state, and a thread below it that tells the story."""

import logging
import re
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.error import HTTPError

from pydantic import BaseModel, ConfigDict, Field, model_validator
from slack_sdk import WebClient, WebhookClient
from slack_sdk.errors import SlackApiError, SlackRequestError
from slack_sdk.http_retry import RateLimitErrorRetryHandler, RetryHandler
from slack_sdk.http_retry.builtin_handlers import ConnectionErrorRetryHandler, ServerErrorRetryHandler
from slack_sdk.http_retry.response import HttpResponse

from watchdog.config import read_secret
from watchdog.errors import ConfigError, Problem, SinkError
from watchdog.model import MessageKind, Severity
from watchdog.ports import Clock, Delivery
from watchdog.showing import Picture
from watchdog.signed_http import Address, check_url, reason, retry_after_s
from watchdog.sinks.slack_message import remembered, render, render_reply

TITLE_CHARS, ALT_CHARS = 200, 900  # Slack takes 1000 of the latter
SHORT_WAIT_S = 2  # longer waits belong to the outbox, which holds no thread meanwhile
# The message itself: no retry mends it.
NEVER = frozenset(
    {"invalid_arguments", "invalid_blocks", "invalid_blocks_format", "invalid_payload", "msg_too_long", "no_text"}
)
# The token, the app's rights or the channel: somebody has to mend them, and until then the messages wait.
ACCESS = frozenset(
    {
        "access_denied",
        "account_inactive",
        "action_prohibited",
        "channel_is_archived",
        "channel_not_found",
        "ekm_access_denied",
        "enterprise_is_restricted",
        "invalid_auth",
        "invalid_token",
        "is_archived",
        "missing_scope",
        "no_active_hooks",
        "no_permission",
        "no_service",
        "no_service_id",
        "no_team",
        "not_allowed_token_type",
        "not_authed",
        "not_in_channel",
        "org_login_required",
        "posting_to_general_channel_denied",
        "restricted_action",
        "team_access_not_granted",
        "team_disabled",
        "token_expired",
        "token_revoked",
    }
)
_KNOWN = NEVER | ACCESS
_REMEDY = "mend the token, the app's rights or the channel, then reload (SIGHUP) or restart; until then messages wait"
_WORD = re.compile(r"[a-z0-9_]{1,80}")
PARENT_GONE = frozenset({"message_not_found", "thread_not_found"})
PARENT_FIXED = frozenset({"cant_update_message", "edit_window_closed"})


class _ShortRateLimitHandler(RateLimitErrorRetryHandler):
    """Sits out a short Retry-After; a long or unreadable one goes back to the outbox."""

    def _can_retry(self, *, response: HttpResponse | None = None, **_: Any) -> bool:
        if response is None or response.status_code != 429:
            return False
        asked = next((value[0] for name, value in response.headers.items() if name.lower() == "retry-after"), "")
        return asked.isdigit() and int(asked) <= SHORT_WAIT_S


class SlackOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_env: str = Field("", description="Variable with the bot token (xoxb-…, scopes chat:write and files:write).")
    token_file: str = Field("", description="File with the bot token.")
    channel: str = Field("", description="Channel id (C…) or name for the bot; it must be a member of it.")
    webhook_url_env: str = Field("", description="Instead of a token: variable with an incoming webhook's address.")
    webhook_url_file: str = Field("", description="File with that address.")
    charts: bool = Field(True, description="A picture in the thread for each verdict; needs the extra charts.")
    base_url: Address = Field("https://slack.com/api/", description="Slack's API; another one only for tests.")
    timeout_s: int = Field(5, ge=1, le=30, description="Seconds to wait for Slack per request.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        token = bool(self.token_env or self.token_file)
        if token == bool(self.webhook_url_env or self.webhook_url_file):
            raise ValueError("expected either token_env or token_file (with channel), or webhook_url_env or …_file")
        if token and not self.channel:
            raise ValueError('a bot needs a channel, such as channel = "C0123456789"')
        return self


class SlackSink:
    """A bot token (recommended) edits and threads; an incoming webhook can only post."""

    kind: ClassVar[str] = "slack"

    Options: ClassVar[type[BaseModel]] = SlackOptions

    def __init__(self, name: str, options: SlackOptions, clock: Clock, env: Mapping[str, str]) -> None:
        self.name = name
        self._options = options
        self._clock = clock
        self._may_not_upload = False  # learnt from the first try
        self._client = _client(name, options, env)
        # urllib reads the proxy variables itself and honours no_proxy, which the SDK's own reading does not
        self._client.proxy = None

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        """Post, or edit and thread. Editing comes first because a retry may safely repeat it."""
        if isinstance(self._client, WebhookClient):
            return self._post_one_way(self._client, delivery)
        parent, kept = delivery.thread, remembered(delivery)
        if not (parent.get("channel") and parent.get("ts")) or not self._update(self._client, delivery):
            return {**self._post_parent(self._client, delivery), **kept}
        self._post_reply(self._client, delivery)
        return {**parent, **kept}

    @property
    def wants_pictures(self) -> bool:
        """Only a bot can upload."""
        return self._options.charts and isinstance(self._client, WebClient) and not self._may_not_upload

    def show(self, delivery: Delivery, picture: Picture) -> None:
        """Upload a picture into the thread. Once: no retry can tell whether Slack has shown it already."""
        parent = delivery.thread
        if not isinstance(self._client, WebClient) or not (parent.get("channel") and parent.get("ts")):
            return
        try:
            self._call(
                self._client.files_upload_v2,
                file=picture.png,
                filename="verdict.png",
                title=picture.title[:TITLE_CHARS],
                alt_txt=picture.says[:ALT_CHARS],
                channel=parent["channel"],
                thread_ts=parent["ts"],
            )
        except SlackRequestError:  # the address that Slack gave us would not take it; its text holds that address
            raise SinkError(f"slack {self.name}: the upload was refused") from None
        except SinkError as error:
            self._may_not_upload = "missing_scope" in error.message
            raise

    def _post_parent(self, bot: WebClient, delivery: Delivery) -> Mapping[str, str]:
        shown = render(delivery)
        answer = self._call(
            bot.chat_postMessage,
            channel=self._options.channel,
            text=shown.text,
            blocks=shown.blocks,
            unfurl_links=False,
            unfurl_media=False,
        )
        return {"channel": str(answer["channel"]), "ts": str(answer["ts"])}

    def _update(self, bot: WebClient, delivery: Delivery) -> bool:
        """Bring the parent up to date. False: somebody deleted it."""
        shown, parent = render(delivery), delivery.thread
        answer = self._call(
            bot.chat_update,
            accept=PARENT_GONE | PARENT_FIXED,
            channel=parent["channel"],
            ts=parent["ts"],
            text=shown.text,
            blocks=shown.blocks,
        )
        return answer.get("error") not in PARENT_GONE

    def _post_reply(self, bot: WebClient, delivery: Delivery) -> None:
        shown, parent = render_reply(delivery), delivery.thread
        self._call(
            bot.chat_postMessage,
            channel=parent["channel"],
            thread_ts=parent["ts"],
            reply_broadcast=_concerns_everybody(delivery),
            text=shown.text,
            blocks=shown.blocks,
            unfurl_links=False,
            unfurl_media=False,
        )

    def _call(self, method: Callable[..., Any], *, accept: frozenset[str] = frozenset(), **told: Any) -> dict[str, Any]:
        """Slack's answer as a dict; errors in `accept` are answers too."""
        try:
            return dict(method(**told).data)
        except SlackApiError as error:
            data, status, headers = error.response.data, error.response.status_code, error.response.headers
            answer = data if isinstance(data, dict) else {}
            word = str(answer.get("error", ""))
            if word in accept:
                return answer
            known = _WORD.fullmatch(word) is not None and status == 200  # else it is a page of some proxy
            raise self._failure(word if known or word in _KNOWN else f"HTTP {status}", headers) from None
        except HTTPError as error:  # an upload that was refused
            error.close()
            raise self._failure(f"HTTP {error.code}", {}) from None
        except (OSError, ValueError, HTTPException) as error:  # no answer at all
            raise self._failure(reason(error), {}) from None

    def _post_one_way(self, hook: WebhookClient, delivery: Delivery) -> Mapping[str, str]:
        shown = render(delivery)
        try:
            answer = hook.send(text=shown.text, blocks=shown.blocks, unfurl_links=False, unfurl_media=False)
        except (OSError, ValueError, HTTPException) as error:
            raise self._failure(type(error).__name__, {}) from None  # its text may hold the address, a secret
        if answer.status_code != 200:
            word = answer.body.strip()[:80]
            raise self._failure(word if word in _KNOWN else f"HTTP {answer.status_code}", answer.headers)
        return {}

    def _failure(self, what: str, headers: Mapping[str, Any]) -> SinkError:
        plain = {name.lower(): value[0] if isinstance(value, list) else str(value) for name, value in headers.items()}
        return SinkError(
            f"slack {self.name}: {what}{f'; {_REMEDY}' if what in ACCESS else ''}",
            permanent=what in NEVER,
            retry_after_s=retry_after_s(plain, now=self._clock.now()),
        )


def _concerns_everybody(delivery: Delivery) -> bool:
    """A thread rings nobody: what must be seen now, and an ending that is no good one, go to the channel too."""
    message = delivery.message
    return message.severity is Severity.PAGE or (
        message.kind is MessageKind.ENDED and message.severity is Severity.WARNING
    )


def _client(name: str, options: SlackOptions, env: Mapping[str, str]) -> WebClient | WebhookClient:
    handlers: list[RetryHandler] = [
        ConnectionErrorRetryHandler(),
        _ShortRateLimitHandler(max_retry_count=2),
        ServerErrorRetryHandler(),
    ]
    # The SDK would log every failed try, and at DEBUG the webhook's address; the outbox tells what matters.
    logger = logging.getLogger("watchdog.sinks.slack.sdk")
    logger.setLevel(logging.CRITICAL)
    if url := read_secret(options.webhook_url_env, options.webhook_url_file, env, Path()):
        address = _address(name, url.get_secret_value())
        return WebhookClient(address, timeout=options.timeout_s, logger=logger, retry_handlers=handlers)
    token = read_secret(options.token_env, options.token_file, env, Path())
    return WebClient(
        token.get_secret_value() if token else None,
        base_url=options.base_url,
        timeout=options.timeout_s,
        logger=logger,
        retry_handlers=handlers,
    )


def _address(name: str, url: str) -> str:
    try:
        return check_url(url)
    except ValueError:
        problem = Problem("", None, f"sinks.{name}.webhook_url", "is no address; expected https://hooks.slack.com/…")
        raise ConfigError([problem]) from None
