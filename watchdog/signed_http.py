"""One bounded HTTP exchange with a configured address, signed as Standard Webhooks ask.

Shared by the hooks and sinks that speak HTTP. No redirects, no proxies from the environment, no unbounded answers,
and one deadline over all of it: name lookup, connect, TLS, request and answer.
"""

import http.client
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from socket import SHUT_RDWR
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr
from standardwebhooks import Webhook

from watchdog.errors import WatchdogError

MAX_REPLY_BYTES = 64 * 1024
MAX_RETRY_AFTER_S = 3600.0


class NotSentError(WatchdogError):
    """The request never left: name, connection or TLS failed. It surely had no effect."""


class NoReplyError(WatchdogError):
    """The request left and no whole answer came back. Nobody can tell what it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, its body cut at a bound; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def reason(error: Exception) -> str:
    """Why an exchange, or a hook, failed. What cannot be sent at all is not repeated: it may be a secret."""
    return type(error).__name__ if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def check_url(url: str) -> str:
    """Return `url` where it is a plain http(s) address; ValueError says what was expected."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no address; expected https://host/path")
    if parts.username or parts.password:
        raise ValueError("a user or password in the address would end up in logs; sign with secret_env instead")
    _ = parts.port  # raises ValueError where it is not a number
    return url


def _checked(url: str) -> str:
    return check_url(url) if url else url


def _checked_root(url: str) -> str:
    return check_url(url).rstrip("/")


Address = Annotated[str, AfterValidator(check_url)]  # of an option in config.toml
OptionalAddress = Annotated[str, AfterValidator(_checked)]  # or empty
RootAddress = Annotated[str, AfterValidator(_checked_root)]  # paths are appended to it


def signer(secret: SecretStr | None) -> Webhook | None:
    """The Standard Webhooks key of `secret` (`whsec_…`); ValueError where it is none."""
    return None if secret is None else Webhook(secret.get_secret_value())


def signature(key: Webhook | None, *, message_id: str, at: float, body: bytes) -> dict[str, str]:
    """The headers webhook-id, webhook-timestamp and, with a key, webhook-signature."""
    moment = datetime.fromtimestamp(int(at), tz=UTC)
    headers = {"webhook-id": message_id, "webhook-timestamp": str(int(at))}
    if key is not None:
        headers["webhook-signature"] = key.sign(message_id, moment, body.decode())
    return headers


def retry_after_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """How long the receiver asks us to wait: seconds or an HTTP date, at most MAX_RETRY_AFTER_S."""
    asked = headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        return min(float(asked), MAX_RETRY_AFTER_S)
    with suppress(ValueError, OverflowError):
        return min(max(0.0, parsedate_to_datetime(asked).timestamp() - now), MAX_RETRY_AFTER_S)
    return None


def exchange(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes = b"",
    deadline_s: float,
    tls: ssl.SSLContext | None = None,
    most_bytes: int = MAX_REPLY_BYTES,
) -> Reply:
    """Send one request and return its answer within `deadline_s`, its body cut at `most_bytes`.

    tls: whom to trust, where that is not what the system trusts.
    Raises NotSentError where nothing was sent, NoReplyError where something was and no answer came.
    """
    attempt = _Attempt(method, url, headers, body, deadline_s, tls, most_bytes)
    # A thread, because nothing else bounds a slow name server or an answer that drips one byte at a time.
    worker = threading.Thread(target=attempt.run, name="signed-http", daemon=True)
    worker.start()
    worker.join(deadline_s)
    if worker.is_alive():
        attempt.give_up()
    if attempt.reply is None:
        raise attempt.error or NoReplyError("the answer was lost")
    return attempt.reply


class _Attempt:
    """The exchange inside its thread. The lock makes "nothing was sent" stay true once it has been said."""

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        deadline_s: float,
        tls: ssl.SSLContext | None = None,
        most_bytes: int = MAX_REPLY_BYTES,
    ) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, port, timeout=deadline_s, context=tls)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=deadline_s)
        )
        self._most_bytes = most_bytes
        self._method, self._headers, self._body = method, dict(headers), body
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._too_late = f"no answer within {deadline_s:g} s"
        self._lock = threading.Lock()
        self._sent = False
        self.reply: Reply | None = None
        self.error: WatchdogError | None = None

    def run(self) -> None:
        try:
            self._connection.connect()
            if self._may_send():
                self._connection.request(self._method, self._target, self._body or None, self._headers)
                self._finish(self._read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            # the socket has the same deadline, and may be the first to say so
            is_late = isinstance(error, TimeoutError) and error.errno is None
            self._fail(self._too_late if is_late else reason(error))
        finally:
            self._connection.close()

    def give_up(self) -> None:
        self._fail(self._too_late)
        if (sock := self._connection.sock) is not None:
            with suppress(OSError):
                sock.shutdown(SHUT_RDWR)  # wakes the thread out of its read

    def _may_send(self) -> bool:
        with self._lock:
            self._sent = self.error is None
            return self._sent

    def _read(self) -> Reply:
        answer = self._connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(status=answer.status, headers=found, body=answer.read(self._most_bytes))

    def _finish(self, reply: Reply) -> None:
        with self._lock:
            if self.error is None:
                self.reply = reply

    def _fail(self, why: str) -> None:
        with self._lock:
            if self.reply is None and self.error is None:
                self.error = NoReplyError(why) if self._sent else NotSentError(why)
