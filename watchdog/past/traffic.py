"""Today's traffic, levels and noise of a service, for `sensitivity`."""

from dataclasses import replace

from watchdog.errors import WatchdogError
from watchdog.judging import observation
from watchdog.past.deploys import from_source
from watchdog.past.placebos import stretches
from watchdog.past.service import PastService
from watchdog.recorded_traffic import Told, traffic_of
from watchdog.strategies import STRATEGIES


def traffic_of_past(service: PastService, *, since: float, until: float, share: float) -> Told:
    """What the metrics looked like since the last deploy, or since then (WatchdogError where nothing is known)."""
    plan = service.plan
    needs_version = STRATEGIES[service.strategy].needs_previous_version
    deploys, versions = from_source(service, since=since, until=until) if needs_version else ([], None)
    found = stretches(service, deploys, versions, since=since, until=until)
    if not found:
        raise WatchdogError(f"no version of {service.name} served since then; see `deploy-watchdog check`")
    last = found[-1]
    n = int((last.end - last.begin) // plan.step_s)
    watch = service.watch(at=last.end, version="next", previous=last.version or None, share=share)
    looks = service.looks([(watch, range(-n, 0))])[watch.id]
    told = traffic_of(replace(observation(watch, looks), share=share))
    if not told.traffic:
        why = f": {told.reasons}" if told.left_out else ""
        raise WatchdogError(f"the source tells of no metric of {service.name} what its traffic and level are{why}")
    return told
