"""What is said and written down when a deploy begins to be watched. Pure."""

from watchdog.model import AuditEntry, Message, MessageKind, Plan, Severity, Watch
from watchdog.policy import LIVES_WITH_BOTH
from watchdog.telling import lasting, message, title, utc


def begins(plan: Plan) -> str:
    """What happens first."""
    if plan.smoke_hook is not None and plan.switch_hook is not None:
        return "smoke test before the switch"
    return (
        "switching" if plan.switch_hook is not None else f"watching, first look in {plan.step_s + plan.settle_s:.0f} s"
    )


def started(watch: Watch) -> Message:
    """The first message of a deploy."""
    said = f"{title(watch)} is live; watching for {lasting(watch.plan.watch_s)} in mode {watch.mode.value}"
    return message(watch, MessageKind.STARTED, Severity.INFO, said, key="started")


def migration_warning(watch: Watch) -> str:
    """Said before anything goes wrong, where the way back is closed, or will be before the watch is over."""
    migration, until = watch.deploy.migration, watch.deploy.safe_to_rollback_until
    if migration not in LIVES_WITH_BOTH:
        return (
            f"code and a migration ({migration}) in one deploy: there is no automatic way back if it goes wrong; "
            "have the fix forward ready, and next time ship the migration by itself"
        )
    if until is not None and until < watch.live_at + watch.plan.watch_s:
        return f"going back is safe only until {utc(until)}, and the watch is longer: after that a human decides"
    return ""


def warned(watch: Watch, warning: str) -> list[Message]:
    """The warning as a message, where there is one."""
    said = f"{title(watch)}: {warning}"
    return [message(watch, MessageKind.PROGRESS, Severity.WARNING, said, key="migration")] if warning else []


def entries(watch: Watch, actor: str, warning: str) -> list[AuditEntry]:
    """What the audit keeps of it."""
    received = AuditEntry(
        at=watch.created_at,
        watch_id=watch.id,
        actor=actor,
        event="deploy.received",
        after=watch.state.value,
        why=f"{watch.deploy.version} of {watch.deploy.service} went live",
        details={"strategy": watch.deploy.strategy.value, "previous_version": watch.deploy.previous_version},
    )
    noted = AuditEntry(
        at=watch.created_at, watch_id=watch.id, actor="daemon", event="deploy.warned", why=f"warning: {warning}"
    )
    return [received, noted] if warning else [received]
