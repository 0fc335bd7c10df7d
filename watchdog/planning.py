"""How a deploy of a service is watched, from its configuration: frozen when the watch begins."""

from dataclasses import dataclass, replace

from analysis.result import Design, JudgeSettings
from watchdog.config import Config, ServiceConfig
from watchdog.model import Bake, Plan, Strategy
from watchdog.strategies import STRATEGIES

STEPPED = frozenset({Strategy.CANARY, Strategy.FLAG})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A source's natural rhythm, for services that set none."""

    step_s: float
    settle_s: float
    keeps_days: bool = False  # it can be asked for earlier days


def plan_for(name: str, config: Config, pace: Pace, strategy: Strategy, *, share: float | None = None) -> Plan:
    """Freeze how a deploy of the named service is watched."""
    service = config.services[name]
    rules = STRATEGIES[strategy]
    step_s = service.look_s or pace.step_s
    planned = max(1, round(service.watch_s / step_s))
    judge = config.judge_for(name).settings(planned_looks=planned, act_uncalibrated=service.act_uncalibrated)
    bakes = _bake(service, judge)
    return Plan(
        design=rules.design,
        source=service.source,
        metrics=service.metrics,
        judge=judge if bakes is None else replace(judge, budget=judge.budget - bakes.budget),
        step_s=step_s,
        settle_s=service.settle_s if service.settle_s >= 0 else pace.settle_s,
        watch_s=planned * step_s,
        baseline_looks=round(service.baseline_s / step_s),
        version_label=service.version_label,
        selector_labels=dict(service.selector),
        control_labels=dict(service.control) if rules.design is Design.BEFORE_AFTER else {},
        earlier_days=service.earlier_days if pace.keeps_days else 0,
        rollback_hook=service.rollback_hook,
        steps=service.steps.steps(share) if service.steps is not None and strategy in STEPPED else None,
        smoke_hook=service.smoke_hook if strategy is Strategy.BLUE_GREEN else None,
        restore_hook=service.restore_hook,
        schema_hook=service.schema_hook,
        migrate_down_hook=service.migrate_down_hook,
        pause_hook=service.pause_hook if strategy is Strategy.ROLLING else None,
        switch_hook=service.switch_hook if strategy is Strategy.BLUE_GREEN else None,
        bake=bakes,
        verify_s=config.policy.verify_s,
        hold_s=config.policy.hold_s,
        public_url=config.daemon.public_url.rstrip("/"),
    )


def _bake(service: ServiceConfig, judge: JudgeSettings) -> Bake | None:
    """The slow watch afterwards; its budget is part of the deploy's, so that both together keep it."""
    table = service.bake
    if table is None:
        return None
    return Bake(
        for_s=table.for_s,
        look_s=table.look_s,
        baseline_s=table.baseline_s,
        budget=judge.budget * table.budget_share,
        min_looks=judge.min_looks,
        control_labels=dict(service.control),
    )
