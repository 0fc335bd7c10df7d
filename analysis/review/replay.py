"""Stored watches judged again: the same samples and settings through the daemon's own decoder and judge."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import pandas as pd

from analysis.hindsight import known, watch
from analysis.judge import judge
from analysis.prepare import Observation
from analysis.result import JudgeSettings, Verdict, VerdictKind
from analysis.review.ledger import Ledger
from analysis.review.nouns import Stored
from analysis.review.progress import progress

Changes = Mapping[str, Mapping[str, Any]]
SAME = 1e-9  # in ln: how far evidence may lie apart on another processor, whose exp and log differ


def replay(
    ledger: Ledger, deploy: str, *, look: int | None = None, metrics: Changes | None = None, **changed: Any
) -> Verdict:
    """Judge a stored watch again as after one of its looks.

    Parameters
    ----------
    ledger, deploy
        Where it is, and its id.
    look
        The look; that of the last stored verdict by default, else the last one.
    metrics
        Changes of single metrics, e.g. ``{"latency": {"margin": 0.5}}``.
    **changed
        Judge settings to try instead of the frozen ones, e.g. ``budget=0.001``.

    Returns
    -------
    Verdict
        With nothing changed: what was stored. Bit for bit on the same processor; elsewhere the same word, look and
        sentence, with evidence (in ln) within 1e-9.

    Raises
    ------
    KeyError
        The ledger does not know the deploy, or the deploy not the metric.
    TypeError
        Something changed is no setting.
    """
    stored = ledger.stored(deploy)
    at = _last_look(stored) if look is None else look
    return judge([_as_after(stored, at, metrics)], [_settings(stored, changed)])[0]


def what_if(ledger: Ledger, *, metrics: Changes | None = None, **changed: Any) -> pd.DataFrame:
    """Every deploy watched again under other settings, to its first alarm or to the last look that was judged.

    Samples end where the real watch ended: after a rollback there is no candidate to look at. A more cautious setting
    that finds nothing by then might have found it later; `cut_short` marks these.

    Returns
    -------
    DataFrame
        Indexed by deploy: `verdict`, `reason`, `metric`, `alarm_look`, `alarm_at_s` (s after the deploy, NaN without
        one), `log_evidence` (ln), `sentence`, `was` (the stored verdict) and `cut_short`.
    """
    said = ledger.deploys["verdict"].to_dict()
    rows = []
    for name in progress([str(name) for name in said], "judging again"):
        stored = ledger.stored(name)
        seen = _as_after(stored, _last_look(stored), metrics)
        settings = _settings(stored, changed)
        found = watch(seen, settings)
        rows.append(
            _row(name, found, seen)
            | {"was": said[name]}
            | {"cut_short": found.kind is not VerdictKind.DEGRADED and seen.looks < settings.planned_looks}
        )
    columns = [
        "verdict",
        "reason",
        "metric",
        "alarm_look",
        "alarm_at_s",
        "log_evidence",
        "sentence",
        "was",
        "cut_short",
    ]
    return pd.DataFrame(rows, columns=["deploy", *columns]).set_index("deploy")


def recompute(ledger: Ledger) -> pd.DataFrame:
    """Every stored verdict beside what the judge says today of what was known then.

    Returns
    -------
    DataFrame
        Indexed by (deploy, look): the stored `verdict` and `sentence`, those of `now` and `now_sentence`, `gap` (of
        the evidence, in ln), and whether they are the `same` and `bit_for_bit` so.
    """
    said = ledger.verdicts
    rows: list[dict[str, Any]] = []
    names = list(dict.fromkeys(said.index.get_level_values("deploy")))
    for name in progress(names, "judging again"):
        stored = ledger.stored(name)
        mine = said.loc[[name]]
        looks = [int(look) for look in mine.index.get_level_values("look")]
        seen = [_as_after(stored, look, None) for look in looks]
        again = judge(seen, [stored.settings] * len(seen))
        rows += [
            _compared(name, look, then, now) for look, (_, then), now in zip(looks, mine.iterrows(), again, strict=True)
        ]
    columns = ["verdict", "now", "sentence", "now_sentence", "gap", "same", "bit_for_bit"]
    return pd.DataFrame(rows, columns=["deploy", "look", *columns]).set_index(["deploy", "look"])


def _compared(name: str, look: int, then: "pd.Series[Any]", now: Verdict) -> dict[str, Any]:
    gap = abs(float(then["log_evidence"]) - now.log_evidence)
    words = (then["verdict"], _text(then["reason"]), _text(then["metric"]), then["sentence"])
    same = words == (now.kind.value, now.reason, now.metric, now.sentence) and now.look == look and not gap > SAME
    told = {"deploy": name, "look": look, "verdict": then["verdict"], "now": now.kind.value}
    sentences = {"sentence": then["sentence"], "now_sentence": now.sentence}
    return {**told, **sentences, "gap": gap, "same": same, "bit_for_bit": same and gap == 0}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _row(name: str, found: Verdict, seen: Observation) -> dict[str, Any]:
    alarm = found.alarm_look
    return {
        "deploy": name,
        "verdict": found.kind.value,
        "reason": found.reason.value if found.reason is not None else None,
        "metric": found.metric,
        "alarm_look": alarm,
        "alarm_at_s": (alarm + 1) * seen.step_s if alarm is not None else float("nan"),
        "log_evidence": found.log_evidence,
        "sentence": found.sentence,
    }


def _last_look(stored: Stored) -> int:
    return max(stored.shares, default=stored.observation.looks - 1)


def _as_after(stored: Stored, look: int, metrics: Changes | None) -> Observation:
    seen = known(stored.observation, min(look + 1, stored.observation.looks))
    seen = replace(seen, share=stored.shares.get(look, seen.share))
    return seen if not metrics else replace(seen, metrics=tuple(_changed(seen, metrics)))


def _changed(seen: Observation, metrics: Changes) -> Sequence[Any]:
    unknown = set(metrics) - {spec.name for spec in seen.metrics}
    if unknown:
        raise KeyError(f"there is no metric {min(unknown)!r}; known are {', '.join(s.name for s in seen.metrics)}")
    return [replace(spec, **metrics.get(spec.name, {})) for spec in seen.metrics]


def _settings(stored: Stored, changed: Mapping[str, Any]) -> JudgeSettings:
    names = {field.name for field in fields(JudgeSettings)}
    unknown = sorted(set(changed) - names)
    if unknown:
        raise TypeError(f"{unknown[0]!r} is no judge setting; known are {', '.join(sorted(names))}")
    return replace(stored.settings, **changed)
