"""Does the candidate get the share of the traffic that was asked for? Pure."""

import math

from watchdog.model import Watch
from watchdog.strategies.window import interval_bounds
from watchdog.tally import Tally

LATELY = 12  # looks; what was mended before them is mended
FEWEST_LOOKS = 5  # load balancers and caches take a while to follow
FEWEST_REQUESTS = 500.0
TIMES = 2.0  # clients that stick to a version make shares uneven; a factor is no accident
SIGMA = 5.0


def mismatch(watch: Watch, tally: Tally) -> str:
    """The share that is seen lately in words where it is far from the asked one, else nothing.

    Only whole intervals with the present share count, none in which a promotion was under way, and only those in which
    both arms were seen or the candidate was known to live: a candidate that is gone is another matter.
    """
    observed = _observed(watch, tally)
    if watch.share is None or observed is None or _fits(watch.share, *observed):
        return ""
    return (
        f"{watch.deploy.version} gets {100 * observed[0]:.3g} % of the requests, and {100 * watch.share:g} % were "
        "asked for: check the load balancer"
    )


def in_proportion(watch: Watch, tally: Tally) -> bool:
    """Whether the candidate is seen to get about what was asked for; False where nobody can tell, too."""
    observed = _observed(watch, tally)
    return watch.share is not None and observed is not None and _fits(watch.share, *observed)


def _observed(watch: Watch, tally: Tally) -> tuple[float, float] | None:
    """The candidate's part of the requests in the last intervals, and of how many; None where they are too few."""
    if watch.share is None or watch.share >= 1 or watch.deploy.previous_version is None:
        return None
    since = watch.step_at if watch.step_at is not None else watch.live_at
    seen = [
        (candidate, baseline)
        for interval, share, candidate, baseline in tally.served()
        if interval_bounds(watch, interval)[0] >= since and (watch.plan.steps is None or share == watch.share)
    ][-LATELY:]
    total = sum(map(sum, seen))
    if len(seen) < FEWEST_LOOKS or total < FEWEST_REQUESTS:
        return None
    return sum(candidate for candidate, _ in seen) / total, total


def _fits(asked: float, observed: float, total: float) -> bool:
    beyond = abs(observed - asked) > SIGMA * math.sqrt(asked * (1 - asked) / total)
    return not beyond or asked / TIMES <= observed <= min(asked * TIMES, (1 + asked) / 2)


def asked_during(watch: Watch, interval: int, *, promoting: bool) -> float | None:
    """The asked share that was in force through all of an interval just closed; None where it changed, or may have.

    promoting: whether a promotion is under way right now. One that is done may have begun to work an interval before.
    """
    if watch.plan.steps is None or interval < 0 or promoting:
        return None
    start, end = interval_bounds(watch, interval)
    if watch.step_at is None or start >= watch.step_at:
        return watch.share
    return watch.plan.steps.shares[watch.step - 1] if end <= watch.step_at - watch.plan.step_s else None
