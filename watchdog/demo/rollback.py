"""The demo's rollback hook, a template for your own: says the wanted state, compares before it sets, can be asked.

Called as `rollback.py --front URL --effects FILE [--probe]` with ACTION_ID, ATTEMPT, FENCE, FROM and TO in the
environment. "If FROM takes traffic, TO takes all of it": never a relative undo, so running it twice is harmless.

Run:   0 in effect · 1 impossible · 5 neither version takes traffic · 6 an older fence · 75 try again.
Probe: 0 in effect · 3 not · 5 neither version takes traffic · 1 cannot say. (4, in part, is for load balancers that
change server by server; this front changes all at once.)
"""

import argparse
import http.client
import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

IN_EFFECT, IMPOSSIBLE, NOT_IN_EFFECT, MOVED_ON, FENCED_OFF, TRY_AGAIN = 0, 1, 3, 5, 6, 75
TRIES = 5  # somebody else may change the weights between our look and our change


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the daemon asks for."""

    action_id: str
    attempt: int
    fence: int
    from_version: str
    to_version: str


def order_from(env: "os._Environ[str]") -> Order:
    return Order(
        action_id=env["ACTION_ID"],
        attempt=int(env.get("ATTEMPT", "1")),
        fence=int(env["FENCE"]),
        from_version=env["FROM"],
        to_version=env["TO"],
    )


def standing(weights: dict[str, int], order: Order) -> int:
    """How the weights stand to the order, as the probe's exit code."""
    leaving, returning = weights.get(order.from_version, 0), weights.get(order.to_version, 0)
    if leaving > 0:
        return NOT_IN_EFFECT
    return IN_EFFECT if returning > 0 else MOVED_ON


def run(front: str, order: Order, effects: str) -> int:
    """Bring the order into effect; one line in the effects file per run that changed or found something."""
    for _ in range(TRIES):
        status, now = call(front)
        if status != 200:
            return say(TRY_AGAIN, f"the front answers {status} instead of its weights")
        if order.fence < now["fence"]:
            return say(FENCED_OFF, f"fence {order.fence} is older than {now['fence']}: somebody newer has the turn")
        stand = standing(now["weights"], order)
        if stand == MOVED_ON:
            return say(MOVED_ON, f"neither {order.from_version} nor {order.to_version} takes traffic: hands off")
        # In effect already: set what is there, so that the front sees this fence and refuses older ones from now on.
        wanted = now["weights"]
        if stand == NOT_IN_EFFECT:
            wanted = dict.fromkeys(wanted, 0) | {order.to_version: 100}
        status, answer = call(front, wanted, order=order, revision=now["revision"])
        if status == 200:
            record(effects, order, "set" if answer["changed"] else "already")
            return say(IN_EFFECT, f"{order.from_version} takes no traffic any more")
        if status != 412:
            code = FENCED_OFF if status == 409 else IMPOSSIBLE
            return say(code, f"the front refuses: {answer.get('error', status)}")
    return say(TRY_AGAIN, "the weights keep changing under us")


def probe(front: str, order: Order) -> int:
    status, now = call(front)
    return standing(now["weights"], order) if status == 200 else IMPOSSIBLE


def call(
    front: str, weights: dict[str, int] | None = None, *, order: Order | None = None, revision: int = 0
) -> tuple[int, dict[str, Any]]:
    """One request to the front's admin port; status 0 where it cannot be reached."""
    connection = http.client.HTTPConnection(urlsplit(front).netloc, timeout=3.0)
    try:
        if weights is None or order is None:
            connection.request("GET", "/weights")
        else:
            headers = {
                "If-Match": f'"{revision}"',
                "X-Fence": str(order.fence),
                "X-Action-Id": order.action_id,
                "X-Attempt": str(order.attempt),
            }
            connection.request("POST", "/weights", body=json.dumps(weights), headers=headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return 0, {}
    finally:
        connection.close()


def record(effects: str, order: Order, effect: str) -> None:
    line = {"action_id": order.action_id, "attempt": order.attempt, "fence": order.fence, "effect": effect}
    descriptor = os.open(effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, (json.dumps(line | {"at": time.time()}) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def say(code: int, sentence: str) -> int:
    print(sentence, file=sys.stderr if code else sys.stdout, flush=True)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description="The demo's rollback hook.")
    parser.add_argument("--front", required=True, help="the front's admin address")
    parser.add_argument("--effects", required=True, help="file that keeps what was done, one JSON object per line")
    parser.add_argument("--probe", action="store_true", help="only say whether the rollback is in effect")
    asked = parser.parse_args()
    try:
        order = order_from(os.environ)
    except (KeyError, ValueError) as error:
        return say(IMPOSSIBLE, f"the environment does not say what to do: {error}")
    return probe(asked.front, order) if asked.probe else run(asked.front, order, asked.effects)


if __name__ == "__main__":
    sys.exit(main())
