"""The words: one sentence per look, and the messages of each turn of the road. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from analysis.result import Verdict, VerdictKind
from analysis.sentence import seen
from watchdog.model import HoldReason, Message, MessageKind, Mode, Severity, State, Watch

_ENDINGS: Mapping[State, tuple[Severity, str]] = {
    State.PASSED: (Severity.GOOD, "passed"),
    State.ROLLED_BACK: (Severity.WARNING, "was rolled back"),
    State.NOT_RECOVERED: (Severity.PAGE, "was rolled back and has not recovered, look now"),
    State.INCONCLUSIVE: (Severity.WARNING, "ended inconclusive"),
    State.SUPERSEDED: (Severity.INFO, "is superseded"),
    State.CANCELLED: (Severity.INFO, "is watched no more"),
    State.NOT_NEEDED: (Severity.WARNING, "needs no rollback"),
    State.FAILED: (Severity.PAGE, "could not be rolled back, act now"),
    State.SMOKE_FAILED: (Severity.WARNING, "failed its smoke test, nobody was exposed"),
}


_QUIET_MODES = {Mode.OBSERVE: Severity.INFO, Mode.NOTIFY: Severity.WARNING}
_QUIET_HOLDS = frozenset(  # what an alarm comes to: where a mode only tells, it wakes nobody up
    {
        HoldReason.MODE_OBSERVE,
        HoldReason.MODE_NOTIFY,
        HoldReason.UNCALIBRATED,
        HoldReason.SHARED_CAUSE,
        HoldReason.NO_COUNTERPART,
    }
)
_FIRST_WORDS = re.compile(r"[^(;,:]+")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"))


def lasting(seconds: float) -> str:
    """A length of time with as many digits as anybody needs.

    >>> [lasting(s) for s in (1.14, 20.94, 100.0, 900.0, 7200.0, 400000.0)]
    ['1.1 s', '20.9 s', '100 s', '15 min', '2 h', '4.6 d']
    """
    size, unit = next(((size, unit) for size, unit in _SPANS if abs(seconds) >= 2 * size), (1, "s"))
    return f"{round(seconds / size, 1):g} {unit}"


def title(watch: Watch) -> str:
    """`checkout v42`, with the traffic share where one is known."""
    deploy = watch.deploy
    name = f"{deploy.service} {deploy.version}"
    if watch.plan.bakes:
        return f"{name} (bake)"
    if watch.share is None:
        return name
    return f"{name} ({deploy.strategy.value.replace('_', '-')} {watch.share * 100:g} %)"


def who(actor: str) -> str:
    """How a person is called in a sentence; the audit has the whole of it."""
    return "somebody on this machine" if actor == "loopback" else actor.removeprefix("token:")


def utc(at: float) -> str:
    """A moment for people, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def look_sentence(watch: Watch, said: str, *, next_look_s: float | None) -> str:
    """The sentence that goes to log, page, Slack, API and ledger alike."""
    tail = f", next look in {next_look_s:.0f} s" if next_look_s is not None else ""
    return f"{title(watch)}: {said}{tail}"


def found_worse(watch: Watch) -> str | None:
    """`was worse (errors 4.9 % vs 1.0 %)`: what was found of a deploy that ended otherwise; None where nothing was.

    Of its sentence the first words alone, before the numbers behind them and what was decided.
    """
    if watch.degraded_at is None or watch.verdict != VerdictKind.DEGRADED.value:
        return None
    head, _, said = watch.sentence.partition(": ")
    short = _FIRST_WORDS.match(said) if head.startswith(f"{watch.deploy.service} {watch.deploy.version}") else None
    found = short[0].strip() if short is not None else watch.metric
    return f"was worse ({found})" if found else "was worse"


def ending(
    watch: Watch, state: State, why: str, *, word: str | None = None, paused: bool = False, **facts: Any
) -> Message:
    """The closing message; every final state has one, good or bad. word: where the state's own would not be true;
    paused: nobody lets the roll-out go on any more."""
    severity, usual = _ENDINGS[state]
    said = f"{title(watch)} {word or usual}: {and_paused(why, paused=paused)}"
    if paused and severity is not Severity.PAGE:
        severity = Severity.WARNING
    return message(watch, MessageKind.ENDED, severity, said, state=state, key="ended", **facts)


def and_paused(why: str, *, paused: bool) -> str:
    """Words of an ending, with what is left undone."""
    return f"{why}; the roll-out is still paused" if paused else why


def hold_severity(watch: Watch, reason: HoldReason | None) -> Severity:
    """How loudly a hold is told: in the careful modes it is only what would have been done."""
    return _QUIET_MODES.get(watch.mode, Severity.PAGE) if reason in _QUIET_HOLDS else Severity.PAGE


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
    if (state or watch.state) is State.HELD:
        facts["choices"] = _choices(watch)
    return Message(
        key=key,
        watch_id=watch.id,
        kind=kind,
        severity=severity,
        sentence=sentence,
        facts={**watch_facts(watch), "state": (state or watch.state).value, **facts},
    )


def _choices(watch: Watch) -> list[str]:
    """What a human may decide about a held deploy, as the page and the API call it."""
    can_go_back = watch.plan.rollback_hook is not None and watch.deploy.previous_version is not None
    return ["approve", "deny"] if can_go_back else ["deny"]


def reasons(watch: Watch, verdict: Verdict) -> dict[str, Any]:
    """What a verdict rests on, as facts: its sentence, and a line for each metric with what would have been seen."""
    specs = {metric.spec.name: metric.spec for metric in watch.plan.metrics}
    lines = [
        "; ".join(filter(None, (evidence.sentence, seen(specs[evidence.metric], evidence))))
        for evidence in verdict.evidence
        if evidence.sentence and evidence.metric in specs
    ]
    return {"because": verdict.sentence, "metrics": lines}


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
        "looks": watch.looks,
        "watched_s": round(watch.looks * watch.plan.step_s, 1),
    }
    if deploy.train is not None:
        facts["train"] = deploy.train
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
