"""What `check` says of services by configuration and record: strategy, migrations, and the mode they have earned."""

from collections.abc import Iterable, Iterator

from watchdog.cli.findings import Finding
from watchdog.config import Config, ServiceConfig
from watchdog.model import LabelKind, Mode, Strategy
from watchdog.planning import STEPPED
from watchdog.policy import LIVES_WITH_BOTH
from watchdog.ports import Tally
from watchdog.quality import JUDGED

APPROVE_DEPLOYS, AUTO_DEPLOYS = 5, 20  # deploys judged without a false alarm before the mode is supported
_ORDER = (Mode.OBSERVE, Mode.NOTIFY, Mode.APPROVE, Mode.AUTO)


def service_findings(config: Config) -> Iterator[Finding]:
    """Say what a service's mode asks for and does not have."""
    if not config.services:
        yield Finding(
            "problem", "services", "none is configured, nothing would be watched", "add a table [services.<name>]"
        )
    for name, service in config.services.items():
        yield from _strategy_findings(f"services.{name}", service)
        yield from _mode_findings(f"services.{name}", service, config, placebo_rate=config.judge_for(name).placebo_rate)
        told = tuple(config.sinks) if service.sinks is None else service.sinks
        if not told:
            yield Finding("warning", f"services.{name}.sinks", "nobody is told anything", "add a table [sinks.<name>]")


def _strategy_findings(about: str, service: ServiceConfig) -> Iterator[Finding]:
    """Say which keys mean nothing for the service's strategy; a deploy may still name another one."""
    only = {
        "steps": STEPPED,
        "smoke_hook": {Strategy.BLUE_GREEN},
        "switch_hook": {Strategy.BLUE_GREEN},
        "pause_hook": {Strategy.ROLLING},
    }
    for key, strategies in only.items():
        if getattr(service, key) is not None and service.strategy not in strategies:
            which = " and ".join(sorted(s.value for s in strategies))
            said = f"means nothing for strategy {service.strategy.value}; it is for {which}"
            yield Finding("warning", f"{about}.{key}", said, "take it out, or let the deploys name that strategy")
    if service.steps is not None and service.strategy in STEPPED and service.mode not in (Mode.AUTO, Mode.APPROVE):
        remedy = 'set mode = "approve", where each step waits for a human, or "auto"'
        yield Finding("warning", f"{about}.steps", f"in mode {service.mode.value} nothing grows", remedy)


def _mode_findings(
    about: str, service: ServiceConfig, config: Config, *, placebo_rate: float | None
) -> Iterator[Finding]:
    hook = config.hooks.get(service.rollback_hook or "")
    if service.mode is Mode.APPROVE and hook is None:
        yield Finding(
            "problem", f"{about}.rollback_hook", "approve mode has nothing to approve", "name a hook of [hooks]"
        )
    if service.mode is Mode.AUTO and hook is not None and hook.kind == "dry_run":
        remedy = "name a hook that does something"
        yield Finding("warning", f"{about}.rollback_hook", "auto mode with a dry_run hook changes nothing", remedy)
    calibrated = service.act_uncalibrated or placebo_rate is not None
    if service.mode is Mode.AUTO and service.strategy is Strategy.DIRECT and not calibrated:
        yield Finding(
            "warning",
            f"{about}.act_uncalibrated",
            "a direct deploy is compared with the time before it, and its false-rollback rate is not known: "
            "rollbacks will be held as UNCALIBRATED",
            "measure placebo_rate and set it in [judge], or set act_uncalibrated = true",
        )


def migration_findings(config: Config) -> Iterator[Finding]:
    """Say what becomes of a deploy with a migration."""
    held = [word for word in ("contract", "irreversible", "unknown") if word not in LIVES_WITH_BOTH]
    for name, service in config.services.items():
        marks = (
            "restore_hook marks a restore point first"
            if service.restore_hook
            else "no restore_hook marks a restore point"
        )
        down = (
            "migrate_down_hook takes it back when an operator asks"
            if service.migrate_down_hook
            else "no migrate_down_hook takes it back"
        )
        said = f"a deploy whose event says migration = {', '.join(held)} is held for a human when it is worse"
        yield Finding("ok", f"services.{name}.migration", f"{said}, not rolled back; {marks}; {down}")


def mode_findings(config: Config, has_samples: frozenset[str], tallies: Iterable[Tally] | None) -> Iterator[Finding]:
    """Say which mode the evidence supports. `has_samples`: services whose every metric was seen."""
    rows = list(tallies or ())
    for name, service in config.services.items():
        mine = [row for row in rows if row.service == name and row.verdict in JUDGED]
        judged = sum(row.count for row in mine)
        wrong = sum(row.count for row in mine if row.label is LabelKind.FALSE_ALARM)
        judge = config.judge_for(name)
        proven = judge.placebo_rate is not None and judge.placebo_rate <= judge.budget
        supported, lack = _supported(config, name, judged=judged, wrong=wrong, proven=proven, seen=name in has_samples)
        record = f"{_deploys(judged)} judged, {wrong} labelled false alarm"
        rate = "not measured" if judge.placebo_rate is None else f"{judge.placebo_rate:g}"
        said = f"the evidence supports {supported.value} ({record}; placebo_rate {rate})"
        about = f"services.{name}.mode"
        if _ORDER.index(service.mode) > _ORDER.index(supported):
            yield Finding("warning", about, f"is {service.mode.value}, and {said}", lack)
        else:
            yield Finding("ok", about, f"{said}{f'; for more: {lack}' if lack else ''}")


def _deploys(number: int) -> str:
    return "1 deploy" if number == 1 else f"{number} deploys"


def _supported(config: Config, name: str, *, judged: int, wrong: int, proven: bool, seen: bool) -> tuple[Mode, str]:
    """The mode that is earned, and what the next one lacks."""
    service = config.services[name]
    hook = config.hooks.get(service.rollback_hook or "")
    options = getattr(hook, "options", None)
    probes = [getattr(options, key) for key in ("probe_argv", "probe_url") if hasattr(options, key)]
    calibrate = f"measure placebo_rate by `deploy-watchdog calibrate --config FILE --service {name}`"
    if not seen:
        return Mode.OBSERVE, "every metric must have samples"
    if hook is None:
        return Mode.NOTIFY, "name a rollback_hook"
    if wrong:
        return Mode.NOTIFY, f"see why {_deploys(wrong)} labelled false alarm came to be called bad; {calibrate}"
    if judged < APPROVE_DEPLOYS and not proven:
        return Mode.NOTIFY, f"watch {_deploys(APPROVE_DEPLOYS - judged)} more, or {calibrate}"
    if probes and not any(probes):
        return Mode.APPROVE, "give the rollback hook a probe"
    if service.strategy in (Strategy.DIRECT, Strategy.BLUE_GREEN) and not proven:
        return Mode.APPROVE, calibrate
    if judged < AUTO_DEPLOYS and not proven:
        return Mode.APPROVE, f"watch {_deploys(AUTO_DEPLOYS - judged)} more, or {calibrate}"
    return Mode.AUTO, ""
