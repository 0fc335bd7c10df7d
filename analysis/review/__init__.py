"""For people with a notebook: a ledger as frames, its verdicts replayed and drawn.

The only part of `analysis` that reads files and knows pandas and matplotlib; nothing else in it may import this.

>>> from analysis.review import Review
>>> review = Review("watchdog.db")  # doctest: +SKIP
>>> review.deploys()  # doctest: +SKIP
"""

from analysis.review.frames import Review
from analysis.review.plots import plot_arms, plot_evidence
from analysis.review.replay import replay

__all__ = ["Review", "plot_arms", "plot_evidence", "replay"]
