"""The table of one service."""

from pydantic import Field

from watchdog.config.metrics import Label, MetricConfig
from watchdog.config.section import Flag, Mistake, Name, Number, Seconds, SecondsOrZero, Section
from watchdog.config.tables import JudgeOverrides
from watchdog.model import Metric, Mode, Strategy


class ServiceConfig(Section):
    """One service: where its metrics are, how it is deployed, how far the watchdog may go."""

    environment: Name = Field("production", description="environment of deploys that do not name one")
    mode: Mode = Field(Mode.OBSERVE, description="observe, notify, approve or auto: how far the watchdog may go")
    strategy: Strategy = Field(Strategy.CANARY, description="canary or direct; others are refused as yet")
    source: str = Field(min_length=1, description="name of a source below [sources]")
    rollback_hook: str | None = Field(None, description="name of a hook below [hooks]")
    sinks: tuple[str, ...] | None = Field(None, description="names of sinks below [sinks]; default: all of them")
    version_label: Label = Field("version", description="label that tells old and new series apart")
    selector: dict[Label, str] = Field(default_factory=dict, description="label values every series must have")
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
        if not self.metric_tables:
            found.append(Mistake(("metrics",), "is missing; expected at least one [[services.<name>.metrics]] table"))
        names = [table.name for table in self.metric_tables]
        for index, name in enumerate(names):
            if name in names[:index]:
                found.append(
                    Mistake(("metrics", index, "name"), f"a second metric is named {name!r}; expected one name each")
                )
        return found
