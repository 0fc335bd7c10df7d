"""A stand-in for HAProxy's runtime API on TCP, for faults that a real one cannot show and for tests without servers.

It knows `show servers state` and `set server <backend>/<server> weight|state`, as HAProxy 2.6 answers them.
"""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HEADER = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight\n"


@dataclass
class StandIn:
    """One pretended process with backend `shop`; `broken` answers instead, where given."""

    weights: dict[str, int]
    address: str = ""
    configured: dict[str, int] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    maintenance: set[str] = field(default_factory=set)
    drained: set[str] = field(default_factory=set)
    drained_with: set[str] = field(default_factory=set)  # as the server that they track is; `ready` does not lift it
    deaf: bool = False  # takes every change without carrying it out
    broken: bytes | None = None
    heard: list[str] = field(default_factory=list)

    def answer(self, line: str) -> bytes:
        self.heard.append(line)
        return self.broken if self.broken is not None else "".join(map(self._one, line.split("; "))).encode()

    def _one(self, command: str) -> str:
        words = command.split()
        if words[:2] == ["show", "servers"]:
            return (
                HEADER + "".join(map(self._row, self.weights)) + "\n" if words[-1] == "shop" else "No such backend.\n"
            )
        if not self.deaf:
            self._set(words[2].partition("/")[2], words[3], words[4])
        return "\n"

    def _set(self, server: str, what: str, value: str) -> None:
        if what == "weight":
            self.weights[server] = int(value)
        elif value == "maint":
            self.maintenance.add(server)
            self.drained.discard(server)
        else:
            self.maintenance.discard(server)
            self.drained.discard(server)

    def _row(self, server: str) -> str:
        state = 0 if server in self.down | self.maintenance else 2
        admin = 1 * (server in self.maintenance) + 8 * (server in self.drained) + 16 * (server in self.drained_with)
        weights = f"{self.weights[server]} {self.configured.get(server, 0)}"
        return f"3 shop 1 {server} 127.0.0.1 {state} {admin} {weights}\n"


@contextmanager
def runtime_api(weights: dict[str, int]) -> Iterator[StandIn]:
    """A stand-in on a free port of 127.0.0.1."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(state.answer(self.rfile.readline().decode().strip()))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state = StandIn(weights)
        state.address = f"127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield state
        finally:
            server.shutdown()
