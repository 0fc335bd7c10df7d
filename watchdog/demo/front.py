"""The weighted front: `python -m watchdog.demo.front --port P --admin-port A --upstream v1=http://…,http://… …`.

What has weights is a version, or one server of it (`v1/a`), or a variation of a flag, which the shop is told. It counts
what visitors really got, per version; the daemon never sees these counts, so they can judge it.
"""

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from watchdog.demo.serving import VARIATION_HEADER, listen, run, told_to_stop
from watchdog.demo.skew import Skew
from watchdog.demo.weights import RefusedError, Request, Weights, load

UPSTREAM_TIMEOUT_S = 2.0
_PASSED_ON = ("Content-Type", "Cookie", "User-Agent")


@dataclass(slots=True)
class Count:
    """What visitors got from one version. An error is a 5xx or no answer at all."""

    requests: int = 0
    errors: int = 0
    unanswered: int = 0  # of the errors: refused, dropped or too late
    orders: int = 0  # answered with 201
    in_flight: int = 0
    first_at: float | None = None
    last_at: float | None = None


@dataclass(slots=True)
class Front:
    weights: Weights
    addresses: Mapping[str, Sequence[str]]
    session: aiohttp.ClientSession
    skew: Skew
    counts: dict[str, Count] = field(default_factory=dict)
    _turns: dict[str, Iterator[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._turns = {name: itertools.cycle(urls) for name, urls in self.addresses.items()}
        self.counts = {version_of(name): Count() for name in self.addresses}

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        """Give one visitor to one version and its answer to the visitor."""
        version = self._pick(request.path)
        count = self.counts[version_of(version)]
        count.in_flight += 1
        count.first_at = count.first_at or time.time()
        try:
            answer = await self._ask(version, request)
        finally:
            count.in_flight -= 1
            count.last_at = time.time()
        count.requests += 1
        count.errors += answer.status >= 500
        count.unanswered += answer.status in (502, 504)
        count.orders += answer.status == 201
        return answer

    def _pick(self, path: str) -> str:
        picked = self.weights.pick()
        serving = [name for name, weight in self.weights.current.items() if weight > 0]
        if len(serving) != 2 or self.skew.version not in serving:
            return picked
        other = serving[1] if serving[0] == self.skew.version else serving[0]
        return self.skew.moved(picked, other, path)

    async def _ask(self, version: str, request: web.Request) -> web.Response:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        headers[VARIATION_HEADER] = version
        body = await request.read() if request.body_exists else None
        url = next(self._turns[version]) + request.raw_path
        try:
            async with self.session.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            ) as upstream:
                return web.Response(
                    status=upstream.status, body=await upstream.read(), content_type=upstream.content_type
                )
        except TimeoutError:
            return web.Response(status=504, text=f"{version} did not answer in time")
        except aiohttp.ClientError:
            return web.Response(status=502, text=f"{version} cannot be reached")

    async def get_weights(self, _: web.Request) -> web.Response:
        return web.json_response(self.weights.document() | {"addresses": dict(self.addresses)})

    async def set_roll_out(self, request: web.Request) -> web.Response:
        """`{"paused": true}` asks whoever rolls out to stop; headers as for the weights."""
        try:
            asked = _change(await request.read(), request.headers)
            changed = self.weights.pause(asked)
        except RefusedError as refused:
            return web.json_response({"error": refused.message} | self.weights.document(), status=refused.status)
        return web.json_response({"changed": changed} | self.weights.document())

    async def set_skew(self, request: web.Request) -> web.Response:
        """`{"/checkout": 0.3}`: that share of the route's visitors goes to the new version."""
        try:
            self.skew.change(json.loads(await request.read()))
        except (ValueError, TypeError, AttributeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(self.skew.shares)

    async def set_weights(self, request: web.Request) -> web.Response:
        """`{"v1": 90, "v2": 10}`; If-Match carries the revision compared, X-Fence the caller's fence."""
        try:
            changed = self.weights.change(_change(await request.read(), request.headers))
        except RefusedError as refused:
            return web.json_response({"error": refused.message} | self.weights.document(), status=refused.status)
        return web.json_response({"changed": changed} | self.weights.document())

    async def get_stats(self, _: web.Request) -> web.Response:
        counts = {version: asdict(count) for version, count in self.counts.items()}
        return web.json_response({"at": time.time(), "versions": counts})


def version_of(name: str) -> str:
    """The version of what has a weight: `v1` of `v1/a`."""
    return name.partition("/")[0]


def _change(body: bytes, headers: Mapping[str, str]) -> Request:
    try:
        weights = json.loads(body)
        numbers = {
            name: int(headers[name].strip('"')) for name in ("If-Match", "X-Fence", "X-Attempt") if name in headers
        }
    except ValueError as error:
        raise RefusedError(400, f"not understood: {error}") from None
    if not isinstance(weights, dict):
        raise RefusedError(400, 'expected an object such as {"v1": 90, "v2": 10}')
    return Request(
        weights=weights,
        revision=numbers.get("If-Match"),
        fence=numbers.get("X-Fence"),
        action_id=headers.get("X-Action-Id", ""),
        attempt=numbers.get("X-Attempt", 0),
    )


async def serve(upstreams: Mapping[str, list[str]], *, port: int, admin_port: int, state: Path | None) -> None:
    """Listen for visitors and, on the other port, for whoever sets the weights."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0)
    timeout = aiohttp.ClientTimeout(total=UPSTREAM_TIMEOUT_S)
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        front = Front(
            weights=load(list(upstreams), state),
            addresses=upstreams,
            session=session,
            skew=Skew(version=list(upstreams)[-1]),
        )
        visitors, admin = web.Application(), web.Application()
        visitors.router.add_route("*", "/{path:.*}", front.pass_on)
        admin.router.add_get("/weights", front.get_weights)
        admin.router.add_post("/weights", front.set_weights)
        admin.router.add_post("/rollout", front.set_roll_out)
        admin.router.add_put("/skew", front.set_skew)
        admin.router.add_get("/stats", front.get_stats)
        runners = [await listen(visitors, port), await listen(admin, admin_port)]
        await told_to_stop().wait()
        await asyncio.gather(*(runner.cleanup() for runner in runners))


def _upstream(text: str) -> tuple[str, list[str]]:
    version, given, urls = text.partition("=")
    if not (version and given and urls):
        raise argparse.ArgumentTypeError(f"{text!r}: expected VERSION=URL[,URL…]")
    return version, urls.split(",")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m watchdog.demo.front", description="The demo's weighted front.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--admin-port", type=int, required=True)
    parser.add_argument("--upstream", type=_upstream, action="append", required=True, help="VERSION=URL[,URL…]")
    parser.add_argument("--state", type=Path, default=None, help="keeps the weights over a restart")
    asked = parser.parse_args()
    run(serve(dict(asked.upstream), port=asked.port, admin_port=asked.admin_port, state=asked.state))


if __name__ == "__main__":
    main()
