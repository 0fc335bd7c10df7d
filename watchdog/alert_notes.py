"""Alerts on the timeline of a deploy: what is written down, and which of them fire since it went live. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from watchdog.model import AuditEntry, Change, Message, MessageKind, Severity, Watch
from watchdog.sending import Alert
from watchdog.telling import message, title

FIRING, RESOLVED = "alert.firing", "alert.resolved"
MOST = 20  # of one notification that begin to fire, written down by name


def firing(entries: Iterable[AuditEntry], since: float) -> tuple[str, ...]:
    """The names of the alerts that began at or after `since` (Unix seconds) and have not been resolved."""
    last: dict[str, Mapping[str, object]] = {}
    for entry in entries:
        if entry.event in (FIRING, RESOLVED):
            last[str(entry.details.get("alert"))] = {**entry.details, "event": entry.event}
    found = [d for d in last.values() if d["event"] == FIRING and float(str(d.get("starts_at", 0))) >= since]
    return tuple(sorted({str(d.get("name")) for d in found}))


def noted(
    watch: Watch, alerts: Sequence[Alert], entries: Sequence[AuditEntry], *, actor: str, now: float
) -> Change | None:
    """What these alerts add to a watch; None where all of it is written down already."""
    fires = {
        str(e.details.get("alert")): e.details if e.event == FIRING else None
        for e in entries
        if e.event in (FIRING, RESOLVED)
    }
    ended = [alert for alert in alerts if not alert.is_firing and fires.get(alert.key) is not None]
    # What began since the deploy holds it up, so it comes first where not all can be written down.
    began = sorted((a for a in alerts if a.is_firing and _is_news(a, fires.get(a.key))), key=lambda a: -a.starts_at)
    news = [*ended, *began[:MOST]]
    if not news:
        return None
    begun = [alert for alert in news if alert.is_firing and alert.starts_at >= watch.deploy.deployed_at]
    return Change(
        watch_id=watch.id,
        at=now,
        expect_state=watch.state,
        audit=tuple(_entry(watch, alert, actor, now) for alert in news),
        messages=(_told(watch, begun),) if begun else (),
    )


def _is_news(alert: Alert, noted_last: Mapping[str, object] | None) -> bool:
    """Whether it fires anew: not known to fire, or since later than known, where the end in between was not told."""
    return noted_last is None or alert.starts_at > float(str(noted_last.get("starts_at", 0)))


def _entry(watch: Watch, alert: Alert, actor: str, now: float) -> AuditEntry:
    when = "" if alert.starts_at >= watch.deploy.deployed_at else ", since before the deploy"
    said = f"{alert.name} fires{when}" if alert.is_firing else f"{alert.name} is resolved"
    return AuditEntry(
        at=now,
        watch_id=watch.id,
        actor=actor,
        event=FIRING if alert.is_firing else RESOLVED,
        before=watch.state.value,
        after=watch.state.value,
        why=f"{said}: {alert.summary}" if alert.summary and alert.is_firing else said,
        details={"alert": alert.key, "name": alert.name, "starts_at": alert.starts_at},
    )


def _told(watch: Watch, begun: Sequence[Alert]) -> Message:
    names = sorted({alert.name for alert in begun})
    mark = sha256("".join(f"{alert.key} {alert.starts_at}" for alert in begun).encode()).hexdigest()[:16]
    fires = "fires" if len(names) == 1 else "fire"
    said = (
        f"{title(watch)}: {', '.join(names)} {fires} since the deploy; it is neither promoted nor passed meanwhile, "
        "and an alert alone rolls nothing back"
    )
    return message(watch, MessageKind.PROGRESS, Severity.WARNING, said, key=f"alerts:{mark}")
