"""The kill switch over three daemons; and a hook that starts long after everybody believed its daemon dead."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable

from tests.crash.claim_races import intend, settled
from tests.crash.crash_world import TOKEN
from tests.crash.replicas import GLANCE_S, PATIENCE_S, Replica, Trio

PAUSED = "pause"


async def switch_is_seen_by_all(trio: Trio) -> list[str]:
    """Paused through one replica: the others say so, and none starts what is due; what is wrong."""
    names = [f"paused-{number}" for number in range(6)]
    _ask(trio.replicas[0], "POST", "/api/v1/pause", {"why": "an incident"})
    wrong = [f"{one.port} does not know" for one in trio.replicas if not _ask(one, "GET", "/api/v1/status")["paused"]]
    intend(trio.url, names)
    await settled(trio)
    states = {str(row[0]) for row in trio.query("SELECT state FROM actions WHERE id LIKE 'paused-%'")}
    if states != {"HELD"}:
        wrong.append(f"actions under the kill switch: {states}")
    _ask(trio.replicas[1], "POST", "/api/v1/resume", {"why": "over"})
    wrong += [f"{one.port} still pauses" for one in trio.replicas if _ask(one, "GET", "/api/v1/status")["paused"]]
    wrong += [f"{name} was started" for name in names if trio.effects()[name]]
    return wrong


async def late_hook_is_refused(trio: Trio) -> list[str]:
    """A daemon frozen between its last check and its hook, until another one has rolled back: the hook, with its lower
    fence, changes nothing any more; what is wrong."""
    leader, *others = trio.replicas
    leader.kill()
    leader.start("hook-before-start:1:stop")
    for replica in others:
        replica.freeze()
    intend(trio.url, ["late"])
    await until(lambda: leader.frozen, "the leader hangs before its hook")
    for replica in others:
        replica.thaw()
    await settled(trio)
    leader.thaw()
    calls = trio.world / "calls"
    await until(lambda: len(calls.read_text().splitlines()) == 2, "the late hook is run")
    await asyncio.sleep(1.0)  # for the effect that must not come
    state = trio.query("SELECT state, attempt FROM actions WHERE id = 'late'")
    seen = (state, trio.effects()["late"], [line.split()[1:] for line in calls.read_text().splitlines()])
    expected = ([("APPLIED", 2)], 1, [["2", "2"], ["1", "1"]])
    return [] if seen == expected else [f"a late hook: {seen}"]


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition of real processes."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE_S:g} s: {what}")
        await asyncio.sleep(GLANCE_S)


def _ask(replica: Replica, method: str, path: str, body: object = None) -> dict[str, object]:
    request = urllib.request.Request(  # loopback
        f"http://127.0.0.1:{replica.port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        answer: dict[str, object] = json.load(response)
        return answer
