"""Who is calling, and what they may do. Nothing is allowed that no credential allows.

Four ways in: a bearer token with scopes and services; a browser's session, opened with such a token (see `sessions`);
a Standard Webhooks signature, good for sending deploys only; and, where no credential is configured at all, every
program of this machine, as "loopback" (see `loopback`).

A replayed webhook has no effect, and needs no memory of its own: its id becomes the deploy's (`intake_key`), so the
ledger answers the second copy with the first one's watch. Refusing copies instead would lose the deploy of a sender
that retries after a 503 or a lost answer, and remembering ids would cost a second durable write per event.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NoReturn

from fastapi import Request
from pydantic import SecretStr

from watchdog.config import Scope
from watchdog.errors import ConfigError, Problem
from watchdog.ports import Clock
from watchdog.standard_webhooks import TOLERANCE_S, Check, check, read_key, signed_headers
from watchdog.web.basic import basic_password
from watchdog.web.errors import ApiError
from watchdog.web.loopback import is_ours_alone
from watchdog.web.sessions import COOKIE, name_in, new_session, read_session, seal

MIN_TOKEN_LENGTH = 16
_EVERYTHING = frozenset(Scope)
_WHO = "This needs a valid token or signature."
_LATE = f"The signature is right, but webhook-timestamp is more than {TOLERANCE_S} s away from this daemon's clock."


@dataclass(frozen=True, slots=True)
class Credential:
    """A bearer token, resolved; `services` are globs, `admin` includes every other scope."""

    name: str
    secret: SecretStr
    scopes: frozenset[str]
    services: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who has shown who they are. `actor` is what the audit says."""

    actor: str
    scopes: frozenset[str]
    services: tuple[str, ...] = ("*",)
    webhook_id: str | None = None

    @property
    def serves_all(self) -> bool:
        return "*" in self.services

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def serves(self, service: str) -> bool:
        return any(fnmatchcase(service, glob) for glob in self.services)

    def require(self, scope: Scope) -> None:
        if not self.may(scope):
            raise ApiError(403, f"{self.actor} has no scope {scope.value!r}.")

    def require_service(self, service: str) -> None:
        if not self.serves(service):
            raise ApiError(403, f"{self.actor} may not speak for the service {service!r}.")


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who signed in with a browser; every form they send carries `seal`, which no other site can know."""

    caller: Caller
    seal: str


_LOOPBACK = Caller(actor="loopback", scopes=_EVERYTHING)


class Authenticator:
    """Tells callers apart. Takes resolved secrets; refuses to be built from empty or guessable ones."""

    def __init__(
        self,
        credentials: Sequence[Credential] = (),
        webhook_secrets: Sequence[SecretStr] = (),
        *,
        clock: Clock,
    ) -> None:
        problems = [*map(_token_problem, credentials), *map(_webhook_problem, webhook_secrets)]
        if any(problems):
            raise ConfigError([p for p in problems if p is not None])
        self._tokens = [(_digest(c.secret.get_secret_value()), c) for c in credentials]
        self._keys = [read_key(secret) for secret in webhook_secrets]
        self._clock = clock
        self._is_open = not self._tokens and not self._keys
        self._forms_key = _digest(clock.new_id())

    def by_token(self, request: Request) -> Caller:
        """Identify the caller of an API route."""
        if self._is_open and is_ours_alone(request):
            return _LOOPBACK
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        found = self._token(token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise _unknown("Bearer")
        return found

    def by_token_or_signature(self, request: Request, body: bytes) -> Caller:
        """Identify the sender of a deploy; `body` as it came over the wire."""
        sent = signed_headers(request.headers.raw)
        if sent is None or "authorization" in request.headers:
            return self.by_token(request)
        found = check(sent, body, self._keys, now=self._clock.now())
        if found is Check.STALE:
            raise _unknown("Bearer", _LATE)
        if found is Check.FORGED:
            raise _unknown("Bearer")
        return Caller(actor="webhook", scopes=frozenset({Scope.TRIGGER}), webhook_id=sent.id.decode("ascii"))

    def by_browser(self, request: Request) -> Caller:
        """Identify the reader of a page: by session, or by a token as bearer or as the password of HTTP Basic."""
        session = self.by_session(request)
        if session is not None:
            return session.caller
        return self.by_token_or_basic(request)

    def by_token_or_basic(self, request: Request) -> Caller:
        """Identify another system: by a token as bearer, or as the password of HTTP Basic where it can send no more."""
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return self.by_token(request)
        found = self._token(basic_password(encoded.strip()))
        if found is None:
            raise _unknown("Bearer")
        return found

    def by_session(self, request: Request) -> "Session | None":
        """Who signed in with this browser, and the key that its forms are sealed with."""
        if self._is_open and is_ours_alone(request):
            return Session(caller=_LOOPBACK, seal=seal(self._forms_key, "loopback"))
        cookie = request.cookies.get(COOKIE, "")
        named = name_in(cookie)
        for secret, credential in self._tokens:
            if credential.name == named and (read := read_session(cookie, secret, now=self._clock.now())) is not None:
                return Session(caller=_caller(credential), seal=seal(secret, f"form {read}"))
        return None

    def sign_in(self, token: str) -> str | None:
        """The cookie of a new session, or None where the token is nobody's."""
        matching = self._matching(token)
        if not matching:
            return None
        secret, credential = matching[0]  # of two tokens of one name the one that was given: it ends with that one
        return new_session(credential.name, secret, now=self._clock.now(), nonce=self._clock.new_id())

    def _token(self, token: str) -> Caller | None:
        matching = self._matching(token)
        return _caller(matching[0][1]) if matching else None

    def _matching(self, token: str) -> list[tuple[bytes, Credential]]:
        """Compare with every credential, always: the time taken says nothing about which was nearest."""
        given = _digest(token)
        return [(digest, c) for digest, c in self._tokens if hmac.compare_digest(digest, given)]


def intake_key(caller: Caller, idempotency_key: str | None) -> str | None:
    """The deploy id of a request that names none: the same message, however often it is sent, is one deploy."""
    key = caller.webhook_id or idempotency_key
    return None if key is None else f"key-{_digest(f'{caller.actor} {key}').hex()[:24]}"


def as_sender(name: str) -> Caller:
    """A sender that its own scheme has proved genuine."""
    return Caller(actor=f"sender:{name}", scopes=frozenset({Scope.TRIGGER}))


def refuse() -> NoReturn:
    """Refuse whoever cannot show who they are."""
    raise _unknown("Bearer")


def _caller(credential: Credential) -> Caller:
    return Caller(actor=f"token:{credential.name}", scopes=credential.scopes, services=credential.services)


def _unknown(scheme: str, message: str = _WHO) -> ApiError:
    return ApiError(401, message, headers={"WWW-Authenticate": scheme})


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _token_problem(credential: Credential) -> Problem | None:
    if len(credential.secret.get_secret_value()) >= MIN_TOKEN_LENGTH:
        return None
    wanted = f"expected a token of at least {MIN_TOKEN_LENGTH} characters, such as `openssl rand -hex 32` gives"
    return Problem("", None, f"auth.tokens.{credential.name}", wanted)


def _webhook_problem(secret: SecretStr) -> Problem | None:
    try:
        read_key(secret)
    except ValueError as error:
        return Problem("", None, "auth.webhook_secret", str(error))
    return None
