"""Deploy events in a storm, beside many watches: how long are they answered in, and is every promise kept?

Run: python -m benchmarks.load.webhooks [--rate 200] [--seconds 60] [--watches 1000] [--json]

A client process of its own sends on schedule, whatever the answers take: a fifth of it again what it sent before, a
twentieth forged. Times count from the scheduled moment. Afterwards the ledger is read: what was answered with 2xx is
in it once, and nothing forged. The last line prints the figures; the exit status is 0 where all of them hold.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.stage import Stage, stage
from benchmarks.load.town import Town
from benchmarks.load.watches import Poster

MOST_P99_S = 0.25
DUPLICATES, FORGED = 0.20, 0.05
CONNECTIONS = 64
PLACES = 200  # each new deploy takes the place of the one before: the storm leaves so many watches behind


@dataclass(frozen=True, slots=True)
class Event:
    """One request as it goes over the wire."""

    deploy: str
    forged: bool
    request: bytes


class Sender:
    """Makes events: genuine ones, the same again, and forged ones."""

    def __init__(self, told: dict[str, Any], *, seed: int = 1) -> None:
        self._tokens: list[str] = told["tokens"]
        self._key = base64.b64decode(told["key"])
        self._services: int = told["services"]
        self._rng = random.Random(seed)
        self._sent: list[Event] = []

    def event(self, number: int) -> Event:
        """The next one."""
        dice = self._rng.random()
        if dice < FORGED:
            return self._forged(number)
        if dice < FORGED + DUPLICATES and self._sent:
            return self._rng.choice(self._sent[-500:])
        event = self._genuine(number)
        self._sent.append(event)
        return event

    def _body(self, number: int, name: str) -> bytes:
        place = number % PLACES
        body = {
            "id": f"{name}-{number}",
            "service": f"svc-{place % self._services:04d}",
            "environment": f"storm-{place}",
            "version": f"s{number}",
            "previous_version": f"s{number - 1}",
        }
        return json.dumps(body).encode()

    def _genuine(self, number: int) -> Event:
        body = self._body(number, "storm")
        way = number % (len(self._tokens) + 1)
        if way == len(self._tokens):
            return Event(f"storm-{number}", False, _request(body, self._signed(number, body)))
        return Event(f"storm-{number}", False, _request(body, {"Authorization": f"Bearer {self._tokens[way]}"}))

    def _forged(self, number: int) -> Event:
        body = self._body(number, "forged")
        ways: list[dict[str, str]] = [
            self._signed(number, self._body(number, "other")),  # the signature of another body
            self._signed(number, body, key=b"x" * 32),
            self._signed(number, body, age_s=3600),
            {"Authorization": f"Bearer {self._tokens[0][:-1]}!"},
            {},
        ]
        return Event(f"forged-{number}", True, _request(body, ways[self._rng.randrange(len(ways))]))

    def _signed(self, number: int, body: bytes, *, key: bytes | None = None, age_s: int = 0) -> dict[str, str]:
        name, at = f"msg-{number}", str(int(time.time()) - age_s)
        digest = hmac.digest(key or self._key, f"{name}.{at}.".encode() + body, hashlib.sha256)
        signature = f"v1,{base64.b64encode(digest).decode()}"
        return {"webhook-id": name, "webhook-timestamp": at, "webhook-signature": signature}


def _request(body: bytes, headers: dict[str, str]) -> bytes:
    head = ["POST /api/v1/deploys HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    head += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*head, "", ""]).encode() + body


@dataclass(slots=True)
class Seen:
    """What the client saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    acked: set[str] = field(default_factory=set)
    forged_accepted: list[str] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)


async def storm(port: int, sender: Sender, *, rate: float, seconds: float) -> Seen:
    """Send on schedule over kept connections; a connection that broke is opened again."""
    seen, queue = Seen(), asyncio.Queue[tuple[float, Event] | None]()
    workers = [asyncio.create_task(_worker(port, queue, seen)) for _ in range(CONNECTIONS)]
    began = time.monotonic()
    for number in range(round(rate * seconds)):
        at = began + number / rate
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        queue.put_nowait((at, sender.event(number)))
    for _ in workers:
        queue.put_nowait(None)
    await asyncio.gather(*workers)
    return seen


