"""What was computed of each watch a look ago, so that the next look need not read all those before it again.

Nothing here is state: it follows from the stored looks, and what it gives equals what they would give. It is used only
where it ends at the very look that the ledger ends at, so a restart, or another replica's writes, change nothing.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.decode import Decoded
from analysis.growing import Growing
from watchdog.model import StoredLook, Watch
from watchdog.tally import Tally

MOST_BYTES = 200_000_000
_TALLY_BYTES = 6_000
STALE_S = 120.0  # overdue by so much, a watch is somebody else's by now


@dataclass(slots=True)
class Recollection:
    """One watch up to its last look."""

    growing: Growing
    tally: Tally

    def add(self, fresh: Sequence[StoredLook]) -> bool:
        """Take new looks; False where this cannot be done, and all must be read anew."""
        for look in fresh:
            if look.interval != self.growing.looks or not self.growing.add(look.facts, look.cells):
                return False
            self.tally.add(look)
        return True

    def decoded(self, watch: Watch) -> Decoded:
        return self.growing.decoded(share=watch.share)


@dataclass(slots=True)
class _Kept:
    recollection: Recollection
    nbytes: int
    due_at: float


class Memory:
    """Recollections of the watches that are looked at, within bounds: what does not fit is read anew each time.

    Every watch is asked for once in its round. Throwing out the longest unused would throw out the very next one, so
    none makes room for another; only those that nobody asks for any more go.
    """

    def __init__(self, *, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # the longest unused first
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def recall(self, watch: Watch) -> Recollection | None:
        """What is known, taken out: whoever goes on with it keeps it again, or lets it be forgotten."""
        kept = self._take(watch.id)
        if kept is None or watch.looks == 0 or kept.recollection.growing.looks != watch.looks:
            return None
        return kept.recollection

    def has_past(self, watch: Watch) -> bool | None:
        """Whether the time before the deploy is among the looks of a watch; None where that is not remembered."""
        kept = self._kept.get(watch.id)
        if kept is None or kept.recollection.growing.looks != watch.looks:
            return None
        return kept.recollection.tally.has_past

    def keep(self, watch: Watch, recollection: Recollection, *, now: float) -> None:
        """Remember a watch until its next look."""
        self._take(watch.id)
        nbytes = recollection.growing.nbytes + _TALLY_BYTES
        while self._nbytes + nbytes > self._most_bytes:
            longest_unused = next(iter(self._kept), None)
            if longest_unused is None or self._kept[longest_unused].due_at + STALE_S > now:
                return
            self._take(longest_unused)
        self._kept[watch.id] = _Kept(recollection, nbytes, now + watch.plan.step_s)
        self._nbytes += nbytes

    def _take(self, watch_id: str) -> _Kept | None:
        kept = self._kept.pop(watch_id, None)
        if kept is not None:
            self._nbytes -= kept.nbytes
        return kept
