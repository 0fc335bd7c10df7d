"""Whether the version to go back to was itself found to be worse, though nobody took it back."""

from analysis.result import VerdictKind
from watchdog.last_live import may_stay
from watchdog.model import Action, Deploy, Limits, Watch
from watchdog.ports import Ledger

_LAST_WORDS = 50  # entries of its audit; a denial is among the last, for it ends the watch


def target_worse_at(ledger: Ledger, of: Deploy | Action, limits: Limits, now: float) -> float | None:
    """When the newest watch of the version to go back to was called worse, not too long ago; None where a human let it
    stay. A brake held its rollback and nobody answered, or a newer deploy came: as far as anybody knows it is bad."""
    version = of.previous_version if isinstance(of, Deploy) else of.to_version
    newest_first = ledger.watches(service=of.service, environment=of.environment) if version is not None else []
    watch = next((one for one in newest_first if one.deploy.version == version), None)
    worse_at = watch.degraded_at if watch is not None else None
    if watch is None or worse_at is None or now - worse_at >= limits.bad_target_s:
        return None
    return worse_at if was_found_worse(ledger, watch) else None


def was_found_worse(ledger: Ledger, watch: Watch) -> bool:
    """Whether a deploy was called worse, and no human let it stay."""
    worse = watch.degraded_at is not None and watch.verdict == VerdictKind.DEGRADED.value
    return worse and not may_stay(ledger.audit(watch.id, limit=_LAST_WORDS))
