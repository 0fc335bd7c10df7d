"""How many automatic rollbacks are believed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many automatic rollbacks are believed, and onto what."""

    cool_down_s: float = 3600.0  # between two of one service
    breaker_rollbacks: int = 3  # of all services in the window; the next one is held
    breaker_share: float = 0.30  # of the active watches, where there are enough of them to speak of a share
    breaker_window_s: float = 1800.0
    bad_target_s: float = 86_400.0  # a version rolled back, or found worse and not let stay, is nothing to go back to

    @property
    def reach_s(self) -> float:
        """How far back rollbacks matter."""
        return max(self.cool_down_s, self.breaker_window_s, self.bad_target_s)


DEFAULT_LIMITS = Limits()
