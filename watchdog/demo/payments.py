"""The third party that takes the money: `python -m watchdog.demo.payments --port P`; PUT /-/fault lets it fail."""

import argparse
import asyncio

from aiohttp import web

from watchdog.demo.serving import listen, run, told_to_stop

_USUAL_S = 0.005


class Payments:
    """Takes every payment, until it is told to fail."""

    def __init__(self) -> None:
        self._fails = False

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/pay", self._pay)
        app.router.add_put("/-/fault", self._set_fault)
        return app

    async def _pay(self, _: web.Request) -> web.Response:
        await asyncio.sleep(_USUAL_S)
        return web.Response(status=503 if self._fails else 200)

    async def _set_fault(self, request: web.Request) -> web.Response:
        self._fails = bool((await request.json())["fails"])
        return web.json_response({"fails": self._fails})


async def serve(port: int) -> None:
    """Take payments until stopped."""
    stopped = told_to_stop()
    runner = await listen(Payments().app(), port)
    await stopped.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m watchdog.demo.payments", description="The demo's third party.")
    parser.add_argument("--port", type=int, required=True)
    run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
