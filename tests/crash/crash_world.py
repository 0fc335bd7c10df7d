"""One world with a bad v2, a daemon that is killed as its schedule says, and what must hold when all is over."""

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash import forked
from tests.crash.ci_client import ON_RECORD, tell
from tests.crash.crash_plan import Schedule
from watchdog.ledger import open_readonly, verify_chain
from watchdog.model import Severity

DEPLOY = "shop-42"
TOKEN_ENV = "CRASH_TOKEN"
TOKEN = "t" * 40
PATIENCE_S = 240.0
GLANCE_S = 0.05
RESTING = frozenset(
    {"ROLLED_BACK", "UNKNOWN", "FAILED", "NOT_RECOVERED", "HELD", "NOT_NEEDED", "PASSED", "INCONCLUSIVE"}
)
HOOK = Path(__file__).with_name("back_hook.sh")


def config(
    world: Path, *, port: int, shop_port: int, mode: str, daemon: str = "", policy: str = "", hook: str = ""
) -> str:
    """A config.toml as an operator would write it; only times are shorter. More lines of some of its tables."""
    argv = ["/bin/sh", str(HOOK), str(world), mode]
    probe = f"probe_argv = {json.dumps([*argv, '--probe'])}" if mode in ("probe", "fenced") else ""
    return f"""
[daemon]
listen = "127.0.0.1:{port}"
tick_s = 0.1
{daemon}

[policy]
{policy}

[[auth.tokens]]
name = "ci"
token_env = "{TOKEN_ENV}"
scopes = ["read", "trigger", "admin"]

[sources.prometheus]
kind = "prometheus"
url = "http://127.0.0.1:{shop_port}/{world.name}"

[hooks.back]
kind = "command"
argv = {json.dumps(argv)}
{probe}
idempotent = {json.dumps(mode == "idempotent")}
{hook or "timeout_s = 20.0"}

[sinks.team]
kind = "webhook"
url = "http://127.0.0.1:{shop_port}/{world.name}/told"
secret_env = "CRASH_SECRET"

[services.shop]
mode = "auto"
environments = ["*"]
strategy = "canary"
source = "prometheus"
rollback_hook = "back"
version_label = "version"
look_s = 0.5
settle_s = 0.0
watch_s = 60.0
baseline_s = 2.0

[[services.shop.metrics]]
name = "errors"
kind = "ratio"
bad = "shop_errors_total"
total = "shop_requests_total"
critical = true
"""


@dataclass(slots=True)
class Played:
    """How a world ended."""

    schedule: Schedule
    kills: int = 0
    outcome: str = ""
    effects: int = 0
    calls: int = 0
    copies: int = 0  # messages that were told more than once
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    lost: bool = False
    doubled: bool = False

    @property
    def paged(self) -> bool:
        return self.outcome == "UNKNOWN" and not self.wrong


