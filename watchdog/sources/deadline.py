"""Sockets that keep a total deadline. A plain timeout starts anew with every byte, so a peer that sends one byte a
second holds its reader for ever."""

import math
import socket
import ssl
from collections.abc import Callable
from typing import Any

from watchdog.config import unreadable_authority
from watchdog.errors import ConfigError, Problem


class _Reads:
    deadline: float = math.inf
    monotonic: Callable[[], float]

    def limit(self, monotonic: Callable[[], float], deadline: float) -> None:
        """Let every further read end by `deadline`."""
        self.monotonic, self.deadline = monotonic, deadline

    def _left(self) -> float | None:
        if self.deadline == math.inf:
            return None
        left = self.deadline - self.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left


class DeadlineSocket(_Reads, socket.socket):
    """A TCP socket whose reads together end by a deadline."""

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        if (left := self._left()) is not None:
            self.settimeout(left)
        return super().recv_into(buffer, nbytes, flags)


class DeadlineTlsSocket(_Reads, ssl.SSLSocket):
    """The same over TLS; made by a context whose `sslsocket_class` is this class."""

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        if (left := self._left()) is not None:
            self.settimeout(left)
        return super().recv_into(buffer, nbytes, flags)


def keeping_deadlines(plain: socket.socket) -> DeadlineSocket:
    """Turn a connected socket into one that keeps deadlines; the original is emptied."""
    timeout = plain.gettimeout()
    sock = DeadlineSocket(plain.family, plain.type, plain.proto, fileno=plain.detach())
    sock.settimeout(timeout)
    return sock


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Verify as usual, and keep deadlines.

    Raises
    ------
    ConfigError
        `ca_file` is not there, or holds no certificate.
    """
    if ca_file and (why := unreadable_authority(ca_file)):
        raise ConfigError([Problem(file="ca_file", line=None, key="", message=why)])
    context = ssl.create_default_context(cafile=ca_file)
    context.sslsocket_class = DeadlineTlsSocket
    return context
