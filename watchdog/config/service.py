"""The table of one service."""

from pydantic import Field

from watchdog.config.metrics import Label, MetricConfig
from watchdog.config.section import Count, Flag, Mistake, Name, Number, Seconds, SecondsOrZero, Section
from watchdog.config.tables import JudgeOverrides
from watchdog.model import LowTraffic, Metric, Mode, Steps, Strategy


class StepsConfig(Section):
    """How a canary or a flag grows by itself while nothing is wrong."""

    shares: tuple[Number, ...] = Field(min_length=2, max_length=50, description="shares of the traffic, rising to 1")
    bake_s: Seconds = Field(120.0, description="least seconds at each share")
    promote_hook: Name = Field(description="name of a hook below [hooks]; it sets the share in PARAM_SHARE")
    low_traffic: LowTraffic = Field(LowTraffic.WAIT, description="wait or advance, where nobody can tell after bake_s")
    max_step: Number = Field(0.25, gt=0, le=1, description="largest share that is reached without being able to tell")

    def mistakes(self) -> list[Mistake]:
        found = []
        for index, (share, before) in enumerate(zip(self.shares, (0.0, *self.shares), strict=False)):
            if not before < share <= 1:
                found.append(
                    Mistake(
                        ("shares", index), f"expected more than {before:g} and at most 1 (all traffic), got {share:g}"
                    )
                )
        if not found and self.shares[-1] != 1:
            found.append(
                Mistake(
                    ("shares", len(self.shares) - 1), f"expected 1 (all traffic) at the end, got {self.shares[-1]:g}"
                )
            )
        return found

    def steps(self, begun: float | None) -> Steps:
        """The steps of one deploy, which begins with the share it has already, or with the first one."""
        first = begun if begun is not None else self.shares[0]
        return Steps(
            shares=(first, *(share for share in self.shares if share > first)),
            bake_s=self.bake_s,
            hook=self.promote_hook,
            low_traffic=self.low_traffic,
            max_step=self.max_step,
        )


class BakeConfig(Section):
    """How a deploy that has passed is looked at further."""

    for_s: Seconds = Field(14_400.0, description="until so many seconds after the deploy")
    look_s: Seconds = Field(300.0, description="seconds between two looks")
    baseline_s: Seconds = Field(14_400.0, description="seconds before the deploy that it is compared with")
    budget_share: Number = Field(0.25, gt=0, lt=1, description="its part of the budget; the watch itself has the rest")

    def mistakes(self) -> list[Mistake]:
        if self.for_s < 2 * self.look_s:
            least = 2 * self.look_s
            return [Mistake(("for_s",), f"expected at least two looks, {least:g}, got {self.for_s:g}")]
        return []


class ServiceConfig(Section):
    """One service: where its metrics are, how it is deployed, how far the watchdog may go."""

    environment: Name = Field("production", description="what the metrics are of; of deploys that name none")
    environments: tuple[str, ...] = Field(
        (), description='others whose deploys are judged by these same metrics, such as ["eu-*"]; else they are refused'
    )
    mode: Mode = Field(Mode.OBSERVE, description="observe, notify, approve or auto: how far the watchdog may go")
    strategy: Strategy = Field(Strategy.CANARY, description="direct, rolling, blue_green, canary or flag")
    source: str = Field(min_length=1, description="name of a source below [sources]")
    rollback_hook: str | None = Field(None, description="name of a hook below [hooks]")
    smoke_hook: str | None = Field(None, description="blue_green: hook that tests a version before it gets traffic")
    switch_hook: str | None = Field(None, description="blue_green: hook that gives a version all traffic")
    pause_hook: str | None = Field(None, description="rolling: hook that stops the roll-out at the first suspicion")
    restore_hook: str | None = Field(None, description="hook that marks a restore point of the data at the start")
    schema_hook: str | None = Field(None, description="hook that prints which version the database's schema has")
    migrate_down_hook: str | None = Field(None, description="hook that takes a migration back; only by an operator")
    steps: StepsConfig | None = Field(None, description="canary and flag: how the share grows by itself")
    bake: BakeConfig | None = Field(None, description="a slow watch after a deploy has passed")
    sinks: tuple[str, ...] | None = Field(None, description="names of sinks below [sinks]; default: all of them")
    version_label: Label = Field("version", description="label that tells old and new series apart")
    presets: tuple[str, ...] = Field((), description="packs of metrics by name; a table below replaces its namesake")
    selector: dict[Label, str] = Field(default_factory=dict, description="label values every series must have")
    control: dict[Label, str] = Field(
        default_factory=dict,
        description="direct: label values of series the deploy cannot touch; what hits them too is not its fault",
    )
    earlier_days: Count = Field(
        3, ge=0, le=14, description="direct, blue_green: earlier days whose same hours may explain a worsening; 0: none"
    )
    watch_s: Seconds = Field(900.0, description="seconds one deploy is watched")
    look_s: SecondsOrZero = Field(0.0, description="seconds between two looks; 0 takes the source's own")
    settle_s: Number = Field(-1.0, ge=-1, le=3600, description="seconds an interval may still change; -1: the source's")
    baseline_s: Seconds = Field(900.0, description="seconds before the deploy that are looked back at")
    act_uncalibrated: Flag = Field(False, description="act on before/after verdicts without a known placebo rate")
    judge: JudgeOverrides | None = Field(None, description="overrides of [judge] for this service")
    metric_tables: tuple[MetricConfig, ...] = Field((), alias="metrics", description="what is compared")

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Return the metrics as the sources and the judge take them."""
        return tuple(table.metric() for table in self.metric_tables)

    def mistakes(self) -> list[Mistake]:
        found = []
        if self.look_s > self.watch_s:
            found.append(Mistake(("look_s",), f"expected at most watch_s = {self.watch_s:g}, got {self.look_s:g}"))
        if self.mode is Mode.AUTO and self.rollback_hook is None:
            found.append(Mistake(("rollback_hook",), "is missing; mode 'auto' needs a hook to roll back with"))
        if self.smoke_hook is not None and self.switch_hook is None:
            found.append(
                Mistake(("switch_hook",), "is missing; a smoke test comes before a switch that the watchdog makes")
            )
        if self.bake is not None and self.bake.for_s <= self.watch_s:
            wanted = f"expected more than watch_s = {self.watch_s:g}, where the watch ends, got {self.bake.for_s:g}"
            found.append(Mistake(("bake", "for_s"), wanted))
        if self.steps is not None and self.steps.bake_s * (len(self.steps.shares) - 1) > self.watch_s:
            least = self.steps.bake_s * (len(self.steps.shares) - 1)
            found.append(
                Mistake(("watch_s",), f"{self.watch_s:g} is too short for the steps: they take at least {least:g} s")
            )
        if not self.metric_tables and not self.presets:
            expected = "expected at least one [[services.<name>.metrics]] table, or presets"
            found.append(Mistake(("metrics",), f"is missing; {expected}"))
        names = [table.name for table in self.metric_tables]
        for index, name in enumerate(names):
            if name in names[:index]:
                found.append(
                    Mistake(("metrics", index, "name"), f"a second metric is named {name!r}; expected one name each")
                )
        return found
