"""Where analysts say what a verdict was worth: right, a false alarm, a fault missed, or unclear."""

from dataclasses import dataclass

from watchdog.errors import NotFoundError, RefusedError
from watchdog.model import FINAL, AuditEntry, Label, LabelKind, State
from watchdog.ports import Clock, Ledger
from watchdog.telling import title

_CALLED_BAD = "DEGRADED"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelDesk:
    """Every change of a label is audited, with the word before it."""

    ledger: Ledger
    clock: Clock

    def label(self, deploy_id: str, kind: LabelKind, *, actor: str, note: str = "") -> Label:
        """Say it.

        Raises
        ------
        NotFoundError
            No such deploy.
        RefusedError
            It is not over yet, or the word contradicts the verdict: only what was called DEGRADED can be a false
            alarm, and only what was not can have been missed.
        """
        watch = self.ledger.watch(deploy_id)
        if watch is None:
            raise NotFoundError(f"no deploy {deploy_id!r} is on record", permanent=True)
        if watch.state not in FINAL and watch.state is not State.HELD:
            raise RefusedError(f"{title(watch)} is {watch.state.value}; label it when it is over")
        if kind not in possible_labels(watch.verdict):
            raise RefusedError(f"{title(watch)} was called {watch.verdict or 'nothing'}; {kind.value} contradicts that")
        before = self.ledger.labels([watch.id]).get(watch.id)
        label = Label(watch_id=watch.id, kind=kind, note=note, actor=actor, at=self.clock.now())
        entry = AuditEntry(
            at=label.at,
            watch_id=watch.id,
            actor=actor,
            event="operator.label",
            before=before.kind.value if before is not None else "",
            after=kind.value,
            why=note,
        )
        self.ledger.set_label(label, entry)
        return label


def possible_labels(verdict: str | None) -> tuple[LabelKind, ...]:
    """The words that do not contradict a verdict."""
    wrong = LabelKind.FALSE_ALARM if verdict == _CALLED_BAD else LabelKind.MISSED
    return (LabelKind.RIGHT, wrong, LabelKind.UNCLEAR)
