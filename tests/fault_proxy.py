"""A proxy in asyncio between the daemon and a real Prometheus: the answers are real, what happens to them is not."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

HUGE_BYTES = 200_000_000
SKEW_S = 37.0
_HTML = b"<html><body>Please log in</body></html>"
_OVERLOADED = b'{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}'


class Fault(StrEnum):
    """What happens to every answer."""

    NONE = "none"
    REFUSE = "refuse"  # nobody listens
    HANG_UP = "hang up"  # taken, and closed at once
    HANG = "hang"  # taken, and never answered
    DRIP = "drip"  # one byte a second
    ERROR_500 = "500"
    ERROR_502 = "502 in HTML"
    ERROR_503 = "503"
    HTML = "HTML for JSON"
    CUT = "cut in the middle"
    HUGE = "200 MB"
    SKEWED = "skewed Date"
    PARTIAL = "isPartial"
    WARNINGS = "warnings"
    NAN = "NaN"
    INFINITE = "+Inf"
    GAP = "no series"  # none there at that moment: a gap between scrapes, or samples that come late


BLIND = frozenset(set(Fault) - {Fault.NONE, Fault.PARTIAL, Fault.WARNINGS, Fault.NAN, Fault.INFINITE, Fault.GAP})


@dataclass
class FaultProxy:
    """`suffer` a fault at any time. `now`: what a Date header tells, as the upstream's clock would have it."""

    upstream: str
    port: int
    now: Callable[[], float]
    fault: Fault = Fault.NONE
    asked: int = 0
    sent_bytes: int = 0
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def suffer(self, fault: Fault) -> None:
        """From now on; a refusal is a port on which nobody listens."""
        self.fault = fault
        wanted = self.close() if fault is Fault.REFUSE else self.listen()
        asyncio.run_coroutine_threadsafe(wanted, self.loop).result(5)

    async def listen(self) -> None:
        if self.server is None:
            self.server = await asyncio.start_server(self._handle, "127.0.0.1", self.port)
            self.port = self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._answer(reader, writer)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.fault is Fault.HANG_UP:
            writer.transport.abort()
            return
        head, body = await _request(reader)
        self.asked += 1
        if self.fault is Fault.HANG:
            await asyncio.sleep(3600)
        canned = {
            Fault.ERROR_500: (500, b""),
            Fault.ERROR_502: (502, _HTML),
            Fault.ERROR_503: (503, _OVERLOADED),
            Fault.HTML: (200, _HTML),
        }.get(self.fault)
        status, answer = canned if canned is not None else await self._upstream(head, body)
        await self._send(writer, status, self._spoilt(answer))

    async def _upstream(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        parts = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        kept = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"accept-enc"))]
        writer.write(b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n" + body)
        whole = await reader.read()
        writer.close()
        told, _, answer = whole.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in told.lower():
            answer = _unchunked(answer)
        return int(told.split(b" ", 2)[1]), answer

    def _spoilt(self, answer: bytes) -> bytes:
        if self.fault not in (Fault.PARTIAL, Fault.WARNINGS, Fault.NAN, Fault.INFINITE, Fault.GAP):
            return answer
        told: dict[str, Any] = json.loads(answer)
        if self.fault is Fault.PARTIAL:
            told["isPartial"] = True
        elif self.fault is Fault.WARNINGS:
            told["warnings"] = ["store shard-3 did not answer"]
        elif self.fault is Fault.GAP:
            told["data"]["result"] = []
        else:
            word = "NaN" if self.fault is Fault.NAN else "+Inf"
            for series in told["data"]["result"]:
                for point in [series["value"]] if "value" in series else series["values"]:
                    point[1] = word
        return json.dumps(told).encode()

    async def _send(self, writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
        date = self.now() + (SKEW_S if self.fault is Fault.SKEWED else 0.0)
        length = HUGE_BYTES if self.fault is Fault.HUGE else len(body)
        head = f"HTTP/1.1 {status} told\r\nDate: {formatdate(date, usegmt=True)}\r\nContent-Length: {length}\r\n"
        writer.write(f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode())
        if self.fault is Fault.DRIP:
            for byte in body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1.0)
        elif self.fault is Fault.HUGE:
            for _ in range(HUGE_BYTES // 1_000_000):
                writer.write(b" " * 1_000_000)
                await writer.drain()
                self.sent_bytes += 1_000_000
        else:
            writer.write(body[: len(body) // 2] if self.fault is Fault.CUT else body)
            await writer.drain()


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
    length = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")), 0)
    return head, await reader.readexactly(length)


def _unchunked(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        found, body = found + rest[:length], rest[length + 2 :]
        if not length:
            break
    return found


@contextmanager
def fault_proxy(upstream: str, now: Callable[[], float]) -> Iterator[FaultProxy]:
    """Run one on a free port of loopback, in a thread of its own."""
    proxy = FaultProxy(upstream=upstream, port=0, now=now)
    loop = proxy.loop
    loop.run_until_complete(proxy.listen())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.run_until_complete(_ended(proxy))
        loop.close()


async def _ended(proxy: FaultProxy) -> None:
    await proxy.close()
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
