"""HAProxy's runtime API: one command per connection, over a unix socket or TCP, within one deadline."""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from watchdog.hooks.wanted_state import Span, again_later, impossible

BATCH = 32  # commands on one line, which HAProxy bounds by its buffer
MAX_ANSWER_BYTES = 4 * 1024 * 1024
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")  # what HAProxy accepts as a name; nothing else enters a command
_UP = ("1", "2")  # srv_op_state: starting slowly, running; 3 is stopping softly and takes no new requests
# srv_admin_state, a sum of: https://docs.haproxy.org/2.6/management.html#9.3-show%20servers%20state
_MAINT, _MAINT_INHERITED, _DRAIN, _DRAIN_INHERITED, _NO_ADDRESS = 0x01, 0x02, 0x08, 0x10, 0x20
_FORCED = _MAINT | _DRAIN  # set by a command, and lifted by `ready`
_NOT_LIFTED = _MAINT_INHERITED | _DRAIN_INHERITED | _NO_ADDRESS  # what the server that it tracks, or DNS, says


@dataclass(frozen=True)
class Server:
    """One line of `show servers state`. is_up: its health and maintenance alone; one that is drained is up."""

    name: str
    is_up: bool
    weight: int
    configured_weight: int
    admin: int

    @property
    def is_drained(self) -> bool:
        """Up and never balanced to, whatever its weight: only clients that a cookie ties to it reach it."""
        return bool(self.admin & (_DRAIN | _DRAIN_INHERITED))

    @property
    def is_open(self) -> bool:
        """Takes new requests as soon as it has a weight."""
        return self.is_up and not self.is_drained

    @property
    def takes_traffic(self) -> bool:
        return self.is_open and self.weight > 0

    @property
    def is_forced_out(self) -> bool:
        return bool(self.admin & _FORCED)

    @property
    def is_taken_out(self) -> bool:
        """By somebody's word, not by its health."""
        return bool(self.admin & (_FORCED | _MAINT_INHERITED | _DRAIN_INHERITED))

    @property
    def opens_when_ready(self) -> bool:
        """Whether `ready` lets it in. Of one in maintenance nobody knows the health; a drained one is still checked."""
        return self.is_forced_out and not self.admin & _NOT_LIFTED and (self.is_up or bool(self.admin & _MAINT))


@dataclass(frozen=True)
class RuntimeApi:
    """One HAProxy process. `address`: a socket's path, or host:port."""

    address: str

    def servers(self, backend: str, span: Span) -> dict[str, Server]:
        """The backend's servers by name."""
        answer = self.ask(f"show servers state {backend}", span)
        lines = [line.split() for line in answer.splitlines()]
        header = next((line[1:] for line in lines if line[:1] == ["#"]), None)
        if header is None:
            impossible(f"{self.address}: {answer.strip()[:200] or 'no answer'}")
        rows = [dict(zip(header, line, strict=False)) for line in lines if len(line) >= len(header)]
        try:
            found = [_server(row) for row in rows if row["be_name"] == backend]
        except (KeyError, ValueError) as error:
            impossible(f"{self.address}: the state of the servers cannot be read: {error!r}")
        return {server.name: server for server in found if NAME.fullmatch(server.name)}

    def change(self, commands: list[str], span: Span) -> None:
        """Send commands that answer nothing when they succeed, in this order, in one go."""
        for first in range(0, len(commands), BATCH):
            answer = self.ask("; ".join(commands[first : first + BATCH]), span).strip()
            if answer:
                impossible(f"{self.address} refused: {answer[:300]}")

    def ask(self, command: str, span: Span) -> str:
        try:
            with _connected(self.address, span) as connection:
                connection.sendall(f"{command}\n".encode())
                return _read(connection, span).decode("utf-8", "replace")
        except OSError as error:
            again_later(f"{self.address}: {error}")


def _server(row: Mapping[str, str]) -> Server:
    return Server(
        name=row["srv_name"],
        is_up=row["srv_op_state"] in _UP,
        weight=int(row["srv_uweight"]),
        configured_weight=int(row["srv_iweight"]),
        admin=int(row["srv_admin_state"]),
    )


def _connected(address: str, span: Span) -> socket.socket:
    if "/" not in address:
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=span.left())
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(span.left())
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _read(connection: socket.socket, span: Span) -> bytes:
    answer = bytearray()
    while chunk := _chunk(connection, span):
        answer += chunk
        if len(answer) > MAX_ANSWER_BYTES:
            impossible("the answer of the runtime API has no end")
    return bytes(answer)


def _chunk(connection: socket.socket, span: Span) -> bytes:
    connection.settimeout(span.left())
    return connection.recv(65536)
