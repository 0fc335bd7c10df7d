"""What a verdict saw, drawn: both arms over time, the evidence against its threshold, promises against measurements.

matplotlib is an extra and is loaded when something is drawn.
"""

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.evaluate import exact_interval
from analysis.result import Kind, MetricSpec
from analysis.review.ledger import Ledger, row_of, slow_bound
from analysis.review.measured import calibration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "history": "#bbbbbb",
    "baseline": "#4477aa",
    "peers": "#66ccee",
    "candidate": "#cc3311",
    "control": "#ee7733",
}
_COMBINED, _THRESHOLD, _QUIET = "#222222", "#cc3311", "#666666"
_METRICS = ("#4477aa", "#228833", "#ccbb44", "#aa3377", "#66ccee", "#ee7733")
_SHARES = {Kind.RATIO, Kind.LATENCY, Kind.LABELS}
_LEAST, _MOST = 1e-3, 1e12  # of the e-values drawn: beyond, they say no more than that they are beyond
_WIDE = 96


def plot_verdict(ledger: Ledger, deploy: str, metric: str | None = None) -> "Figure":
    """One deploy on one page: its sentence, the deciding metric of both arms, and the evidence, over the same time.

    metric: another one than the one that decided.
    """
    from matplotlib import pyplot as plt

    row = row_of(ledger, deploy)
    shown = metric or row["metric"]
    if not isinstance(shown, str):
        shown = ledger.stored(deploy).observation.metrics[0].name
    figure, (above, below) = plt.subplots(2, 1, figsize=(9.5, 6), sharex=True, layout="constrained")
    plot_arms(ledger, deploy, shown, ax=above)
    plot_evidence(ledger, deploy, ax=below)
    above.set_xlabel("")
    words = dict.fromkeys((row["verdict"] or "no verdict", row["state"] or "judged afterwards"))
    told = f"{row['service']} {row['version'] or ''}: {', '.join(words)}"
    sentence = textwrap.fill(str(row["sentence"] or ""), _WIDE)
    figure.suptitle(f"{told}\n{sentence}", x=0.01, ha="left", fontsize=10)
    return figure


def plot_arms(ledger: Ledger, deploy: str, metric: str, *, ax: "Axes | None" = None) -> "Axes":
    """Both arms of one metric over time, with deploy, likely onset, verdict and recovery marked.

    The time axis is in seconds after the deploy; shares are in percent.
    """
    from matplotlib.ticker import EngFormatter

    ax = ax if ax is not None else _axes()
    spec = ledger.spec(deploy, metric)
    levels = ledger.levels(deploy, metric) * (100.0 if spec.kind in _SHARES else 1.0)
    for arm in [name for name in COLOURS if name in levels]:
        ax.plot(levels.index, levels[arm], marker=".", linewidth=1.4, color=COLOURS[arm], label=arm)
    row = row_of(ledger, deploy)
    _mark(ax, row, _onset_s(ledger, deploy, metric, row["step_s"]))
    ax.set_ylabel(_unit(ledger, deploy, spec))
    ax.set_title(f"{metric}", loc="left", fontsize=10)
    if spec.kind in (Kind.GAUGE, Kind.TREND):
        ax.yaxis.set_major_formatter(EngFormatter())  # 120 M, not 1.2 with a 1e8 above it
    if float(np.nanmin(levels.to_numpy(), initial=0.0)) >= 0:
        ax.set_ylim(bottom=0.0)
    _finish(ax)
    return ax


def plot_evidence(ledger: Ledger, deploy: str, *, ax: "Axes | None" = None) -> "Axes":
    """The combined evidence after every look against the deploy's budget, with each metric's own path behind it.

    The vertical axis is the e-value, on a logarithmic scale; the time axis is in seconds after the deploy.
    """
    ax = ax if ax is not None else _axes()
    row = row_of(ledger, deploy)
    paths, said = ledger.paths(deploy), ledger.select(deploy).verdicts
    combined = said["log_evidence"].droplevel("deploy")
    told = bool(combined.notna().any())  # recorded cases say nothing of it
    if paths.shape[1] > 1 or not told:  # with one metric its path and the combined one are the same
        for metric, colour in zip(paths, _METRICS * 9, strict=False):
            _grow(ax, paths[metric], row["step_s"], color=colour, linewidth=1.1, alpha=0.8, label=str(metric))
    if told:
        _grow(ax, combined, row["step_s"], color=_COMBINED, linewidth=2, marker="o", markersize=3.5, label="together")
    threshold = float(said["log_threshold"].iloc[-1]) if told else -math.log(float(row["budget"]))
    ax.axhline(math.exp(threshold), color=_THRESHOLD, linestyle="--", label=f"needed: {math.exp(threshold):.0f}")
    _mark(ax, row)
    ax.set_yscale("log")
    ax.set_ylim(bottom=max(_LEAST, min(ax.get_ylim()[0], 0.1)), top=max(ax.get_ylim()[1], 3 * math.exp(threshold)))
    ax.set_ylabel("evidence, e-value")
    ax.set_title("evidence that the candidate is worse than the margin allows", loc="left", fontsize=10)
    _finish(ax)
    return ax


