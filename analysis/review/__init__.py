"""For people with a notebook: a ledger as frames, its verdicts replayed and drawn. Read-only.

>>> from analysis import review
>>> ledger = review.open("sqlite:///watchdog.db")  # or "postgresql://...", or a folder of cases # doctest: +SKIP
>>> ledger.deploys, ledger.samples, ledger.verdicts, ledger.evidence, ledger.actions, ledger.labels  # doctest: +SKIP
>>> review.replay(ledger, "shop-42", budget=0.001).sentence  # doctest: +SKIP

It reads the daemon's tables by name and imports nothing of the daemon; nothing else in `analysis` may import this.
"""

from analysis.review.columns import COLUMNS
from analysis.review.ledger import Ledger
from analysis.review.ledger import open_ledger as open  # noqa: A004 (`review.open` is what people type)
from analysis.review.measured import calibration, healthy
from analysis.review.plots import plot_arms, plot_calibration, plot_evidence, plot_shares, plot_verdict
from analysis.review.replay import recompute, replay, what_if

__all__ = [
    "COLUMNS",
    "Ledger",
    "calibration",
    "healthy",
    "open",
    "plot_arms",
    "plot_calibration",
    "plot_evidence",
    "plot_shares",
    "plot_verdict",
    "recompute",
    "replay",
    "what_if",
]
