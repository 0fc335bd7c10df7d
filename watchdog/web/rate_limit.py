"""A token bucket for each caller."""

import threading
from dataclasses import dataclass

from watchdog.ports import Clock
from watchdog.web.errors import ApiError


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one caller may ask for; a CI that floods one credential leaves the others alone."""

    per_s: float = 100.0
    burst: float = 500.0


class TokenBuckets:
    """Counts what each caller has left. Callers are configured names, so this cannot grow."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}  # actor → tokens left, and when that was

    def take(self, actor: str) -> None:
        """Take one token, or refuse with the time after which there is one."""
        now = self._clock.monotonic()
        with self._lock:
            left, since = self._left.get(actor, (self._limits.burst, now))
            left = min(self._limits.burst, left + (now - since) * self._limits.per_s)
            self._left[actor] = (left - 1 if left >= 1 else left, now)
        if left < 1:
            wait_s = int((1 - left) / self._limits.per_s) + 1
            raise ApiError(429, f"{actor} sends too much at once.", headers={"Retry-After": str(wait_s)})
