"""The tests of a metric split by label: one count comparison for each label value that is new with this deploy."""

from dataclasses import replace

import numpy as np

from analysis.contrast import Comparison, Contrast, compare, contrasts
from analysis.decode import Arrays, Decoded, Floats
from analysis.dispersion import Noise, believed_factor, over_time
from analysis.methods.labels import new_labels, panels_of
from analysis.noise import replica_noise
from analysis.result import Arm, Design, JudgeSettings

ONE_CLIENT = 5.0  # variance factor where no replicas tell how events cluster: what one client repeats is one event
_LABEL_LENGTH = 60


def label_comparisons(
    watch: Decoded, metric: Arrays, settings: JudgeSettings, log_prior: Floats, share: float
) -> list[Comparison | Contrast]:
    """One comparison a new label. How events cluster is learned from all labels together: a new one has no past."""
    found: list[Comparison | Contrast] = []
    for label in new_labels(metric):
        compared = compare(
            watch,
            metric.spec,
            panels_of(metric, label.stratum),
            metric.first,
            settings,
            log_prior,
            label=f" new {_printable(label.name)}",
            weight=label.weight,
            share_of_budget=share * label.weight,
        )
        if compared is None:
            continue
        if compared.design is Design.CONCURRENT:
            found.append(replace(compared, noise_panels=panels_of(metric, None), least_factor=ONE_CLIENT))
        else:
            noise, source = _noise_before(metric, len(log_prior))
            (whole,) = contrasts([compared])
            tests = tuple(replace(test, noise=noise) for test in whole.tests)
            found.append(replace(whole, tests=tests, noise=noise, dispersion_from=source))
    return found


def _noise_before(metric: Arrays, looks: int) -> tuple[Noise, str]:
    """Before and after: clusters as the replicas show them before the deploy, and swings of all labels in time."""
    start = max(-metric.first, 0)
    panels = panels_of(metric, None)
    ((chi2, df),) = replica_noise([({a: p for a, p in panels.items() if a is not Arm.CANDIDATE}, metric.first)])
    before = panels[Arm.BASELINE]
    events, exposure = (
        np.cumsum(a, axis=0)[-1] for a in (before.value[:, 0, 0, :start], np.nan_to_num(before.total[:, 0, :start]))
    )
    in_time = over_time(events, exposure)[0]
    told = bool(df.size) and bool(df[:, 0].any())
    between = float(believed_factor(chi2[:, :1], df[:, :1])[0]) if told else ONE_CLIENT
    return Noise.fixed(np.full(looks, max(between, in_time))), "replicas" if told else "assumed"


def _printable(name: str) -> str:
    """A label value comes from outside and ends in sentences."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    return f"“{shown[:_LABEL_LENGTH]}{'…' if len(shown) > _LABEL_LENGTH else ''}”"
