"""What `check` finds: the configuration's own mistakes, and what the world around it says. Nothing is changed."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from analysis.result import Arm, SourceStatus
from watchdog.app import Parts, load_config, parts_of
from watchdog.config import Config, ServiceConfig
from watchdog.errors import ConfigError, Problem, WatchdogError
from watchdog.intake import STEPPED
from watchdog.model import Mode, Strategy
from watchdog.ports import ArmWindow, Clock, LookAnswer, LookRequest, Source

_LONGEST_WARM_UP_S = 5.0  # a source that scrapes by itself needs two of its rounds first
_ROUNDS = 3

Level = Literal["problem", "warning", "ok"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and what to do about it."""

    level: Level
    about: str
    message: str
    remedy: str = ""

    @property
    def is_problem(self) -> bool:
        return self.level == "problem"

    def line(self) -> str:
        """Return the finding as one line for people."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.level:<8} {self.about}: {self.message}{remedy}"

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def check_file(path: Path) -> list[Finding]:
    """Return every finding about a configuration file; the file's own mistakes come alone."""
    try:
        config = load_config(path)
        parts = parts_of(config)
    except ConfigError as error:
        return [_mistake(problem) for problem in error.problems]
    except WatchdogError as error:
        return [Finding("problem", str(path), error.message, "correct it")]
    return [
        *ledger_findings(config),
        *service_findings(config),
        *hook_findings(config),
        *source_findings(config, parts),
    ]


def _mistake(problem: Problem) -> Finding:
    where = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
    return Finding("problem", ": ".join(part for part in (where, problem.key) if part), problem.message)


def ledger_findings(config: Config) -> Iterator[Finding]:
    """Say whether the ledger can be where it should be."""
    if "://" in config.daemon.ledger:
        return
    folder = Path(config.daemon.ledger).resolve().parent
    if not folder.is_dir():
        yield Finding("problem", "daemon.ledger", f"there is no folder {folder}", f"run: mkdir -p {folder}")
    else:
        yield Finding("ok", "daemon.ledger", f"{Path(config.daemon.ledger).resolve()}")


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
    if service.steps is not None and service.strategy in STEPPED and service.mode is not Mode.AUTO:
        yield Finding(
            "warning", f"{about}.steps", f"in mode {service.mode.value} nothing grows by itself", 'set mode = "auto"'
        )


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


def hook_findings(config: Config) -> Iterator[Finding]:
    """Say whether the programs of the hooks are there. None is run: a hook changes production."""
    for name, hook in config.hooks.items():
        for key in ("argv", "probe_argv"):
            argv = getattr(hook.options, key, ())
            if argv:
                yield _program(f"hooks.{name}.{key}", argv[0])
        probes = [getattr(hook.options, key) for key in ("probe_argv", "probe_url") if hasattr(hook.options, key)]
        if probes and not any(probes):
            yield Finding(
                "warning",
                f"hooks.{name}",
                "without a probe nobody can tell whether an interrupted rollback took effect; it will wait as UNKNOWN",
                "set probe_argv or probe_url",
            )


def _program(about: str, program: str) -> Finding:
    found = shutil.which(program)
    if found is None:
        return Finding(
            "problem", about, f"there is no program {program!r} that may be run", "install it, or chmod +x it"
        )
    return Finding("ok", about, found)


def source_findings(config: Config, parts: Parts) -> Iterator[Finding]:
    """Ask every source once for what its services need, with old and new version together."""
    for name, source in parts.sources.items():
        services = {key: service for key, service in config.services.items() if service.source == name}
        try:
            source.start()
            yield from _asked(name, source, services, config, parts.clock)
        except WatchdogError as error:
            yield Finding("problem", f"sources.{name}", error.message, "correct its options")
        finally:
            source.close()


def _asked(
    name: str, source: Source, services: Mapping[str, ServiceConfig], config: Config, clock: Clock
) -> Iterator[Finding]:
    if not services:
        yield Finding("warning", f"sources.{name}", "no service uses it", "name it as a service's source, or remove it")
        return
    answers = _fetched(source, services, config, clock)
    if not all(_is_whole(answer, service) for answer, service in zip(answers, services.values(), strict=True)):
        longest_s = max(_step_s(service, source) for service in services.values())
        clock.sleep(min(_LONGEST_WARM_UP_S, _ROUNDS * longest_s))  # who reads pages has no past yet
        answers = _fetched(source, services, config, clock)
    for key, answer in zip(services, answers, strict=True):
        yield from _told(f"sources.{name}", f"services.{key}", services[key], answer)


def _fetched(source: Source, services: Mapping[str, ServiceConfig], config: Config, clock: Clock) -> list[LookAnswer]:
    requests = [_request(key, service, source, clock.now()) for key, service in services.items()]
    return source.fetch(requests, deadline_s=config.daemon.fetch_deadline_s)


def _is_whole(answer: LookAnswer, service: ServiceConfig) -> bool:
    has_samples = (name in answer.cells and answer.cells[name].value for name in _names(service))
    return answer.facts.status is SourceStatus.OK and all(has_samples)


def _names(service: ServiceConfig) -> list[str]:
    return [metric.spec.name for metric in service.metrics]


def _step_s(service: ServiceConfig, source: Source) -> float:
    return service.look_s or source.default_step_s


def _request(key: str, service: ServiceConfig, source: Source, now: float) -> LookRequest:
    end = now - (service.settle_s if service.settle_s >= 0 else source.default_settle_s)
    arm = ArmWindow(
        arm=Arm.BASELINE.value, start=end - _step_s(service, source), end=end, labels=dict(service.selector)
    )
    return LookRequest(watch_id=f"check:{key}", service=key, interval=0, arms=(arm,), metrics=service.metrics)


def _told(source: str, about: str, service: ServiceConfig, answer: LookAnswer) -> Iterator[Finding]:
    if answer.facts.status is SourceStatus.DOWN:
        remedy = "see that its address is right and that it can be reached from here"
        yield Finding("problem", source, f"does not answer: {answer.facts.detail or 'no reason given'}", remedy)
        return
    if answer.facts.status is SourceStatus.PARTIAL:
        yield Finding("warning", source, f"answers in part only: {answer.facts.detail}", "look into its own log")
    for name in _names(service):
        cells = answer.cells.get(name)
        key = f"{about}.metrics.{name}"
        if cells is None or not cells.value:
            yield Finding("warning", key, "no samples in the last interval", _where_to_look(service))
        else:
            yield Finding("ok", key, f"{len(cells.value)} samples in the last interval")


def _where_to_look(service: ServiceConfig) -> str:
    where = ", ".join(f'{label}="{value}"' for label, value in service.selector.items())
    matched = f" with {where}" if where else ""
    return f"see that the series exist{matched}, and that there is traffic"
