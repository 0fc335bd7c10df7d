"""How often healthy deploys were called bad, against what was promised."""

import numpy as np
import pandas as pd

from analysis.evaluate import exact_interval
from analysis.review.ledger import Ledger

BUDGETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def healthy(ledger: Ledger) -> pd.Index:
    """The deploys that an analyst, or a recorded case, says were healthy: `right` on a verdict that was not DEGRADED,
    or `false_alarm`."""
    deploys = ledger.deploys.join(ledger.labels["label"])
    right = (deploys["label"] == "right") & (deploys["verdict"] != "DEGRADED")
    return deploys.index[right | (deploys["label"] == "false_alarm") | (deploys["truth"] == "unchanged")]


def calibration(ledger: Ledger, budgets: tuple[float, ...] = BUDGETS) -> pd.DataFrame:
    """How many healthy deploys would have been called DEGRADED under other budgets, to their stored end.

    The evidence of a healthy deploy passes 1 / b at some look with chance b at most, for every b (Ville's inequality).
    A watch is stopped by the first alarm of its own budget, so smaller budgets cannot be read from it and are left out.

    Returns
    -------
    DataFrame
        Indexed by `promised` (the budget): `alarms`, `healthy` (deploys), `measured` with its exact 95 % interval
        `low`, `high`, all shares of healthy deploys.
    """
    some = ledger.select(list(healthy(ledger)))
    largest = some.verdicts["log_evidence"].groupby(level="deploy").max()
    frozen = float(some.deploys["budget"].max()) if len(largest) else 0.0
    rows = []
    for budget in budgets:
        if budget >= frozen:
            alarms = int((largest >= -np.log(budget)).sum())
            low, high = exact_interval(alarms, len(largest))
            share = alarms / len(largest) if len(largest) else float("nan")
            rows.append((budget, alarms, len(largest), share, low, high))
    return pd.DataFrame(rows, columns=["promised", "alarms", "healthy", "measured", "low", "high"]).set_index(
        "promised"
    )
