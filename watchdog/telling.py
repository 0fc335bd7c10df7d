"""The words: one sentence per look, and the messages of each turn of the road. Pure."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from watchdog.model import Message, MessageKind, Severity, State, Watch

_ENDINGS: Mapping[State, tuple[Severity, str]] = {
    State.PASSED: (Severity.GOOD, "passed"),
    State.ROLLED_BACK: (Severity.WARNING, "rolled back"),
    State.NOT_RECOVERED: (Severity.PAGE, "rolled back, but not recovered: look now"),
    State.INCONCLUSIVE: (Severity.WARNING, "nobody can tell"),
    State.SUPERSEDED: (Severity.INFO, "superseded"),
    State.CANCELLED: (Severity.INFO, "cancelled"),
    State.NOT_NEEDED: (Severity.WARNING, "no rollback needed"),
    State.FAILED: (Severity.PAGE, "the rollback failed: act now"),
    State.SMOKE_FAILED: (Severity.WARNING, "smoke test failed, nobody was exposed"),
}


def title(watch: Watch) -> str:
    """`checkout v42`, with the traffic share where one is known."""
    deploy = watch.deploy
    name = f"{deploy.service} {deploy.version}"
    if watch.share is None:
        return name
    return f"{name} ({deploy.strategy.value.replace('_', '-')} {watch.share * 100:g} %)"


def look_sentence(watch: Watch, said: str, *, next_look_s: float | None) -> str:
    """The sentence that goes to log, page, Slack, API and ledger alike."""
    tail = f", next look in {next_look_s:.0f} s" if next_look_s is not None else ""
    return f"{title(watch)}: {said}{tail}"


def ending(watch: Watch, state: State, why: str) -> Message:
    """The closing message; every final state has one, good or bad."""
    severity, word = _ENDINGS[state]
    return message(watch, MessageKind.ENDED, severity, f"{title(watch)} {word}: {why}", state=state, key="ended")


def message(
    watch: Watch,
    kind: MessageKind,
    severity: Severity,
    sentence: str,
    *,
    state: State | None = None,
    key: str,
    **facts: Any,
) -> Message:
    """A message about a watch, with the facts every sink may show."""
    return Message(
        key=key,
        watch_id=watch.id,
        kind=kind,
        severity=severity,
        sentence=sentence,
        facts={**watch_facts(watch), "state": (state or watch.state).value, **facts},
    )


def watch_facts(watch: Watch) -> dict[str, Any]:
    """What a reader wants beside the sentence."""
    deploy = watch.deploy
    facts: dict[str, Any] = {
        "service": deploy.service,
        "environment": deploy.environment,
        "version": deploy.version,
        "previous_version": deploy.previous_version,
        "strategy": deploy.strategy.value,
        "mode": watch.mode.value,
        "verdict": watch.verdict,
        "reason": watch.reason,
        "metric": watch.metric,
    }
    if watch.plan.public_url:
        facts["public_url"] = f"{watch.plan.public_url}/deploys/{quote(watch.id, safe='')}"
    if watch.total_requests > 0:
        facts |= {
            "exposed_requests": round(watch.exposed_requests),
            "affected_requests": round(watch.affected_requests),
            "total_requests": round(watch.total_requests),
        }
    if watch.degraded_at is not None:
        facts["time_to_detect_s"] = round(watch.degraded_at - watch.live_at, 1)
        if watch.recovered_at is not None:
            facts["time_to_recover_s"] = round(watch.recovered_at - watch.degraded_at, 1)
    return facts