def plot_calibration(measured: "Ledger | pd.DataFrame", *, ax: "Axes | None" = None) -> "Axes":
    """Promised against measured false alarms of healthy deploys, in percent, with exact 95 % intervals.

    measured: a ledger with labels, or a frame as `calibration` gives it. A promise is kept where its interval does not
    lie above the diagonal as a whole.
    """
    ax = ax if ax is not None else _axes((6.2, 4.2))
    found = calibration(measured) if isinstance(measured, Ledger) else measured
    shown = 100 * found[["measured", "low", "high"]].to_numpy()
    promised = 100 * np.asarray(found.index, dtype=float)
    ends = np.array([0.5 * promised.min(initial=1.0), 1.6 * promised.max(initial=50.0)])
    ax.plot(ends, ends, color=_THRESHOLD, linestyle="--", label="promised at most")
    reach = np.abs(shown[:, 1:] - shown[:, :1]).T
    ax.errorbar(
        promised, shown[:, 0], yerr=reach, fmt="o", capsize=3, color=COLOURS["baseline"], label="measured, 95 %"
    )
    ax.set_xscale("log")
    ax.set_yscale("symlog", linthresh=0.5, linscale=0.4)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xticks(promised)
    ax.minorticks_off()
    ax.set_yticks([0, 0.5, 1, 2, 5, 10, 20, 50, 100])
    ax.set_ylim(0, 100)
    ax.set_xlabel("promised: budget, % of healthy deploys")
    ax.set_ylabel("measured: false alarms, %")
    ax.set_title(f"{int(found['healthy'].max() if len(found) else 0)} healthy deploys", loc="left", fontsize=10)
    ax.grid(alpha=0.25)
    ax.legend(loc="upper left", frameon=False, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_shares(hits: "pd.Series[int]", of: "pd.Series[int]", *, label: str, ax: "Axes | None" = None) -> "Axes":
    """Shares with their exact 95 % intervals, one line per name, in percent; the number they are of stands beside it.

    hits, of: counts with the same index, the first at the bottom. label: what the share is, for the axis.
    """
    ax = ax if ax is not None else _axes((8, 0.9 + 0.36 * max(len(of), 2)))
    ends = np.array([exact_interval(int(h), int(n)) for h, n in zip(hits, of, strict=True)]).reshape(-1, 2)
    share = np.array([int(h) / int(n) if n else math.nan for h, n in zip(hits, of, strict=True)])
    places = np.arange(len(of))
    style = {"fmt": "o", "capsize": 3, "color": COLOURS["baseline"], "clip_on": False, "zorder": 3}
    ax.errorbar(100 * share, places, xerr=100 * np.abs(ends - share[:, None]).T, **style)  # type: ignore[arg-type]
    ax.set_yticks(places, [f"{name} ({n})" for name, n in of.items()])
    ax.set_xlim(0, 100)
    ax.set_ylim(-0.5, max(len(of) - 0.5, 0.5))
    ax.set_xlabel(f"{label}, % (95 %)")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _axes(size: tuple[float, float] = (9.5, 3.2)) -> "Axes":
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _unit(ledger: Ledger, deploy: str, spec: MetricSpec) -> str:
    if spec.kind is Kind.RATIO:
        return "bad of all, %"
    if spec.kind is Kind.LABELS:
        return "with labels of the candidate alone, %"
    if spec.kind is Kind.RATE:
        return "events per unit of exposure"
    if spec.kind is Kind.LATENCY:
        cells = ledger.select(deploy).samples.query("metric == @spec.name")
        return f"slower than {slow_bound(cells):g} {spec.unit}, %".replace("  ", " ")
    return f"level, {spec.unit}" if spec.unit else "level"


def _grow(ax: "Axes", path: "pd.Series[Any]", step_s: float, **style: Any) -> None:
    """Draw one path of evidence; before the first look there is none, which is 1."""
    known = path.dropna()
    at_s = [0.0, *((look + 1) * step_s for look in known.index)]
    ax.plot(at_s, np.clip(np.exp(np.clip([0.0, *known], -700, 700)), _LEAST, _MOST), **style)


def _mark(ax: "Axes", row: dict[str, Any], onset_s: float = math.nan) -> None:
    start = "deploy and onset" if onset_s == 0 else "deploy"
    moments = {start: 0.0, "verdict": row["degraded_after_s"], "recovered": row["recovered_after_s"]}
    if onset_s != 0:
        moments["onset"] = onset_s
    styles = {"verdict": "--", "recovered": ":", "onset": "-."}
    for name, at_s in moments.items():
        if at_s is not None and math.isfinite(at_s):
            ax.axvline(at_s, color=_QUIET, linestyle=styles.get(name, "-"), linewidth=1, zorder=0)
            side, away = ("right", -2) if name == "verdict" else ("left", 2)  # the recovery may follow within a second
            ax.annotate(
                name, (at_s, 1.0), (away, -3), xycoords=ax.get_xaxis_transform(), textcoords="offset points",
                rotation=90, va="top", ha=side, fontsize=8, color=_QUIET,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
            )  # fmt: skip


def _onset_s(ledger: Ledger, deploy: str, metric: str, step_s: float) -> float:
    """When it most likely began to be worse, where it was called so; NaN else."""
    found = ledger.select(deploy).evidence.droplevel("deploy")["since_look"]
    return float(found.get(metric, math.nan)) * step_s


def _finish(ax: "Axes") -> None:
    ax.set_xlabel("seconds after the deploy")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:  # a deploy that was never looked at has nothing to name
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
