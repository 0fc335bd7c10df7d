"""Unleash for tests: the real server from npm on a PostgreSQL of its own, or a small one that follows its OpenAPI.

The small one is for every test run; it knows one project, answers what Unleash 7 answers, and keeps these rules:

- a token that is not the right one is 401; a flag, environment or strategy that is not there is 404;
- turning a flag on where it has no strategy adds a gradual rollout of 100 %, as Unleash does;
- a JSON patch of a strategy changes what it names, and its `rollout` stays text.
"""

import itertools
import json
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests import servers
from tests.kube_patches import patched_by
from tests.npm import npm_package
from tests.receivers import Answer, Received, receiver

TOKEN = "*:*.for-tests"
ENVIRONMENT = "development"
GRADUAL = {"name": "flexibleRollout", "constraints": [], "segments": []}
_READY_S = 60.0  # its first start makes a schema of some two hundred steps
_names = itertools.count(1)


@dataclass(frozen=True)
class Unleash:
    """Where it is, and what an admin may do there."""

    url: str
    client_token: str = ""

    def call(self, method: str, path: str, body: Any = None, *, token: str = TOKEN) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": token, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", method=method, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as reply:
            text = reply.read()
            return json.loads(text) if text else None

    def new_flag(self, *strategies: dict[str, Any], on: bool = True, name: str = "") -> str:
        """Its name; without strategies it has one gradual rollout of 10 %."""
        name = name or f"flag-{next(_names)}"
        self.call("POST", "/api/admin/projects/default/features", {"name": name, "type": "release"})
        for strategy in strategies or (gradual(10),):
            self.call("POST", f"{self.place(name)}/strategies", strategy)
        if on:
            self.call("POST", f"{self.place(name)}/on", {})
        return name

    def flag(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", self.place(name))
        return found

    def place(self, name: str) -> str:
        return f"/api/admin/projects/default/features/{name}/environments/{ENVIRONMENT}"


def gradual(percent: int, **more: Any) -> dict[str, Any]:
    return {**GRADUAL, "parameters": {"rollout": str(percent), "stickiness": "default", "groupId": "g"}, **more}


@contextmanager
def real_unleash() -> Iterator[Unleash]:
    """Skipped with the reason where it cannot be had."""
    node = shutil.which("node")
    if node is None:
        servers.without("node", "the Unleash server runs on it")
    script = npm_package("unleash-server") / "dist" / "server.js"
    with servers.postgres() as database, tempfile.TemporaryDirectory() as folder:
        port = servers.free_port()
        client = "default:development.for-tests"
        settings = {
            "DATABASE_HOST": str(database.folder),
            "DATABASE_NAME": "postgres",
            "DATABASE_USERNAME": "watchdog",
            "DATABASE_PASSWORD": "unused",
            "DATABASE_SSL": "false",
            "HTTP_HOST": "127.0.0.1",
            "HTTP_PORT": str(port),
            "INIT_ADMIN_API_TOKENS": TOKEN,
            "INIT_BACKEND_API_TOKENS": client,
            "CHECK_VERSION": "false",
            "SEND_TELEMETRY": "false",
            "LOG_LEVEL": "error",
        }
        argv, url = [node, str(script)], f"http://127.0.0.1:{port}"
        with servers.running(
            argv,
            folder,
            lambda: servers.answers(f"{url}/health"),
            env={**os.environ, **settings},
            ready_s=_READY_S,
        ):
            yield Unleash(url, client)


@contextmanager
def small_unleash() -> Iterator[Unleash]:
    with receiver() as web:
        web.otherwise = _Small().answer
        yield Unleash(web.url)


@dataclass
class _Small:
    flags: dict[str, dict[str, Any]] = field(default_factory=dict)

    def answer(self, request: Received) -> Answer:
        if request.headers.get("authorization") != TOKEN:
            return _said(401, {"name": "AuthenticationRequired", "message": "You must log in to use Unleash."})
        parts = request.path.strip("/").split("/")[5:]  # after api, admin, projects, default, features
        body: Any = json.loads(request.body) if request.body else None
        if not parts and request.method == "POST":
            self.flags[body["name"]] = {"name": body["name"], "enabled": False, "strategies": []}
            return _said(201, body)
        flag = self.flags.get(parts[0]) if len(parts) >= 3 and parts[2] == ENVIRONMENT else None
        if flag is None:
            return _said(404, {"name": "NotFoundError", "message": f"There's no feature named {parts[:1]}"})
        return self._of(flag, request.method, parts[3:], body)

    def _of(self, flag: dict[str, Any], method: str, parts: list[str], body: Any) -> Answer:
        match method, parts:
            case "GET", []:
                return _said(200, flag)
            case "POST", ["on" | "off" as word]:
                flag["enabled"] = word == "on"
                if flag["enabled"] and not flag["strategies"]:
                    flag["strategies"].append({"id": "s0", **gradual(100)})
                return Answer(200, b"")
            case "POST", ["strategies"]:
                flag["strategies"].append({"id": f"s{len(flag['strategies'])}", "disabled": False, **body})
                return _said(200, flag["strategies"][-1])
            case "PATCH", ["strategies", wanted]:
                for place, strategy in enumerate(flag["strategies"]):
                    if strategy["id"] == wanted:
                        flag["strategies"][place] = patched_by("application/json-patch+json", strategy, body)
                        return _said(200, flag["strategies"][place])
        return _said(404, {"name": "NotFoundError", "message": "The path you were looking for is not available."})


def _said(status: int, body: Any) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json; charset=utf-8"})