async def _worker(port: int, queue: "asyncio.Queue[tuple[float, Event] | None]", seen: Seen) -> None:
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while (item := await queue.get()) is not None:
        at, event = item
        try:
            if streams is None:
                streams = await asyncio.open_connection("127.0.0.1", port)
            status = await asyncio.wait_for(_exchange(*streams, event.request), 30.0)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            status = 0
        if status == 0 and streams is not None:
            streams[1].close()
            streams = None
        seen.took_s.append(time.monotonic() - at)
        seen.statuses[status] += 1
        if status in (200, 201):
            if event.forged:
                seen.forged_accepted.append(event.deploy)
            seen.acked.add(event.deploy)
    if streams is not None:
        streams[1].close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"(?i)content-length: *(\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    if re.search(r"(?i)\r\nconnection: *close", head):
        writer.close()
    return int(head.split(" ", 2)[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a storm showed."""

    sent: int
    seconds: float
    watches: int
    p50_s: float
    p99_s: float
    slowest_s: float
    statuses: dict[str, int]
    acked: int
    lost: list[str]
    forged_accepted: list[str]

    def failures(self) -> list[str]:
        """What does not hold."""
        broken = {status: n for status, n in self.statuses.items() if status not in ("200", "201", "401")}
        found = {
            f"answered within {self.p99_s * 1000:.0f} ms (p99), expected {MOST_P99_S * 1000:.0f} ms": self.p99_s
            >= MOST_P99_S,
            f"{len(self.lost)} acknowledged and not on record: {self.lost[:3]}": bool(self.lost),
            f"{len(self.forged_accepted)} forged accepted: {self.forged_accepted[:3]}": bool(self.forged_accepted),
            f"other answers: {broken}": bool(broken),
        }
        return [words for words, is_so in found.items() if is_so]

    def line(self) -> str:
        return (
            f"{self.sent} deploy events in {self.seconds:.0f} s beside {self.watches} watches: "
            f"p50 {self.p50_s * 1000:.0f} ms, p99 {self.p99_s * 1000:.0f} ms, slowest {self.slowest_s * 1000:.0f} ms; "
            f"{self.acked} acknowledged, {len(self.lost)} of them lost, {len(self.forged_accepted)} forged accepted; "
            f"answers {self.statuses}"
        )


def measure(found: Stage, *, rate: float, seconds: float, settle_s: float) -> dict[str, Any]:
    """Begin the watches, let the daemon come to its rhythm, and let a client process send; what the client saw."""
    poster = Poster(found, over_s=settle_s, watch_s=1e6)
    poster.start()
    while poster.posted < found.town.watches:
        time.sleep(0.2)
    poster.stop()
    print(f"{poster.posted} watches; the storm begins in {settle_s:.0f} s", flush=True)
    time.sleep(settle_s)
    told = {
        "port": found.port,
        "tokens": found.tokens,
        "key": base64.b64encode(found.webhook_key).decode(),
        "services": min(found.town.services, found.town.watches),
        "rate": rate,
        "seconds": seconds,
    }
    client = subprocess.run(
        [sys.executable, "-m", "benchmarks.load.webhooks", "--as-client"],
        input=json.dumps(told).encode(),
        stdout=subprocess.PIPE,
        check=True,
    )
    said: dict[str, Any] = json.loads(client.stdout)
    return said


def _client() -> int:
    told = json.load(sys.stdin)
    seen = asyncio.run(storm(told["port"], Sender(told), rate=told["rate"], seconds=told["seconds"]))
    json.dump(
        {
            "statuses": {str(status): n for status, n in sorted(seen.statuses.items())},
            "acked": sorted(seen.acked),
            "forged_accepted": seen.forged_accepted,
            "took_s": seen.took_s,
        },
        sys.stdout,
    )
    return 0


def _on_record(ledger: Path) -> Counter[str]:
    from watchdog.app import read_ledger

    opened = read_ledger(ledger)
    found: Counter[str] = Counter()
    watches = opened.watches(limit=500)
    while watches:
        found.update(watch.id for watch in watches)
        watches = opened.watches(limit=500, before=watches[-1].created_at, before_id=watches[-1].id)
    opened.close()
    return found


def figures(said: dict[str, Any], recorded: Counter[str], *, watches: int, seconds: float) -> Figures:
    """Put what the client saw beside what the ledger holds."""
    took = np.array(said["took_s"])
    forged = sorted({*said["forged_accepted"], *(name for name in recorded if name.startswith("forged-"))})
    return Figures(
        sent=len(took),
        seconds=seconds,
        watches=watches,
        p50_s=float(np.quantile(took, 0.5)),
        p99_s=float(np.quantile(took, 0.99)),
        slowest_s=float(took.max()),
        statuses=said["statuses"],
        acked=len(said["acked"]),
        lost=[name for name in said["acked"] if recorded[name] != 1],
        forged_accepted=forged,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--watches", type=int, default=1000)
    parser.add_argument("--look-s", type=float, default=15.0)
    parser.add_argument(
        "--settle-s", type=float, default=60.0, help="time over which the watches begin, and then again"
    )
    parser.add_argument("--judges", type=int, default=1, help="processes that judge beside the daemon's own")
    parser.add_argument("--json", action="store_true", help="the last line is JSON")
    parser.add_argument("--as-client", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.as_client:
        return _client()
    town = Town(watches=given.watches, services=min(500, given.watches))
    with tempfile.TemporaryDirectory(prefix="watchdog-load-") as name:
        folder = Path(name)
        with stage(folder, town, look_s=given.look_s, watch_s=900.0, baseline_s=60.0, judges=given.judges) as found:
            said = measure(found, rate=given.rate, seconds=given.seconds, settle_s=given.settle_s)
        seen = figures(said, _on_record(folder / "load.db"), watches=given.watches, seconds=given.seconds)
    failures = seen.failures()
    for failure in failures:
        print(f"does not hold: {failure}", flush=True)
    print(json.dumps({**asdict(seen), "holds": not failures}) if given.json else seen.line(), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
