"""Drawn arrays in the two forms that the judge takes: decoded watches, or observations made of cells."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.decode import Arrays, Decoded, Floats, Panel
from analysis.prepare import Cells, LookFacts, Observation
from analysis.result import Arm, Design, Kind, MetricSpec
from analysis.simulate.service import Service


@dataclass(frozen=True, slots=True, eq=False)
class DrawnMetric:
    """One metric of a batch; every panel has a leading axis of watches and spans all intervals."""

    spec: MetricSpec
    strata: tuple[str, ...]
    le: Floats
    first: int
    panels: Mapping[Arm, Panel]

    def of(self, watch: int) -> Arrays:
        panels = {
            arm: Panel(np.ascontiguousarray(p.value[watch]), np.ascontiguousarray(p.total[watch]))
            for arm, p in self.panels.items()
        }
        return Arrays(self.spec, self.strata, self.le, self.first, panels)

    def pooled(self) -> "DrawnMetric":
        """The same counts without their strata.

        Raises
        ------
        ValueError
            A level has no strata to pool.
        """
        if self.spec.kind in {Kind.GAUGE, Kind.TREND}:
            raise ValueError(f"{self.spec.name}: levels cannot be pooled")
        panels = {
            arm: Panel(p.value.sum(axis=2, keepdims=True), p.total.sum(axis=2, keepdims=True))
            for arm, p in self.panels.items()
        }
        return DrawnMetric(self.spec, ("",), self.le, self.first, panels)


@dataclass(frozen=True, slots=True, eq=False)
class Watches:
    """A batch of simulated watches of one service."""

    service: Service
    metrics: tuple[DrawnMetric, ...]
    told: bool  # whether it is known who is up
    count: int

    def __len__(self) -> int:
        return self.count

    def facts(self) -> tuple[LookFacts, ...]:
        service = self.service
        if not self.told:
            return (LookFacts(),) * service.looks
        up = LookFacts(baseline_up=service.replicas, candidate_up=service.candidates, candidate_down=0)
        down = LookFacts(baseline_up=service.replicas, candidate_up=0, candidate_down=service.candidates)
        return tuple(down if service.absent and i >= service.onset else up for i in range(service.looks))

    @property
    def share(self) -> float | None:
        return self.service.share if self.service.design is Design.CONCURRENT else None

    def decoded(self) -> Iterator[Decoded]:
        """Every watch as the decoder would give it: bit for bit what `decode` makes of its observation."""
        facts = self.facts()
        for watch in range(self.count):
            yield Decoded(
                design=self.service.design,
                step_s=self.service.step_s,
                looks=self.service.looks,
                share=self.share,
                candidate_expected=self.service.candidates,
                usable=np.ones(self.service.looks, dtype=bool),
                facts=facts,
                metrics=tuple(metric.of(watch) for metric in self.metrics),
            )

    def observations(self) -> Iterator[Observation]:
        """Every watch as its source would bring it."""
        facts = dict(enumerate(self.facts())) if self.told else {}
        for decoded in self.decoded():
            yield Observation(
                design=decoded.design,
                step_s=decoded.step_s,
                metrics=tuple(metric.spec for metric in decoded.metrics),
                samples={key: cells for metric in decoded.metrics for key, cells in cells_of(metric)},
                facts=facts,
                looks=decoded.looks,
                share=decoded.share,
                candidate_expected=decoded.candidate_expected,
            )


def cells_of(metric: Arrays) -> Iterator[tuple[tuple[str, int], Cells]]:
    """The cells of one metric, interval by interval; absent ones are left out."""
    names = [
        (arm.value, f"{arm.value}-{pod:03d}", stratum, le)
        for arm, panel in metric.panels.items()
        for pod in range(panel.replicas)
        for stratum in metric.strata
        for le in metric.le.tolist()
    ]
    width = next(iter(metric.panels.values())).value.shape[-1]
    value = np.concatenate([p.value.reshape(-1, width) for p in metric.panels.values()])
    total = np.concatenate([np.repeat(p.total.reshape(-1, width), len(metric.le), 0) for p in metric.panels.values()])
    if metric.spec.kind is Kind.LATENCY:
        total = np.full_like(total, np.nan)  # a histogram counts itself
    for i in range(width):
        rows = np.flatnonzero(~np.isnan(value[:, i])).tolist()
        if not rows:
            continue
        arm, replica, stratum, le = zip(*(names[row] for row in rows), strict=True)
        numbers = tuple(value[rows, i].tolist()), tuple(total[rows, i].tolist())
        yield (metric.spec.name, metric.first + i), Cells(arm, replica, stratum, le, *numbers)


def gauge_observation(
    arms: Mapping[tuple[Arm, int], Floats], spec: MetricSpec, *, looks: int, step_s: float = 60.0, design: Design
) -> Observation:
    """A watch over one level: arms[(arm, first interval)] = (replicas, intervals), NaN where missing."""
    samples: dict[tuple[str, int], list[tuple[str, str, float]]] = {}
    for (arm, start), values in arms.items():
        for pod, row in enumerate(values):
            for i, value in enumerate(row.tolist()):
                if not np.isnan(value):
                    samples.setdefault((spec.name, start + i), []).append((arm.value, f"{arm.value}-{pod}", value))
    cells = {
        key: Cells(tuple(r[0] for r in rows), tuple(r[1] for r in rows), value=tuple(r[2] for r in rows))
        for key, rows in samples.items()
    }
    return Observation(design=design, step_s=step_s, metrics=(spec,), samples=cells, looks=looks)
