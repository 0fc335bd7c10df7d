"""Spans as the daemon draws them, and the names that OpenTelemetry gives to what a log line or span is about.

Spans are off unless configured; `watchdog/otel.py` is the implementation that exports them.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Protocol

from analysis.result import Verdict
from watchdog.model import FINAL, Action, Change, State, Watch

Value = str | bool | int | float
_SUCCEEDED = frozenset({State.PASSED})
_FAILED = frozenset({State.ROLLED_BACK, State.NOT_RECOVERED, State.SMOKE_FAILED, State.FAILED})


class Span(Protocol):
    """A piece of work with a beginning and an end."""

    def set(self, attributes: Mapping[str, Value]) -> None: ...


class Spans(Protocol):
    """Draws spans; all of one deploy are one trace, whichever replica and thread draws them."""

    # `since`: when it began, in Unix seconds; default: now. An exception inside is noted on the span and goes on.
    def span(
        self, name: str, deploy_id: str, attributes: Mapping[str, Value], *, since: float | None = None
    ) -> AbstractContextManager[Span]: ...
    def close(self) -> None: ...


class _NoSpan:
    def set(self, attributes: Mapping[str, Value]) -> None:
        pass


class _NoSpans:
    def span(self, *_: object, **__: object) -> AbstractContextManager[Span]:
        return nullcontext(_NoSpan())

    def close(self) -> None:
        pass


NO_SPANS: Spans = _NoSpans()


def about(watch: Watch, change: Change) -> dict[str, object]:
    """What a line of the log is about, for those who read it as JSON."""
    return {"attributes": of_watch(replace(watch, state=change.to_state or watch.state))}


def of_watch(watch: Watch) -> dict[str, Value]:
    """What a log line or span about a deploy carries; `deployment.*` as OpenTelemetry names it."""
    deploy = watch.deploy
    told: dict[str, Value] = {
        "deployment.id": deploy.id,
        "deployment.name": f"{deploy.service} {deploy.version}",
        "deployment.environment.name": deploy.environment,
        "deploy_watchdog.service": deploy.service,
        "deploy_watchdog.version": deploy.version,
        "deploy_watchdog.strategy": deploy.strategy.value,
        "deploy_watchdog.state": watch.state.value,
    }
    if watch.state in FINAL and watch.state in _SUCCEEDED | _FAILED:
        told["deployment.status"] = "succeeded" if watch.state in _SUCCEEDED else "failed"
    return told


def of_verdict(verdict: Verdict) -> dict[str, Value]:
    """What was said at a look; evidence in natural logarithms."""
    return {
        "deploy_watchdog.verdict": verdict.kind.value,
        "deploy_watchdog.look": verdict.look,
        "deploy_watchdog.log_evidence": verdict.log_evidence,
        "deploy_watchdog.sentence": verdict.sentence,
    }


def of_action(action: Action) -> dict[str, Value]:
    """The same for a production change."""
    return {
        "deployment.id": action.watch_id,
        "deployment.name": f"{action.service} {action.from_version}",
        "deployment.environment.name": action.environment,
        "deploy_watchdog.service": action.service,
        "deploy_watchdog.action.id": action.id,
        "deploy_watchdog.action.kind": action.kind.value,
        "deploy_watchdog.action.attempt": action.attempt,
        "deploy_watchdog.action.fence": action.fence,
        "deploy_watchdog.hook": action.hook,
    }
