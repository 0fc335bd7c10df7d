"""Addresses: what the daemon listens on, and whether others can reach it."""

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_HOST_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>\d{1,5})")
_URL = re.compile(r"https?://[A-Za-z0-9._\[\]:-]+(?:/[^\s\"'<>]*)?")


def split_listen(text: str) -> tuple[str, int]:
    """Return host and port of `127.0.0.1:8811`, `[::1]:8811` or `name:8811`.

    Raises
    ------
    ValueError
        Where the text is none of these; the message says what was expected.
    """
    found = _HOST_PORT.fullmatch(text)
    if found is None or int(found["port"]) > 65_535:
        raise ValueError(f"{text!r} is no address; expected host:port such as 127.0.0.1:8811 or [::1]:8811")
    if found["six"] is not None:
        try:
            ipaddress.IPv6Address(found["six"])
        except ValueError:
            raise ValueError(f"{text!r} is no address; {found['six']!r} is not an IPv6 address") from None
    return found["six"] or found["host"], int(found["port"])


def is_loopback(listen: str) -> bool:
    """Tell whether only this machine can reach the address."""
    return _is_loopback_host(split_listen(listen)[0])


def is_loopback_url(url: str) -> bool:
    """Tell whether a public URL leads to this machine alone."""
    return _is_loopback_host(urlsplit(url).hostname or "")


def _is_loopback_host(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(text: str) -> str:
    split_listen(text)
    return text


def _public_url(text: str) -> str:
    if text and not _URL.fullmatch(text):
        raise ValueError(f"{text!r} is no URL; expected one such as https://watchdog.example.com")
    return text.rstrip("/")


Listen = Annotated[str, AfterValidator(_listen)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
