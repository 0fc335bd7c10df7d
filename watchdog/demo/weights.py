"""The front's traffic weights: an exact share per version, changed by compare-and-set, guarded by a fence."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


class RefusedError(Exception):
    """A change that must not be made; `status` is the HTTP status that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One asked change. `revision` None sets without comparing; `fence` None is an operator's hand."""

    weights: Mapping[str, Any]  # as received: checked before it is believed
    revision: int | None = None
    fence: int | None = None
    action_id: str = ""
    attempt: int = 0


@dataclass(slots=True, kw_only=True)
class Weights:
    """Smooth weighted round robin: over any 100 requests a weight of 10 gets exactly 10, evenly spread."""

    versions: Sequence[str]
    current: dict[str, int] = field(default_factory=dict)
    revision: int = 0
    fence: int = 0  # the highest seen; a lower one comes from a daemon that lost its turn
    paused: bool = False  # whoever rolls out is asked to stop
    changes: list[dict[str, object]] = field(default_factory=list)
    state: Path | None = None
    _credit: dict[str, int] = field(default_factory=dict)

    def pick(self) -> str:
        """The version that serves the next request."""
        total = sum(self.current.values())
        for version, weight in self.current.items():
            self._credit[version] = self._credit.get(version, 0) + weight
        chosen = max(self.current, key=lambda version: self._credit[version])
        self._credit[chosen] -= total
        return chosen

    def change(self, asked: Request) -> bool:
        """Apply a change and say whether it changed anything; or raise `RefusedError` and leave all as it was."""
        self._check(asked)
        self.fence = max(self.fence, asked.fence or 0)
        wanted = {version: asked.weights.get(version, 0) for version in self.versions}
        changed = wanted != self.current
        if changed:
            self._set(wanted, asked)
        self._save()
        return changed

    def pause(self, asked: Request) -> bool:
        """`{"paused": true}` or false, under the same comparison and fence as the weights."""
        if set(asked.weights) != {"paused"} or not isinstance(asked.weights["paused"], bool):
            raise RefusedError(400, 'expected {"paused": true} or {"paused": false}')
        self._check_turn(asked)
        self.fence = max(self.fence, asked.fence or 0)
        changed = self.paused != asked.weights["paused"]
        if changed:
            self.paused = asked.weights["paused"]
            self._note(asked)
        self._save()
        return changed

    def _set(self, wanted: dict[str, int], asked: Request) -> None:
        self.current = wanted
        self._credit = {}
        self._note(asked)

    def _note(self, asked: Request) -> None:
        self.revision += 1
        self.changes.append(asdict(asked) | {"at": time.time(), "revision": self.revision})

    def _check(self, asked: Request) -> None:
        unknown = sorted(set(asked.weights) - set(self.versions))
        if unknown:
            raise RefusedError(400, f"unknown version {unknown[0]!r}; this front knows {', '.join(self.versions)}")
        for version, weight in asked.weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= 1000:
                raise RefusedError(400, f"the weight of {version} is a whole number from 0 to 1000, not {weight!r}")
        if not any(asked.weights.values()):
            raise RefusedError(400, "somebody must serve: at least one weight above 0")
        self._check_turn(asked)

    def _check_turn(self, asked: Request) -> None:
        if asked.fence is not None and asked.fence < self.fence:
            raise RefusedError(409, f"fence {asked.fence} is older than {self.fence}, which was seen before")
        if asked.revision is not None and asked.revision != self.revision:
            raise RefusedError(412, f"the weights are at revision {self.revision}, not {asked.revision}")

    def document(self) -> dict[str, object]:
        """What GET /weights answers."""
        return {
            "weights": self.current,
            "paused": self.paused,
            "revision": self.revision,
            "fence": self.fence,
            "changes": self.changes,
        }

    def _save(self) -> None:
        if self.state is None:
            return
        fresh = self.state.with_suffix(".new")
        fresh.write_text(json.dumps(self.document()))
        fresh.replace(self.state)


def load(versions: Sequence[str], state: Path | None) -> Weights:
    """The weights as a former front left them, else everything on the first version, evenly on its servers."""
    if state is not None and state.exists():
        kept = json.loads(state.read_text())
        return Weights(
            versions=versions,
            current={version: int(kept["weights"].get(version, 0)) for version in versions},
            revision=kept["revision"],
            fence=kept["fence"],
            paused=kept["paused"],
            changes=kept["changes"],
            state=state,
        )
    old = versions[0].partition("/")[0]
    first = {version: 100 if version.partition("/")[0] == old else 0 for version in versions}
    return Weights(versions=versions, current=first, state=state)
