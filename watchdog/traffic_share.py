"""Does the candidate get the share of the traffic that was asked for? Pure."""

import math
from collections.abc import Sequence

from analysis.result import Arm, Kind, SourceStatus
from watchdog.blast_radius import requests
from watchdog.model import StoredLook, Watch
from watchdog.strategies.window import interval_bounds

FEWEST_LOOKS = 5  # load balancers and caches take a while to follow
FEWEST_REQUESTS = 500.0
TIMES = 2.0  # clients that stick to a version make shares uneven; a factor is no accident
SIGMA = 5.0
_COUNTING = (Kind.RATIO, Kind.LATENCY)


def mismatch(watch: Watch, looks: Sequence[StoredLook]) -> str:
    """The observed share in words where it is far from the asked one, else nothing.

    Only whole intervals since the present share took effect count, and only those in which both arms were seen or
    the candidate was known to live: a candidate that is gone is another matter.
    """
    asked = watch.share
    if asked is None or asked >= 1 or watch.deploy.previous_version is None:
        return ""
    since = watch.step_at if watch.step_at is not None else watch.live_at
    served = [_served(watch, look) for look in looks if interval_bounds(watch, look.interval)[0] >= since]
    seen = [arms for arms in served if arms is not None]
    total = sum(map(sum, seen))
    if len(seen) < FEWEST_LOOKS or total < FEWEST_REQUESTS:
        return ""
    observed = sum(candidate for candidate, _ in seen) / total
    beyond = abs(observed - asked) > SIGMA * math.sqrt(asked * (1 - asked) / total)
    if not beyond or asked / TIMES <= observed <= min(asked * TIMES, (1 + asked) / 2):
        return ""
    return (
        f"{watch.deploy.version} gets {100 * observed:.3g} % of the requests, and {100 * asked:g} % were asked for: "
        "check the load balancer"
    )


def _served(watch: Watch, look: StoredLook) -> tuple[float, float] | None:
    """Requests of candidate and baseline in one interval that can tell."""
    metric = next((m for m in watch.plan.metrics if m.spec.kind in _COUNTING), None)
    cells = look.cells.get(metric.spec.name) if metric is not None else None
    if look.interval < 0 or look.facts.status is not SourceStatus.OK or cells is None or look.facts.candidate_down:
        return None
    return requests(cells, (Arm.CANDIDATE,)), requests(cells, (Arm.BASELINE,))
