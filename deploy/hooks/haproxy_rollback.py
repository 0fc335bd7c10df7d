#!/usr/bin/env python3
"""A rollback hook for HAProxy: brings the wanted state about over the runtime API, and can be asked for it.

    [hooks.back]
    kind = "command"
    argv       = ["/etc/deploy-watchdog/haproxy_rollback.py", "--socket", "/run/haproxy.sock", "--backend", "shop",
                  "--servers", "v1=a,b", "--servers", "v2=c", "--fence-file", "/var/lib/deploy-watchdog/shop.fence"]
    probe_argv = [the same, "--probe"]
    idempotent = true

Versions and the servers that run them may also be told by a pattern: `--pattern "{version}-"` takes every server whose
name starts with the version and a dash. ACTION_ID, FENCE, FROM and TO come by the environment.

The wanted state is "every server of FROM has weight 0, every server of TO takes its share", never a relative undo, so
running it twice does no harm. It refuses where no server of TO is up: weight 0 for everybody would answer 503 to all.

Run:   0 in effect · 1 impossible · 5 FROM and TO take no traffic, hands off · 6 an older fence · 75 try again.
Probe: 0 in effect · 3 not · 4 in part · 5 neither takes traffic · 1 cannot say.
"""

import argparse
import fcntl
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IN_EFFECT, IMPOSSIBLE, NOT_IN_EFFECT, IN_PART, MOVED_ON, FENCED_OFF, TRY_AGAIN = 0, 1, 3, 4, 5, 6, 75
DEADLINE_S = 5.0
UP_STATES = ("1", "2")  # starting slowly, running; 3 is stopping softly and takes no new requests


class RuntimeApiError(Exception):
    """HAProxy could not be asked, or refused."""


@dataclass(frozen=True)
class Server:
    """One line of `show servers state`."""

    name: str
    is_up: bool
    weight: int

    @property
    def takes_traffic(self) -> bool:
        return self.is_up and self.weight > 0


@dataclass(frozen=True)
class RuntimeApi:
    """HAProxy's admin socket: one command per connection."""

    path: str
    backend: str

    def servers(self) -> list[Server]:
        lines = [line.split() for line in self.ask(f"show servers state {self.backend}").splitlines()]
        header = next((line[1:] for line in lines if line[:1] == ["#"]), None)
        if header is None:
            raise RuntimeApiError(f"no backend {self.backend}")
        rows = [dict(zip(header, line, strict=False)) for line in lines if len(line) >= len(header)]
        return [
            Server(row["srv_name"], row["srv_op_state"] in UP_STATES, int(row["srv_uweight"]))
            for row in rows
            if row.get("be_name") == self.backend
        ]

    def set_weight(self, server: str, weight: int) -> None:
        answer = self.ask(f"set server {self.backend}/{server} weight {weight}").strip()
        if answer:
            raise RuntimeApiError(answer)

    def ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE_S)
            try:
                connection.connect(self.path)
                connection.sendall(command.encode() + b"\n")
                parts = iter(lambda: connection.recv(65536), b"")
                return b"".join(parts).decode()
            except OSError as error:
                raise RuntimeApiError(f"{self.path}: {error}") from error


@dataclass(frozen=True)
class Rollback:
    """Away from some servers, to some others."""

    leaving: frozenset[str]
    returning: frozenset[str]

    def standing(self, servers: Sequence[Server]) -> int:
        """How production stands to the wanted state, as the probe's exit code."""
        back = [server.takes_traffic for server in servers if server.name in self.returning]
        if any(server.weight > 0 for server in servers if server.name in self.leaving):
            return NOT_IN_EFFECT
        if not any(back):
            return MOVED_ON
        return IN_EFFECT if all(back) else IN_PART

    def carry_out(self, api: RuntimeApi, weight: int) -> tuple[int, str]:
        servers = api.servers()
        if self.standing(servers) == MOVED_ON:
            return MOVED_ON, "neither version takes traffic: hands off"
        if not any(server.is_up for server in servers if server.name in self.returning):
            return IMPOSSIBLE, f"no server of {sorted(self.returning)} is up; leaving the weights as they are"
        for server in servers:  # first the old version in, then the new one out
            if server.name in self.returning and server.weight == 0:
                api.set_weight(server.name, weight)
        for name in sorted(self.leaving):
            api.set_weight(name, 0)
        reached = self.standing(api.servers())
        if reached in (IN_EFFECT, IN_PART):
            return IN_EFFECT, f"{sorted(self.leaving)} take no traffic, {sorted(self.returning)} do"
        return TRY_AGAIN, "the weights are not as they were set"


def rollback_for(asked: argparse.Namespace, servers: Sequence[Server]) -> Rollback | str:
    """The servers of both versions, or what is wrong with the question."""
    named = dict(entry.partition("=")[::2] for entry in asked.servers)

    def of(version: str) -> frozenset[str]:
        if version in named:
            return frozenset(filter(None, named[version].split(",")))
        start = asked.pattern.replace("{version}", version) if asked.pattern else None
        return frozenset(server.name for server in servers if start and server.name.startswith(start))

    found = {which: of(os.environ[which]) for which in ("FROM", "TO")}
    known = {server.name for server in servers}
    for which, names in found.items():
        if not names or not names <= known:
            return f"{which}={os.environ[which]!r}: no such servers in the backend ({', '.join(sorted(known))})"
    return Rollback(found["FROM"], found["TO"])


def fenced(path: str | None, fence: int) -> bool:
    """Whether somebody newer has had the turn; keeps the highest fence seen."""
    if path is None:
        return False
    with Path(path).open("a+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        newest = int(file.read().strip() or 0)
        if fence < newest:
            return True
        file.truncate(0)
        file.write(str(fence))
        file.flush()
        os.fsync(file.fileno())
    return False


def main(argv: Sequence[str] | None = None) -> int:
    """Carry the rollback out, or say whether it is in effect."""
    parser = argparse.ArgumentParser(description="Rolls a HAProxy backend back to another version's servers.")
    parser.add_argument("--socket", required=True, help="path of the stats socket, level admin")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--servers", action="append", default=[], metavar="VERSION=NAME,NAME")
    parser.add_argument("--pattern", help='how server names start, e.g. "{version}-"')
    parser.add_argument("--weight", type=int, default=100, help="weight of a returning server that had 0")
    parser.add_argument("--fence-file", help="keeps the highest fence seen; older calls are refused")
    parser.add_argument("--probe", action="store_true", help="only say whether the rollback is in effect")
    asked = parser.parse_args(argv)
    api = RuntimeApi(asked.socket, asked.backend)
    try:
        servers = api.servers()
        wanted = rollback_for(asked, servers)
        if isinstance(wanted, str):
            return _say(IMPOSSIBLE, wanted)
        if asked.probe:
            return wanted.standing(servers)
        if fenced(asked.fence_file, int(os.environ["FENCE"])):
            return _say(FENCED_OFF, "an older fence: somebody newer has had the turn")
        return _say(*wanted.carry_out(api, asked.weight))
    except RuntimeApiError as error:
        return _say(IMPOSSIBLE if asked.probe else TRY_AGAIN, str(error))
    except (KeyError, ValueError) as error:
        return _say(IMPOSSIBLE, f"the environment does not say what to do: {error}")


def _say(code: int, sentence: str) -> int:
    print(sentence, file=sys.stderr if code else sys.stdout, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
