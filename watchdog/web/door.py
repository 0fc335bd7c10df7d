"""Every API route comes through here: who is it, may they, and not too often."""

from dataclasses import dataclass

from fastapi import Request

from watchdog.config import Scope
from watchdog.web.auth import Authenticator, Caller
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

    def admit_reader(self, request: Request) -> Caller:
        """Let in the reader of a page."""
        return self._counted(self.auth.by_browser(request), Scope.READ)

    def _counted(self, caller: Caller, scope: Scope) -> Caller:
        self.buckets.take(caller.actor)
        caller.require(scope)
        return caller
