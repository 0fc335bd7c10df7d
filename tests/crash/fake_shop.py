"""What stands around a daemon that is killed: a Prometheus that tells of bad versions, and somebody who is told.

One process serves any number of worlds, each below a path of its own: /NAME/api/v1/query(_range), and /NAME/told for
the webhook sink. What a world's production does is in its folder: a bad version takes traffic until the
hook has an effect on it.
"""

import json
import math
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

REPLICAS = 3
GOOD = "v1"  # every other version is bad
GOOD_PER_S, BAD_PER_S = 900.0, 300.0  # requests of each replica
GOOD_ERRORS, BAD_ERRORS = 0.01, 0.4
_LABELS = re.compile(r"sum by \(([^)]*)\)")
_VERSIONS = re.compile(r'version=~?"([^"]*)"')
_SPAN = re.compile(r"offset (\d+)(ms|s)")


@contextmanager
def running(root: Path) -> Iterator[int]:
    """Serve the worlds below `root`, in a process of its own; its port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    pid = os.fork()
    if pid == 0:
        try:
            _serve(listener, root)
        finally:
            os._exit(1)
    listener.close()
    try:
        yield port
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _serve(listener: socket.socket, root: Path) -> None:

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:
                return  # the daemon was killed in the middle of it
            _, name, what = self.path.split("/", 2)
            if what == "told":
                while (root / name / "silent").exists():
                    time.sleep(0.05)
                with (root / name / "told").open("ab") as told:
                    told.write(body + b"\n")
                self._answer(b"{}")
            else:
                form = {key: values[0] for key, values in parse_qs(body.decode()).items()}
                self._answer(json.dumps(_evaluated(form, root / name)).encode())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None: ...  # a daemon that is killed hangs up in the middle

    server = Server(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_activate()
    server.serve_forever()


def _evaluated(form: dict[str, str], world: Path) -> dict[str, Any]:
    """The answer to one of our own queries, at one moment or several."""
    moments = [float(form["time"])] if "time" in form else list(_steps(form))
    series = [
        (labels, [(at, str(value)) for at in moments if (value := count(at)) is not None])
        for labels, count in _series(form["query"], world)
    ]
    if "time" in form:
        result: list[dict[str, Any]] = [{"metric": labels, "value": values[0]} for labels, values in series if values]
        return {"status": "success", "data": {"resultType": "vector", "result": result}}
    result = [{"metric": labels, "values": values} for labels, values in series if values]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def _steps(form: dict[str, str]) -> Iterator[float]:
    first_ms, last_ms = (round(float(form[name]) * 1000) for name in ("start", "end"))
    for at_ms in range(first_ms, last_ms + 1, int(form["step"].removesuffix("ms"))):
        yield at_ms / 1000


def _series(query: str, world: Path) -> Iterator[tuple[dict[str, str], Any]]:
    """The replicas of both versions, each with its count of an interval that ends at a moment."""
    asked, span = _LABELS.search(query), _SPAN.search(query)
    if asked is None or span is None:
        return  # `up`: nobody knows
    names = {name.strip() for name in asked[1].split(",")}
    span_s = float(span[1]) / (1000 if span[2] == "ms" else 1)
    for version in sorted({name for found in _VERSIONS.findall(query) for name in found.split("|")}):
        per_s, errors = (GOOD_PER_S, GOOD_ERRORS) if version == GOOD else (BAD_PER_S, BAD_ERRORS)
        until = math.inf if version == GOOD else changed_at(world, version)
        rate = per_s * (errors if "shop_errors_total" in query else 1.0)
        for replica in range(REPLICAS):
            labels = {"version": version, "instance": f"{version}-{replica}"}

            def count(at: float, rate: float = rate, until: float = until) -> int | None:
                began = at - span_s
                return math.floor(min(at, until) * rate) - math.floor(began * rate) if began < until else None

            yield {key: value for key, value in labels.items() if key in names}, count


def changed_at(world: Path, version: str) -> float:
    """When the hook first took the traffic from a version; infinity before."""
    try:
        return (world / f"switched.{version}").stat().st_mtime
    except OSError:
        return math.inf
