"""A program: reads what to draw as JSON from stdin, writes a PNG to stdout. It needs matplotlib and nothing of ours.

It runs in a process of its own (watchdog/picture.py), so that the daemon never carries matplotlib, and nothing that
happens while drawing can touch it.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

SIZE_INCHES, DPI = (8.0, 4.8), 150
_TIME_STEPS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400)
_INK, _SOFT = "#1c2127", "#8a929c"
_OLD, _NEW, _EVIDENCE, _LIMIT = "#0072b2", "#c44e00", "#6a3d9a", "#b3261e"  # as on the pages
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def draw(told: Mapping[str, Any]) -> bytes:
    """The metric of both arms over time, and below it the evidence against what decides, as a PNG.

    told: as watchdog.picture.told writes it; a level or evidence that is null is a gap.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A version may hold a $; nothing that comes from outside is a formula.
    with mpl.rc_context({"text.parse_math": False, "text.color": _INK, "font.size": 9, "axes.edgecolor": _SOFT}):
        figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        figure.suptitle(told["title"], x=0.01, ha="left", fontweight="bold", fontsize=11)
        _levels(top, told)
        _evidence(below, told)
        for axes in (top, below):
            _moments(axes, told["moments"], named=axes is top)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="0.92")
            axes.set_axisbelow(True)
        written = BytesIO()
        figure.savefig(written, format="png")
    return written.getvalue()


def _levels(axes: Any, told: Mapping[str, Any]) -> None:
    scale = 100.0 if told["share"] else 1.0
    for arm, colour, style in ((told["old"], _OLD, "--"), (told["new"], _NEW, "-")):
        at_s, heights = _columns(arm["points"], scale)
        axes.plot(at_s, heights, style, color=colour, label=arm["name"], linewidth=1.6, marker=".", markersize=4)
    axes.set_ylabel(told["what"], wrap=True)
    levels = [level for arm in (told["old"], told["new"]) for _, level in arm["points"] if level is not None]
    if min(levels, default=0.0) >= 0:
        axes.set_ylim(bottom=0.0)
    if told["share"]:
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.figure.legend(loc="outside upper right", frameon=False, ncols=2)


def _evidence(axes: Any, told: Mapping[str, Any]) -> None:
    at_s, path = _columns([(0.0, 0.0), *told["evidence"]], 1.0)
    axes.plot(at_s, path, color=_EVIDENCE, linewidth=1.6)
    axes.axhline(told["threshold"], color=_LIMIT, linestyle="--", linewidth=1)
    axes.set_ylim(top=max(told["threshold"] * 1.25, axes.get_ylim()[1]))
    axes.text(0.005, told["threshold"], told["acts"], color=_LIMIT, fontsize=8, va="bottom",
              transform=axes.get_yaxis_transform())  # fmt: skip
    axes.yaxis.set_major_formatter(lambda value, _: _written(value))
    axes.set_ylabel("evidence (e-value)")
    axes.xaxis.set_major_formatter(lambda value, _: _clock(value))
    axes.set_xticks(_round_times(*axes.get_xlim()))
    axes.set_xlabel("minutes:seconds after the deploy")


def _moments(axes: Any, moments: Sequence[Mapping[str, Any]], *, named: bool) -> None:
    """Vertical lines; names that would meet stand in two rows, further ones are left out."""
    free_s = [-math.inf, -math.inf]
    low, high = axes.get_xlim()
    for moment in sorted(moments, key=lambda m: m["at_s"]):
        axes.axvline(moment["at_s"], color=_SOFT, linewidth=0.8, linestyle=":")
        row = next((i for i, until_s in enumerate(free_s) if moment["at_s"] >= until_s), None)
        if named and row is not None:
            height = 1.01 + 0.055 * row
            axes.text(moment["at_s"], height, moment["name"], transform=axes.get_xaxis_transform(), fontsize=8)
            free_s[row] = moment["at_s"] + (high - low) * 0.012 * (len(moment["name"]) + 1)


def _round_times(low: float, high: float) -> list[float]:
    step = next((s for s in _TIME_STEPS if (high - low) / s <= 8), (high - low) / 8)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _columns(points: Sequence[Sequence[float | None]], scale: float) -> tuple[list[float], list[float]]:
    real = [tuple(float("nan") if value is None else value for value in point) for point in points]
    return [at for at, _ in real], [level * scale for _, level in real]


def _clock(seconds: float) -> str:
    whole = round(abs(seconds))
    return f"{'−' if seconds < 0 else ''}{whole // 60}:{whole % 60:02d}"


def _written(log10: float) -> str:
    return f"{10**log10:,.6g}" if -4 <= log10 < 6 else "10" + f"{log10:.0f}".translate(_RAISED)


if __name__ == "__main__":
    sys.stdout.buffer.write(draw(json.load(sys.stdin)))
