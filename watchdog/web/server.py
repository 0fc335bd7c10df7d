"""Uvicorn, bounded: connections, headers, idle time and shutdown."""

import asyncio
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_DEADLINE_S = 5.0
MAX_HEADER_BYTES = 16 * 1024
MAX_CONNECTIONS = 512
KEEP_ALIVE_S = 5
SHUTDOWN_S = 5


class BoundedHttp(H11Protocol):
    """Uvicorn closes idle connections after an answer, but waits for ever for the end of a request's headers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type] # uvicorn narrows it, for TCP it is the same
        self._bound_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._bound_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        super().connection_lost(exc)

    def _bound_headers(self) -> None:
        """Run the deadline exactly while a request's headers have begun, or a new connection has yet to send them."""
        if self.conn.their_state is not h11.IDLE:
            self._release()
        elif self._header_deadline is None:
            self._header_deadline = self.loop.call_later(HEADER_DEADLINE_S, self.transport.abort)

    def _release(self) -> None:
        if self._header_deadline is not None:
            self._header_deadline.cancel()
            self._header_deadline = None


def serve(app: ASGIApp, host: str, port: int) -> uvicorn.Server:
    """Configure a server; the caller runs it, and stops it by `should_exit`. No proxy's headers are believed."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=BoundedHttp,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=128,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        )
    )
