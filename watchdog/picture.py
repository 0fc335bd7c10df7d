"""The picture beside a verdict: its deciding metric over time and the evidence, as a PNG for a chat.

Drawn after the message has arrived, in a thread and a process of its own, and shown once: a picture that fails is left
out and said in the log. Nothing waits for it, neither a rollback nor another message; the page shows the same.
"""

import importlib.util
import json
import logging
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import watchdog.drawing
from watchdog.errors import SinkError
from watchdog.model import Message, MessageKind, State, Watch
from watchdog.moments import arm_names, moments, onset
from watchdog.ports import Delivery, EvidencePoint, Ledger
from watchdog.series import Arms, Drawer, highest
from watchdog.showing import Picture, ShowsPictures

DEADLINE_S = 20.0  # a cold matplotlib on a busy machine needs some seconds
MOST_WAITING = 16  # in a storm of verdicts the words matter
_LN10 = math.log(10.0)
_ENDS = frozenset({State.PASSED.value, State.INCONCLUSIVE.value})
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")

Paint = Callable[[Message], Picture | None]

_log = logging.getLogger(__name__)


class PictureError(Exception):
    """The picture could not be drawn."""


def can_draw() -> bool:
    """Whether matplotlib is installed (the extra `charts`)."""
    return importlib.util.find_spec("matplotlib") is not None


def tells_a_verdict(message: Message) -> bool:
    """Whether a message says that a verdict fell, and on a metric that can be drawn."""
    if not message.facts.get("metric"):
        return False
    ended = message.kind is MessageKind.ENDED and message.facts.get("state") in _ENDS
    return ended or message.kind in (MessageKind.DEGRADED, MessageKind.HELD)


class Easel:
    """Draws and shows one picture at a time, apart from everything else."""

    def __init__(self, paint: Paint) -> None:
        self._paint = paint
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="picture")
        self._room = threading.BoundedSemaphore(MOST_WAITING)

    def put(self, sink: object, delivery: Delivery) -> None:
        """Have a delivered message illustrated, where its sink shows pictures and it tells a verdict. Never waits."""
        if not (isinstance(sink, ShowsPictures) and sink.wants_pictures and tells_a_verdict(delivery.message)):
            return
        if not self._room.acquire(blocking=False):
            _log.warning("no picture of %s: %s others wait", delivery.deploy.id, MOST_WAITING)
            return
        try:
            self._pool.submit(self._show, sink, delivery)
        except RuntimeError:  # closed already
            self._room.release()

    def close(self) -> None:
        """Let go; what waits is not drawn."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _show(self, sink: ShowsPictures, delivery: Delivery) -> None:
        try:
            picture = self._paint(delivery.message)
            if picture is not None:
                sink.show(delivery, picture)
        except (PictureError, SinkError) as error:
            _log.warning("no picture of %s: %s", delivery.deploy.id, error)
        except Exception:  # noqa: BLE001 (a picture is an extra; whatever it was, the daemon goes on)
            _log.exception("no picture of %s", delivery.deploy.id)
        finally:
            self._room.release()


@dataclass(frozen=True, slots=True)
class Painter:
    """Reads a verdict from the ledger and has it drawn."""

    ledger: Ledger
    _drawer: Drawer = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_drawer", Drawer(self.ledger))

    def __call__(self, message: Message) -> Picture | None:
        """The picture of a message's metric; None where there is nothing to draw (PictureError where it fails)."""
        watch, metric = self.ledger.watch(message.watch_id), str(message.facts.get("metric"))
        if watch is None or all(m.spec.name != metric for m in watch.plan.metrics):
            return None
        verdicts = self.ledger.verdicts(watch.id, last=1)
        path = self.ledger.evidence_path(watch.id)
        if not verdicts or not path:
            return None
        said = verdicts[-1].payload.get("evidence", [])
        arms = self._drawer.arms(watch, said)[metric]
        own = next((e for e in said if e.get("metric") == metric), None)
        found = [*moments(watch, self.ledger.actions(watch_id=watch.id)), *onset(watch, own)]
        shown = told(watch, metric, arms, path)
        shown["moments"] = [{"at_s": m.at_s, "name": m.name} for m in found]
        return Picture(png=drawn(shown), title=shown["title"], says=message.sentence)


def told(watch: Watch, metric: str, arms: Arms, path: Sequence[EvidencePoint]) -> dict[str, Any]:
    """What watchdog.drawing reads."""
    spec = next(m.spec for m in watch.plan.metrics if m.spec.name == metric)
    level = f"slower than {arms.above:g} {spec.unit}".strip() if arms.above is not None else spec.unit
    threshold = path[-1].log_threshold / _LN10
    points = highest([p.log_evidence / _LN10 for p in path], step_s=watch.plan.step_s)
    old, new = arm_names(watch)
    return {
        "title": f"{watch.deploy.service} {watch.deploy.version}: {metric}",
        "what": level or ("share of events" if arms.share else "level"),
        "share": arms.share,
        "old": {"name": old, "points": _plain(arms.old)},
        "new": {"name": new, "points": _plain(arms.new)},
        "evidence": _plain(points),
        "threshold": threshold,
        "acts": f"acts at {10**threshold:,.0f}",
        "moments": [],
    }


def drawn(shown: Mapping[str, Any]) -> bytes:
    """The PNG, drawn by a process that ends within DEADLINE_S and knows none of our secrets (PictureError)."""
    program = [sys.executable, "-P", str(Path(watchdog.drawing.__file__))]
    env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    asked = json.dumps(shown, allow_nan=False).encode()
    try:
        ended = subprocess.run(program, input=asked, capture_output=True, timeout=DEADLINE_S, env=env, check=False)
    except subprocess.TimeoutExpired:
        raise PictureError(f"not drawn within {DEADLINE_S:.0f} s") from None
    except OSError as error:
        raise PictureError(f"drawing could not be started: {error}") from None
    if ended.returncode != 0 or not ended.stdout.startswith(b"\x89PNG"):
        last = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise PictureError(f"drawing failed: {last[0] if last else f'exit code {ended.returncode}'}")
    return ended.stdout


def _plain(points: Sequence[tuple[float, float]]) -> list[tuple[float, float | None]]:
    return [(at, level if math.isfinite(level) else None) for at, level in points]
