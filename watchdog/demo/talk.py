"""JSON over HTTP on loopback, by the standard library: how the demo talks to the front, the shop and the daemon."""

import http.client
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from watchdog.demo.serving import HOST


def call(
    method: str,
    port: int,
    path: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 20.0,
) -> tuple[int, Any]:
    """One request; the status and the decoded JSON answer (text where it is none). OSError: nobody there."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    sent = {"Content-Type": "application/json", **(headers or {})}
    try:
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=sent)
        answer = connection.getresponse()
        return answer.status, _decoded(answer.read())
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP answer from port {port}: {error!r}") from error
    finally:
        connection.close()


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def answers(port: int, path: str) -> bool:
    """Whether somebody answers there with 200."""
    try:
        return call("GET", port, path, timeout_s=1.0)[0] == 200
    except OSError:
        return False


def wait_for(happened: Callable[[], bool], *, what: str, within_s: float, step_s: float = 0.05) -> None:
    """Wait until `happened`, or raise TimeoutError saying what did not."""
    deadline = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {within_s:g} s")
        time.sleep(step_s)
