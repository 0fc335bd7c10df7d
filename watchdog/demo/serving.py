"""What the shop, the front and the visitors share as processes: listening, and stopping when told to."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

HOST = "127.0.0.1"
VARIATION_HEADER = "X-Variation"  # what the front tells the shop: whose visitor this is


async def listen(app: web.Application, port: int) -> web.AppRunner:
    """Serve `app` on loopback until the runner is cleaned up."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, HOST, port, backlog=1024).start()
    return runner


def told_to_stop() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; ask once per process, so that none is lost."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run one process's main coroutine; an interrupt is an ordinary end."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(coroutine)
