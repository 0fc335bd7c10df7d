"""Is this request surely from a program of this machine? Asked only where no credential is configured.

The peer's address alone does not say so: a web page in a browser here can send requests to loopback (under a foreign
Origin, or under a name that it makes resolve to loopback), and a reverse proxy here speaks for the whole world. A proxy
that says nothing of itself is told by HTTP/1.0, which nginx speaks unless told otherwise; where one stands on purpose,
`public_url` says so, and the configuration then asks for a credential.
"""

import ipaddress
from urllib.parse import urlsplit

from fastapi import Request

_PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def is_ours_alone(request: Request) -> bool:
    """Peer and Host are loopback, no proxy stands between, and no foreign web page sent it."""
    headers = request.headers
    host = headers.get("host", "")
    origin = headers.get("origin")
    return (
        request.client is not None
        and is_loopback(request.client.host)
        and is_loopback(_name(host))
        and request.scope.get("http_version") != "1.0"
        and not any(name in headers for name in _PROXIED)
        and (origin is None or origin == f"http://{host}")
        and headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    )


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only mean this machine."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
