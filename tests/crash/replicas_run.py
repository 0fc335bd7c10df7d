"""Three real daemons on one real PostgreSQL: claim races under pauses, failovers, the kill switch.

    python -m tests.crash.replicas_run --races 5000 --failovers 100        # or: make replicas

The last line is a JSON object; the exit status says whether no rollback was done twice and every takeover was in time.
"""

import argparse
import asyncio
import importlib
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests import servers
from tests.crash import fake_shop, forked
from tests.crash.brakes_and_fences import late_hook_is_refused, switch_is_seen_by_all
from tests.crash.claim_races import race
from tests.crash.failovers import TAKEOVER_S, fail_over
from tests.crash.replicas import LEASE_S, REPLICAS, Trio


def say(sentence: str) -> None:
    """Progress."""
    print(sentence, file=sys.stderr, flush=True)


def played(root: Path, server: servers.PostgresServer, shop_port: int, asked: argparse.Namespace) -> dict[str, object]:
    """Everything, one after the other; what was seen."""
    dice = random.Random(asked.seed)
    trio = Trio(root / "shared", server, shop_port=shop_port)
    with trio.running():
        wrong = asyncio.run(switch_is_seen_by_all(trio))
        say(f"kill switch: {wrong or 'seen by all'}")
        races = asyncio.run(race(trio, asked.races, dice, say))
        say(f"{races.races} races, {races.pauses} pauses: {len(races.doubled)} doubled, {races.outcomes}")
        overs = asyncio.run(fail_over(trio, asked.failovers, dice, say))
    late = Trio(root / "late", server, shop_port=shop_port, mode="fenced")
    with late.running():
        wrong += asyncio.run(late_hook_is_refused(late))
    return {
        "replicas": REPLICAS,
        "lease_s": LEASE_S,
        "races": races.races,
        "pauses": races.pauses,
        "races_doubled": len(races.doubled),
        "applied_without_effect": len(races.without_effect),
        "race_outcomes": races.outcomes,
        "second_attempts": races.second_attempts,
        "failovers": len(overs.done),
        "failovers_wrong": [str(one) for one in overs.done if one.is_wrong],
        "failovers_doubled": sum(one.effects > 1 for one in overs.done),
        "slowest_takeover_s": round(overs.slowest(after_claim=False), 1),
        "slowest_takeover_of_a_begun_attempt_s": round(overs.slowest(after_claim=True), 1),
        "takeover_limit_s": TAKEOVER_S,
        "otherwise_wrong": wrong,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--failovers", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="replicas")).resolve()
    root.chmod(0o755)
    began = time.monotonic()
    forked.import_everything()
    importlib.import_module("psycopg")
    with fake_shop.running(root) as shop_port, servers.postgres() as server:
        found = played(root, server, shop_port, asked)
    nothing = ("races_doubled", "applied_without_effect", "failovers_wrong", "failovers_doubled", "otherwise_wrong")
    good = not any(found[name] for name in nothing)
    if good:
        shutil.rmtree(root)
    else:
        say(f"what went wrong is in {root}")
    print(
        f"{found['races']} claim races: {found['races_doubled']} doubled; {found['failovers']} failovers: "
        f"{found['failovers_doubled']} doubled, slowest takeover {found['slowest_takeover_s']} s"
    )
    print(json.dumps({**found, "seconds": round(time.monotonic() - began, 1), "held": good}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
