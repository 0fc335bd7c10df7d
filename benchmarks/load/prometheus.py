"""A pretended Prometheus that answers grouped queries at once and counts them: what is measured is the daemon.

Run: python -m benchmarks.load.prometheus [--port 0] [--replicas 2]; it prints its port, and GET /counts what was asked.
"""

import argparse
import asyncio
import json
import re
from collections import Counter
from collections.abc import Sequence
from urllib.parse import parse_qs

import numpy as np

_BY = re.compile(r"\bby \(([^)]*)\)")
_SERIES = re.compile(r"([a-z_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')
_BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "+Inf")
_SHARES = np.array([0.10, 0.15, 0.20, 0.20, 0.15, 0.10, 0.05, 0.03, 0.01, 0.005, 0.005])
_RATES = {  # events of one instance in one interval
    "http_requests_total": 300.0,
    "upstream_calls_total": 200.0,
    "upstream_timeouts_total": 2.0,
    "orders_total": 30.0,
}
_ERRORS = 3.0  # of http_requests_total with a condition on the code
_LEVELS = {"process_cpu_share": (0.4, 0.03), "open_connections": (120.0, 9.0)}


def _plain(regex: str) -> str:
    """What stands in a regular expression that stands for texts, in a PromQL string."""
    return regex.replace("\\\\", "")


class Answers:
    """What a healthy town would have: every old version has `replicas` instances, every new one has one."""

    def __init__(self, *, replicas: int, seed: int = 1) -> None:
        self._replicas = replicas
        self._rng = np.random.default_rng(seed)
        self._heads: dict[tuple[str, ...], str] = {}
        self.asked: Counter[str] = Counter()  # requests by template

    def answer(self, form: dict[str, list[str]]) -> bytes:
        """One instant or range query."""
        query = form["query"][0]
        labels = [name.strip() for name in _BY.search(query)[1].split(",")]  # type: ignore[index]
        name, conditions = _SERIES.search(query).groups()  # type: ignore[union-attr]
        wanted = {label: _plain(value).split("|") for label, _, value in _MATCHER.findall(conditions)}
        if "time" in form:
            moments = [float(form["time"][0])]
        else:
            start, end = float(form["start"][0]), float(form["end"][0])
            moments = list(np.arange(start, end + 1e-3, float(form["step"][0].removesuffix("ms")) / 1000))
        kind = f"{name} by code" if "code" in wanted else name
        self.asked[kind] += 1
        series = [
            (version, instance)
            for version in wanted.get("version", [])
            for instance in range(self._replicas if version.endswith("a") and "instance" in labels else 1)
        ]
        rows = self._rows(name, "code" in wanted, len(series), len(moments))
        bounds = _BOUNDS if "le" in labels else ("",)
        items = []
        for at, (version, instance) in enumerate(series):
            for i, bound in enumerate(bounds):
                head = self._head(labels, version, instance, bound)
                values = rows[at * len(bounds) + i]
                if "time" in form:
                    items.append(f'{{"metric":{head},"value":[{moments[0]:.3f},"{values[0]:g}"]}}')
                else:
                    points = ",".join(f'[{m:.3f},"{v:g}"]' for m, v in zip(moments, values, strict=True))
                    items.append(f'{{"metric":{head},"values":[{points}]}}')
        shape = "vector" if "time" in form else "matrix"
        return f'{{"status":"success","data":{{"resultType":"{shape}","result":[{",".join(items)}]}}}}'.encode()

    def _head(self, labels: Sequence[str], version: str, instance: int, bound: str) -> str:
        key = (*labels, version, str(instance), bound)
        found = self._heads.get(key)
        if found is None:
            known = {
                "version": version,
                "job": f"svc-{version.partition('.')[0]}",
                "instance": f"{version}-{instance}:8080",
                "le": bound,
            }
            found = self._heads[key] = json.dumps({name: known[name] for name in labels})
        return found

    def _rows(self, name: str, of_errors: bool, n: int, moments: int) -> list[list[float]]:
        if name == "up":
            return [[1.0] * moments] * n
        if name in _LEVELS:
            mean, spread = _LEVELS[name]
            return list(np.round(self._rng.normal(mean, spread, (n, moments)), 4).tolist())
        if name.endswith("_bucket"):
            counts = self._rng.poisson(300.0 * _SHARES[:, None], (n, len(_BOUNDS), moments)).cumsum(axis=1)
            return list(counts.reshape(n * len(_BOUNDS), moments).tolist())
        rate = _ERRORS if of_errors else _RATES[name]
        return list(self._rng.poisson(rate, (n, moments)).tolist())

    def counts(self) -> bytes:
        """How many requests, by template."""
        return json.dumps(self.asked).encode()


async def serve(answers: Answers, port: int) -> None:
    """Answer until killed."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                said = answers.counts() if head.startswith("GET /counts") else answers.answer(parse_qs(body.decode()))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(said)
                )
                writer.write(said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--replicas", type=int, default=2, help="instances of each old version")
    given = parser.parse_args()
    asyncio.run(serve(Answers(replicas=given.replicas), given.port))


if __name__ == "__main__":
    main()
