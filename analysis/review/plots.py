"""What a verdict saw, drawn: both arms over time, and the evidence against its threshold."""

import math
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from analysis.review.frames import Review, number

_COLOURS = {"history": "0.7", "baseline": "tab:blue", "peers": "tab:cyan", "candidate": "tab:red"}
_TITLES = {"ratio": "bad share", "rate": "events per exposure", "latency": "share of slow requests"}


def plot_arms(review: Review, watch_id: str, metric: str, *, ax: Axes | None = None) -> Axes:
    """Both arms of one metric over time, with the deploy, the verdict and the recovery marked.

    The time axis is in seconds after the deploy.
    """
    ax = ax if ax is not None else plt.subplots(figsize=(9, 3))[1]
    spec = review.spec(watch_id, metric)
    levels = review.levels(watch_id, metric)
    for arm in [name for name in _COLOURS if name in levels]:
        ax.plot(levels.index, levels[arm], marker=".", color=_COLOURS[arm], label=arm)
    _mark(review, watch_id, ax)
    ax.set_ylabel(f"{_TITLES.get(spec['kind'], 'level')} {spec['unit']}".strip())
    ax.set_title(f"{metric} ({spec['kind']})")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return ax


def plot_evidence(review: Review, watch_id: str, *, ax: Axes | None = None) -> Axes:
    """The combined evidence after every look against the deploy's budget, with each metric's own path behind it.

    The vertical axis is the natural logarithm of the e-value.
    """
    ax = ax if ax is not None else plt.subplots(figsize=(9, 3))[1]
    step_s = float(review.plan(watch_id)["step_s"])
    paths = review.paths(watch_id)
    for metric in paths:
        _grow(ax, paths[metric], step_s, linewidth=1, alpha=0.6, marker=".", label=str(metric))
    _grow(ax, review.verdicts(watch_id)["log_evidence"], step_s, color="black", marker="o", label="combined")
    threshold = number(review.last_verdict(watch_id)["log_threshold"])
    ax.axhline(threshold, color="tab:red", linestyle="--", label="the budget's threshold")
    _mark(review, watch_id, ax)
    ax.set_ylabel("evidence, ln")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return ax


def _grow(ax: Axes, path: "pd.Series[float]", step_s: float, **style: Any) -> None:
    """Draw one path of evidence; before the first look there is none, which is 0."""
    at_s = [0.0, *((look + 1) * step_s for look in path.index)]
    ax.plot(at_s, [0.0, *path], **style)


def _mark(review: Review, watch_id: str, ax: Axes) -> None:
    for (name, at_s), style in zip(review.moments(watch_id).items(), ("-", "--", ":"), strict=True):
        if math.isfinite(at_s):
            ax.axvline(at_s, color="0.3", linestyle=style, linewidth=1)
            ax.text(at_s, 0.97, name, transform=ax.get_xaxis_transform(), rotation=90, va="top", ha="right", fontsize=8)
    ax.set_xlabel("seconds after the deploy")
