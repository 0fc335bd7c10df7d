"""The API, who may use it, and the status pages.

Names are loaded when asked for: `watchdog.web.views` serves the command too, which must not wait for FastAPI.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watchdog.web.api import create_api
    from watchdog.web.auth import Authenticator, Credential
    from watchdog.web.health import Health
    from watchdog.web.server import serve

__all__ = ["Authenticator", "Credential", "Health", "create_api", "serve"]

_HOMES = {"Authenticator": "auth", "Credential": "auth", "Health": "health", "create_api": "api", "serve": "server"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