class World:
    """Plays one schedule from the deploy to a resting state."""

    def __init__(self, folder: Path, schedule: Schedule, *, port: int, shop_port: int, anew: bool = False) -> None:
        self.folder, self.schedule = folder, schedule
        self._port, self._anew = port, anew
        self._deaths = list(schedule.deaths)
        self._pid: int | None = None
        self._kill_at: float | None = None
        self.played = Played(schedule)
        folder.mkdir()
        (folder / "config.toml").write_text(config(folder, port=port, shop_port=shop_port, mode=schedule.mode))

    async def play(self) -> Played:
        """Deploy, die, start again, …, rest; then look at everything that was left behind."""
        began = time.monotonic()
        try:
            await asyncio.wait_for(self._play(), PATIENCE_S)
        except TimeoutError:
            self.played.wrong.append(f"no rest within {PATIENCE_S:g} s, but {self._state()}")
            self.played.lost = True
        finally:
            self.kill()
        self.played.seconds = time.monotonic() - began
        self._judge()
        return self.played

    # --- what happens ------------------------------------------------------------------------------------

    async def _play(self) -> None:
        while not await self._deployed():
            await self.glance()
        while not self._rests():
            await self.glance()

    async def glance(self) -> None:
        """Start a daemon where none runs; kill one whose time has come."""
        if self._pid is None or forked.reap(self._pid):
            self.played.kills += self._pid is not None
            self._start(self._deaths.pop(0) if self._deaths else "")
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self.kill()
            self.played.kills += 1
        await asyncio.sleep(GLANCE_S)

    def _start(self, death: str) -> None:
        env = {TOKEN_ENV: TOKEN, "CRASH_SECRET": "whsec_" + "c2VjcmV0" * 4, "FAILPOINTS_LOG": "passed"}
        self._kill_at = None
        kind, _, rest = death.partition(":")
        if kind == "hook":
            (self.folder / "trap").write_text(rest)
        elif kind == "at":
            self._kill_at = time.monotonic() + float(rest)
        elif death:
            env["FAILPOINTS"] = f"{death}:kill"
        self._pid = forked.start(self.folder, env, anew=self._anew)

    def kill(self) -> None:
        """SIGKILL the daemon that runs, if one does."""
        self._kill_at = None
        if self._pid is not None and not forked.reap(self._pid):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._pid = None

    async def _deployed(self) -> bool:
        """Tell of the deploy, as CI does and does again until somebody says that it is on record."""
        deploy = {"id": DEPLOY, "service": "shop", "version": "v2", "previous_version": "v1", "share": 0.25}
        return await tell(self._port, TOKEN, deploy) in ON_RECORD

    def _rests(self) -> bool:
        """Whether nothing more is going to happen: no state moves, and all messages have been told."""
        with suppress(sqlite3.Error), closing(self._ledger()) as ledger:
            state = ledger.execute("SELECT state FROM watches").fetchone()
            pending = ledger.execute("SELECT count(*) FROM outbox WHERE state = 'pending'").fetchone()[0]
            return state is not None and state[0] in RESTING and pending == 0
        return False

    # --- what must hold ----------------------------------------------------------------------------------

    def _judge(self) -> None:
        played = self.played
        effects, calls = list(self._lines("effects")), list(self._lines("calls"))
        played.effects, played.calls, played.outcome = len(effects), len(calls), self._state()
        played.doubled = played.effects > 1
        played.lost |= not self._accounted_for()
        if played.kills > len(self.schedule.deaths):
            played.wrong.append(f"a daemon ended by itself: {played.kills} of {len(self.schedule.deaths)} were killed")
        if played.doubled or played.lost:
            played.wrong.append(f"outcome {played.outcome}, effects {effects}, calls {calls}")
        if len({action for action, _, _ in calls}) > 1:
            played.wrong.append(f"more than one action id: {calls}")
        fences = [int(fence) for _, _, fence in calls]
        if sorted(set(fences)) != fences:
            played.wrong.append(f"fences do not rise: {fences}")
        self.check_ledger()
        self._judge_messages()

    def _accounted_for(self) -> bool:
        """A decision is carried out, reported failed after its attempts, or UNKNOWN where no probe can tell."""
        if self.played.outcome == "UNKNOWN":
            return self.schedule.mode == "bare"
        if self.played.outcome == "FAILED":
            return self.played.calls >= 2 and self.played.effects == 0
        return self.played.outcome == "ROLLED_BACK" and self.played.effects >= 1

    def check_ledger(self) -> None:
        """Whole, and its audit too."""
        with closing(self._ledger()) as ledger:
            checked = ledger.execute("PRAGMA integrity_check").fetchone()[0]
        if checked != "ok":
            self.played.wrong.append(f"integrity_check: {checked}")
        with closing(open_readonly(self.folder / "watchdog.db")) as opened:
            problem = verify_chain(opened.audit_chain()).problem
        if problem is not None:
            self.played.wrong.append(f"the audit's chain is broken: {problem}")

    def _judge_messages(self) -> None:
        """Every message on record was told; more than once only by as many daemons as died; UNKNOWN is a page."""
        with closing(self._ledger()) as ledger:
            recorded = ledger.execute("SELECT count(*) FROM outbox").fetchone()[0]
        told = [json.loads(line) for line in (self.folder / "told").read_text().splitlines()]
        copies = Counter(one["data"]["id"] for one in told)
        self.played.copies = sum(count - 1 for count in copies.values())
        if len(copies) != recorded:
            self.played.wrong.append(f"{recorded} messages on record, {len(copies)} told")
        if self.played.copies > self.played.kills:
            self.played.wrong.append(f"{self.played.copies} copies after {self.played.kills} kills")
        pages = [one for one in told if one["data"]["severity"] == Severity.PAGE.value]
        if self.played.outcome in ("UNKNOWN", "FAILED") and not pages:
            self.played.wrong.append(f"{self.played.outcome} paged nobody")

    def _state(self) -> str:
        with suppress(sqlite3.Error), closing(self._ledger()) as ledger:
            found = ledger.execute("SELECT state FROM watches").fetchone()
            return str(found[0]) if found else "nothing on record"
        return "no ledger"

    def _ledger(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.folder}/watchdog.db?mode=ro", uri=True, timeout=10)

    def _lines(self, name: str) -> Iterator[tuple[str, str, str]]:
        """What the hook wrote down, which no daemon has a hand in."""
        path = self.folder / name
        for line in path.read_text().splitlines() if path.exists() else ():
            action, attempt, fence = line.split()
            yield action, attempt, fence
