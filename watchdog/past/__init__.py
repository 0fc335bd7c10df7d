"""The past of a configured service, out of its own live source: what `backtest`, `calibrate` and `sensitivity` replay.

Every interval is asked for as a watch would ask for it, through the same source, decoder and judge; only many of them
at once, so that a few large range queries answer for weeks.
"""

from watchdog.past.deploys import PastDeploy, read_deploys
from watchdog.past.placebos import calibrate_past
from watchdog.past.replay import Replayed, replay
from watchdog.past.service import PastService, open_service, service_names
from watchdog.past.traffic import traffic_of_past

__all__ = [
    "PastDeploy",
    "PastService",
    "Replayed",
    "calibrate_past",
    "open_service",
    "read_deploys",
    "replay",
    "service_names",
    "traffic_of_past",
]
