"""Talks to a running daemon's API."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from watchdog.errors import WatchdogError

if TYPE_CHECKING:
    from requests import PreparedRequest, Response

TOKEN_VARIABLE = "DEPLOY_WATCHDOG_TOKEN"  # noqa: S105 - the name of the variable
_ANOTHER_TOKEN = (
    f"The daemon knows no such token: compare {TOKEN_VARIABLE} or --token-file with [[auth.tokens]] of its config.toml"
)
# Only ids that the daemon gave may be shortened: `shop-12` must never mean somebody's `shop-123`.
_GIVEN = re.compile(r"[0-9a-f]{20}|key-[0-9a-f]{24}")
_BEGINNING = re.compile(r"[0-9a-f]{6,19}|key-[0-9a-f]{6,23}")
LOOKED_AT = 500  # newest deploys that a shortened id may mean
_CONNECT_S = 5.0
_ANSWER_S = 30.0


class ClientError(WatchdogError):
    """The daemon could not be asked, or refused. The message says what to do about it."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message, permanent=status is not None)
        self.status = status


class Answer(dict[str, Any]):
    """A JSON object from the daemon, and how long the daemon took to give it."""

    took_s: float = 0.0


class ApiClient:
    """The API as methods. The token travels in a header only, and never to another address."""

    def __init__(self, url: str, token: str | None) -> None:
        import requests

        self._base = _checked_url(url)
        self._token = token
        self._session = requests.Session()
        self._session.auth = self._authorize  # with an auth of its own, requests leaves ~/.netrc alone
        if urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1"):
            self._session.trust_env = False  # no proxy stands between us and this machine

    @classmethod
    def connect(cls, url: str, token_file: Path | None) -> "ApiClient":
        """Return a client with the token of the file or of the environment, if there is one."""
        return cls(url, _token(token_file))

    def get(self, path: str, *, wait_s: float = 0.0, **params: str | float | None) -> Answer:
        return self._ask("GET", path, params={**params, "wait": wait_s or None}, answer_s=_ANSWER_S + wait_s)

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        return self._ask("POST", path, json=body)

    def whole(self, deploy_id: str) -> str:
        """Return the id that a beginning of six signs or more stands for; any other id as it is (ClientError)."""
        if _BEGINNING.fullmatch(deploy_id) is None:
            return deploy_id
        try:
            newest = self.get("/api/v1/deploys", limit=LOOKED_AT).get("deploys", [])
        except ClientError as error:
            if error.status == 403:  # whoever may decide need not be able to read
                return deploy_id
            raise
        meant = completed(deploy_id, (str(watch.get("id")) for watch in newest))
        return deploy_id if meant != deploy_id and self._is_known(deploy_id) else meant

    def _is_known(self, deploy_id: str) -> bool:
        try:
            self.get(deploy_path(deploy_id))
        except ClientError as error:
            if error.status == 404:
                return False
            raise
        return True

    def _ask(self, method: str, path: str, *, answer_s: float = _ANSWER_S, **request: Any) -> Answer:
        import requests

        try:
            response = self._session.request(
                method, self._base + path, timeout=(_CONNECT_S, answer_s), allow_redirects=False, **request
            )
        except requests.Timeout:
            raise ClientError(f"{self._base} did not answer in time; is the daemon well? see its log") from None
        except (requests.RequestException, ValueError) as error:
            raise ClientError(
                f"cannot reach the daemon at {self._base} ({_reason(error)}); start it with `deploy-watchdog run`, "
                "or name its address by --url or DEPLOY_WATCHDOG_URL"
            ) from None
        return self._read(response)

    def _read(self, response: "Response") -> Answer:
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ClientError(
                f"{self._base} answered {response.status_code} with something that is not this API; check --url"
            )
        if response.status_code >= 400:
            is_event = response.request.method == "POST" and str(response.url).endswith("/api/v1/deploys")
            told = _refusal(response.status_code, body, sent_token=bool(self._token), is_event=is_event)
            raise ClientError(told, status=response.status_code)
        answer = Answer(body)
        answer.took_s = response.elapsed.total_seconds()
        return answer

    def _authorize(self, request: "PreparedRequest") -> "PreparedRequest":
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def deploy_path(deploy_id: str, verb: str = "") -> str:
    """Return the path of one deploy; an id may hold any sign, and must stay one segment of the path."""
    if deploy_id.strip(".") == "":
        raise ClientError(f"{deploy_id!r} is no deploy id; `deploy-watchdog list` shows them")
    path = f"/api/v1/deploys/{quote(deploy_id, safe='')}"
    return f"{path}/{verb}" if verb else path


def completed(beginning: str, known: Iterable[str]) -> str:
    """Return the one id given by the daemon that begins so; without one the text as it is (ClientError: several)."""
    if _BEGINNING.fullmatch(beginning) is None:
        return beginning
    ids = set(known)
    meant = sorted(one for one in ids if one.startswith(beginning) and _GIVEN.fullmatch(one))
    if beginning in ids or not meant:
        return beginning
    if len(meant) > 1:
        raise ClientError(f"{beginning!r} may be any of {', '.join(meant)}; give more of its signs")
    return meant[0]


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right or parts.username or parts.password:
        raise ClientError(f"--url {url!r} is no address of a daemon; expected one such as http://127.0.0.1:8811")
    return url.rstrip("/")


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    from watchdog.config import read_secret
    from watchdog.errors import ConfigError

    try:
        secret = read_secret("", str(file), {}, Path())
    except ConfigError as error:
        raise ClientError(f"--token-file: {error.problems[0].message}") from None
    return secret.get_secret_value() if secret is not None else None


def _refusal(status: int, body: Mapping[str, Any], *, sent_token: bool, is_event: bool) -> str:
    error = body.get("error")
    if not isinstance(error, dict):
        return f"the daemon refused with status {status}; see its log"
    message = str(error.get("message", f"status {status}"))
    remedy = str(error.get("remedy", "")).rstrip(".")
    if status == 401:
        remedy = _ANOTHER_TOKEN if sent_token else f"Set {TOKEN_VARIABLE}, or give --token-file"
    if "/openapi.json" in remedy:  # for those who write requests by hand
        command = " trigger" if is_event else ""
        remedy = f"See `deploy-watchdog{command} --help`" if status == 422 else "Check --url"
    end = "" if message.endswith((".", "?")) else "."
    return f"{message}{end} {remedy}" if remedy else message.rstrip(".")


def _reason(error: Exception) -> str:
    """Return the operating system's own words, out of the layers that requests wraps around them."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = getattr(inner, "reason", None) or inner.__cause__ or inner.__context__
    return type(error).__name__
