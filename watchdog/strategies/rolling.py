"""Rolling: the old version's servers are replaced one by one; both versions serve side by side meanwhile."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from analysis.prepare import Cells
from analysis.result import Arm, SourceStatus
from watchdog.model import StoredLook
from watchdog.strategies.canary import Canary

_GROUP = re.compile(r"group-\d+")  # what `sources.fold` calls a part of an arm's instances, where there are many


class Rolling(Canary):
    """Arms by version label for as long as both live. Servers that join or leave change an arm's traffic and not what
    it is compared by; once the old version is gone, its own past before the deploy stands in for it."""


def frozen(before: Sequence[StoredLook], fresh: Sequence[StoredLook]) -> list[StoredLook]:
    """Fresh looks, in which the old version's past takes the place of an old version that is gone.

    Each interval before the deploy stands in once, so that nothing is counted twice; when they are used up, nothing
    more is said about the old version. before: the looks stored so far; those before the deploy may be fresh too.
    """
    known = [*before, *fresh]
    past = [look for look in known if look.interval < 0 and any(map(_has_history, look.cells.values()))]
    used = sum(look.facts.frozen for look in before)
    filled = []
    for look in fresh:
        if look.interval >= 0 and used < len(past) and is_alone(look):
            filled.append(_filled(look, past[used]))
            used += 1
        else:
            filled.append(look)
    return filled


def updated_servers(
    looks: Sequence[StoredLook], announced: Sequence[str], *, unnamed: Collection[str] = ()
) -> list[str]:
    """The servers that have the new version: those that were announced, and those ever seen with it.

    Nothing where that is not all of them: what an arm has too many of is stored in groups, under no name that anybody
    could put back. unnamed: metrics whose series are not told apart by server.
    """
    found = set(announced)
    for look in looks:
        for metric, cells in look.cells.items():
            if look.interval < 0 or metric in unnamed:
                continue
            found |= {name for arm, name in zip(cells.arm, cells.replica, strict=True) if arm == Arm.CANDIDATE and name}
    return [] if any(map(_GROUP.fullmatch, found)) else sorted(found)


def is_alone(look: StoredLook) -> bool:
    """Whether the new version was heard of in it, and the old one not at all."""
    arms = {arm for cells in look.cells.values() for arm in cells.arm}
    return look.facts.status is SourceStatus.OK and Arm.CANDIDATE in arms and Arm.BASELINE not in arms


def _has_history(cells: Cells) -> bool:
    return Arm.HISTORY in cells.arm


def _filled(look: StoredLook, past: StoredLook) -> StoredLook:
    cells: Mapping[str, Cells] = {
        name: _joined(own, past.cells[name]) if name in past.cells else own for name, own in look.cells.items()
    }
    return replace(look, cells=cells, facts=replace(look.facts, frozen=True))


def _joined(own: Cells, past: Cells) -> Cells:
    """The cells of both; the past's are the baseline's now."""
    return Cells(
        arm=own.arm + (Arm.BASELINE.value,) * len(past.arm),
        replica=own.replica + past.replica,
        stratum=own.stratum + past.stratum,
        le=own.le + past.le,
        value=own.value + past.value,
        total=own.total + past.total,
    )
