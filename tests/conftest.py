"""For all tests: nobody talks to another machine."""

import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

_HERE = ("127.", "::1", "localhost", "0.0.0.0", "::ffff:127.")


@pytest.fixture(scope="session", autouse=True)
def only_this_machine() -> Iterator[None]:
    """Connections to anything but loopback fail at once, as on a machine without a network."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def guarded(self: socket.socket, address: Any) -> None:
        if _is_elsewhere(self, address):
            raise OSError(errno.ENETUNREACH, f"tests may only talk to this machine, not to {address[0]}")
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        return errno.ENETUNREACH if _is_elsewhere(self, address) else connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        patch.setattr(socket.socket, "connect_ex", guarded_ex)
        yield


def _is_elsewhere(sock: socket.socket, address: Any) -> bool:
    return sock.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(_HERE)
