"""What the daemon knows about its own health."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Health:
    """Asked for on every probe, so it must be cheap: flags that the last tick left, no input or output."""

    tick_age_s: float | None  # seconds since a tick ended; None before the first
    ledger_ok: bool
    problems: list[str] = field(default_factory=list)

    def is_alive(self, max_tick_age_s: float, *, up_s: float) -> bool:
        """Tell whether ticks still end; a daemon that has just started gets as long for its first."""
        return (self.tick_age_s if self.tick_age_s is not None else up_s) <= max_tick_age_s

    def is_ready(self, max_tick_age_s: float) -> bool:
        """Tell whether deploys can be taken and watched."""
        return self.ledger_ok and self.tick_age_s is not None and self.tick_age_s <= max_tick_age_s
