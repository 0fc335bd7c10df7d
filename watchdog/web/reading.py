"""Reading watches for a caller: what they may not see does not exist for them."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.concurrency import run_in_threadpool

from watchdog.model import RESTING, State, Watch
from watchdog.ports import Clock, Ledger
from watchdog.strict_json import printable
from watchdog.web.auth import Caller
from watchdog.web.errors import NO_SUCH_DEPLOY, ApiError

IDENTIFIER = r"^[A-Za-z0-9._:/@+][A-Za-z0-9._:/@+-]{0,127}$"
MAX_WAIT_S = 120.0
_POLL_S = 0.25
_MAX_WAITERS = 100


Position = tuple[float | None, str | None]  # created_at and id of the last watch that was shown
NEWEST: Position = (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Which deploys are asked for; None is any."""

    service: str | None = None
    environment: str | None = None
    states: frozenset[State] | None = None


@dataclass(slots=True, kw_only=True)
class Reading:
    """Looks into the ledger on behalf of callers."""

    ledger: Ledger
    clock: Clock
    _waiters: int = field(default=0, init=False)

    def watch(self, deploy_id: str, caller: Caller) -> Watch:
        """Find a watch; 404 alike for one that is not there and one of a service the caller may not see."""
        deploy_id = deploy_id.replace("%2F", "/")
        found = self.ledger.watch(deploy_id) if re.fullmatch(IDENTIFIER, deploy_id) else None
        if found is None or not caller.serves(found.deploy.service):
            raise ApiError(404, f"There is no deploy '{printable(deploy_id, 128)}'.", remedy=NO_SUCH_DEPLOY)
        return found

    def services(self, caller: Caller) -> list[str]:
        """The services on record that the caller may see."""
        return [name for name in self.ledger.services() if caller.serves(name)]

    def page(
        self, caller: Caller, sought: "Sought", *, limit: int, before: Position = NEWEST
    ) -> tuple[list[Watch], Position]:
        """Return one page of watches, newest first, and where the next one begins.

        What the caller may not see is left out by the ledger, so that a page is full while there is more.
        """
        found = self.ledger.watches(
            service=sought.service,
            environment=sought.environment,
            states=sought.states,
            limit=limit,
            before=before[0],
            before_id=before[1],
            services=None if caller.serves_all else frozenset(self.services(caller)),
        )
        return found, (found[-1].created_at, found[-1].id) if len(found) == limit else NEWEST

    async def resting(
        self, deploy_id: str, caller: Caller, *, wait_s: float, is_gone: Callable[[], Awaitable[bool]]
    ) -> Watch:
        """Wait until the watch rests, the time is over, or nobody listens any more; then return it as it stands.

        Too many waiters at once are answered early: the time is an upper bound, and clients ask again.
        """
        until = self.clock.monotonic() + wait_s
        self._waiters += 1
        try:
            while True:
                watch = await run_in_threadpool(self.watch, deploy_id, caller)
                left = until - self.clock.monotonic()
                if watch.state in RESTING or left <= 0 or self._waiters > _MAX_WAITERS or await is_gone():
                    return watch
                await asyncio.sleep(min(_POLL_S, left))
        finally:
            self._waiters -= 1
