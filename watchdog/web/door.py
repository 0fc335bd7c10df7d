"""Every API route comes through here: who is it, may they, and not too often."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request

from watchdog.config import Scope
from watchdog.web.auth import Authenticator, Caller, as_sender, refuse
from watchdog.web.errors import ApiError
from watchdog.web.rate_limit import TokenBuckets


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    auth: Authenticator
    buckets: TokenBuckets

    def admit(self, request: Request, scope: Scope) -> Caller:
        """Let in a caller with a token that has the scope."""
        return self._counted(self.auth.by_token(request), scope)

    def admit_sender(self, request: Request, body: bytes) -> Caller:
        """Let in whoever may send this deploy event, by token or signature."""
        return self._counted(self.auth.by_token_or_signature(request, body), Scope.TRIGGER)

    def admit_system(self, request: Request, name: str, *, genuine: bool | None) -> Caller:
        """Let in another system: by its own scheme, or where it has none (None) by one of our tokens."""
        if genuine is None:
            return self._counted(self.auth.by_token_or_basic(request), Scope.TRIGGER)
        return self._counted(as_sender(name) if genuine else refuse(), Scope.TRIGGER)

    def admit_reader(self, request: Request) -> Caller:
        """Let in the reader of a page."""
        return self._counted(self.auth.by_browser(request), Scope.READ)

    def admit_actor(self, request: Request, form: Mapping[str, str], scope: Scope) -> Caller:
        """Let in somebody who signed in, has the scope, and sent one of our own forms."""
        session = self.auth.by_session(request)
        if session is None:
            raise ApiError(401, "Sign in first.")
        caller = self._counted(session.caller, scope)
        if not hmac.compare_digest(form.get("seal", "").encode(), session.seal.encode()):
            raise ApiError(
                403, "This form is not from these pages, or too old.", remedy="Go back, reload and send it again."
            )
        return caller

    def seal_for(self, request: Request) -> str | None:
        """What a form for this browser must carry; None for somebody who did not sign in."""
        session = self.auth.by_session(request)
        return None if session is None else session.seal

    def _counted(self, caller: Caller, scope: Scope) -> Caller:
        self.buckets.take(caller.actor)
        caller.require(scope)
        return caller
