"""The demo's hook, a template for your own: says the wanted state, compares before it sets, can be asked.

Called as `rollback.py --front URL --effects FILE [--probe]` with KIND, ACTION_ID, ATTEMPT, FENCE, FROM and TO in the
environment. Never a relative undo, so running it twice is harmless:

rollback, switch  if FROM takes traffic, TO takes all of it; of a roll-out, only the servers that FROM is on go back
promote           TO takes PARAM_SHARE of the traffic and FROM the rest, unless TO has been taken out meanwhile
pause, resume     whoever rolls out is asked to stop, or to go on
smoke             TO answers every page, asked directly; nothing is changed

Run:   0 in effect · 1 impossible · 5 neither version takes traffic · 6 an older fence · 75 try again.
Probe: 0 in effect · 3 not · 5 neither version takes traffic, or somebody went further · 1 cannot say.
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
WHOLE = 1000  # the front takes weights from 0 to 1000
PAGES = (  # what a version must answer before it gets traffic
    *(("GET", path, None) for path in ("/", "/product/1", "/cart?items=1.2", "/search?q=tea")),
    ("POST", "/login", "name=smoke"),
    ("POST", "/checkout", "items=1&customer=smoke"),
)
SMOKE_TRIES = 3  # a page that fails now and then is no reason to stop a deploy; one that never answers is


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the daemon asks for."""

    kind: str
    action_id: str
    attempt: int
    fence: int
    from_version: str
    to_version: str
    share: float


def order_from(env: "os._Environ[str]") -> Order:
    return Order(
        kind=env.get("KIND", "rollback"),
        action_id=env["ACTION_ID"],
        attempt=int(env.get("ATTEMPT", "1")),
        fence=int(env["FENCE"]),
        from_version=env["FROM"],
        to_version=env["TO"],
        share=float(env.get("PARAM_SHARE", "0")),
    )


def standing(now: dict[str, Any], order: Order) -> int:
    """How the front stands to the order, as the probe's exit code."""
    if order.kind in ("pause", "resume"):
        return IN_EFFECT if now["paused"] == (order.kind == "pause") else NOT_IN_EFFECT
    leaving, returning = weight_of(now, order.from_version), weight_of(now, order.to_version)
    if order.kind == "promote":
        missing = order.share * (leaving + returning) - returning
        if returning == 0 or missing < -0.5:
            return MOVED_ON
        return NOT_IN_EFFECT if missing > 0.5 else IN_EFFECT
    if leaving > 0:
        return NOT_IN_EFFECT
    return IN_EFFECT if returning > 0 else MOVED_ON


def weight_of(now: dict[str, Any], version: str) -> int:
    """The weight of a version, all its servers (`v1/a`) together."""
    return sum(weight for name, weight in now["weights"].items() if name.partition("/")[0] == version)


def wanted(now: dict[str, Any], order: Order) -> tuple[str, dict[str, Any]]:
    """Where to send what, so that the order is in effect; what is in effect already is sent as it is."""
    if order.kind in ("pause", "resume"):
        return "/rollout", {"paused": order.kind == "pause"}
    weights: dict[str, int] = now["weights"]
    if standing(now, order) == IN_EFFECT:
        return "/weights", weights
    if order.kind == "promote":
        going = round(WHOLE * order.share)
        return "/weights", dict.fromkeys(weights, 0) | {order.to_version: going, order.from_version: WHOLE - going}
    if order.to_version in weights or order.from_version in weights:
        return "/weights", dict.fromkeys(weights, 0) | {order.to_version: 100}
    put_back = dict(weights)
    for name, weight in weights.items():
        version, _, server = name.partition("/")
        if version == order.from_version and weight > 0:
            put_back |= {name: 0, f"{order.to_version}/{server}": weight}
    return "/weights", put_back


def run(front: str, order: Order, effects: str) -> int:
    """Bring the order into effect; one line in the effects file per run that changed or found something."""
    for _ in range(TRIES):
        status, now = call(front)
        if status != 200:
            return say(TRY_AGAIN, f"the front answers {status} instead of its weights")
        if order.kind == "smoke":
            return smoke(now["addresses"], order)
        if order.fence < now["fence"]:
            return say(FENCED_OFF, f"fence {order.fence} is older than {now['fence']}: somebody newer has the turn")
        if standing(now, order) == MOVED_ON:
            return say(MOVED_ON, f"{order.from_version} and {order.to_version} do not stand as expected: hands off")
        # In effect already: set what is there, so that the front sees this fence and refuses older ones from now on.
        path, body = wanted(now, order)
        status, answer = call(front, body, path=path, order=order, revision=now["revision"])
        if status == 200:
            record(effects, order, "set" if answer["changed"] else "already")
            return say(IN_EFFECT, f"{order.kind} to {order.to_version} is in effect")
        if status != 412:
            code = FENCED_OFF if status == 409 else IMPOSSIBLE
            return say(code, f"the front refuses: {answer.get('error', status)}")
    return say(TRY_AGAIN, "the weights keep changing under us")


def probe(front: str, order: Order) -> int:
    if order.kind == "smoke":
        return say(IMPOSSIBLE, "a smoke test leaves nothing behind that could be asked for")
    status, now = call(front)
    return standing(now, order) if status == 200 else IMPOSSIBLE


def smoke(addresses: dict[str, list[str]], order: Order) -> int:
    """Ask every server of the version for every page, directly."""
    servers = [url for name, urls in addresses.items() if name.partition("/")[0] == order.to_version for url in urls]
    for server in servers:
        for method, path, form in PAGES:
            if not any(page(server, method, path, form) < 400 for _ in range(SMOKE_TRIES)):
                return say(IMPOSSIBLE, f"{order.to_version} does not answer {method} {path}")
    return say(IN_EFFECT if servers else IMPOSSIBLE, f"{order.to_version}: {len(servers)} servers asked")


def page(server: str, method: str, path: str, form: str | None) -> int:
    """The status of one page; 599 where nobody answers."""
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=2.0)
    try:
        headers = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, path, body=form, headers=headers)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 599
    finally:
        connection.close()


def call(
    front: str,
    asked: dict[str, Any] | None = None,
    *,
    path: str = "/weights",
    order: Order | None = None,
    revision: int = 0,
) -> tuple[int, dict[str, Any]]:
    """One request to the front's admin port; status 0 where it cannot be reached."""
    connection = http.client.HTTPConnection(urlsplit(front).netloc, timeout=3.0)
    try:
        if asked is None or order is None:
            connection.request("GET", path)
        else:
            headers = {
                "If-Match": f'"{revision}"',
                "X-Fence": str(order.fence),
                "X-Action-Id": order.action_id,
                "X-Attempt": str(order.attempt),
            }
            connection.request("POST", path, body=json.dumps(asked), headers=headers)
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
    parser = argparse.ArgumentParser(description="The demo's hook.")
    parser.add_argument("--front", required=True, help="the front's admin address")
    parser.add_argument("--effects", required=True, help="file that keeps what was done, one JSON object per line")
    parser.add_argument("--probe", action="store_true", help="only say whether the order is in effect")
    asked = parser.parse_args()
    try:
        order = order_from(os.environ)
    except (KeyError, ValueError) as error:
        return say(IMPOSSIBLE, f"the environment does not say what to do: {error}")
    return probe(asked.front, order) if asked.probe else run(asked.front, order, asked.effects)


if __name__ == "__main__":
    sys.exit(main())
