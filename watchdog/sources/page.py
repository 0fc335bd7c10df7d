"""One /metrics page: fetched over a kept connection by a total deadline, and parsed."""

import errno
import http.client
import math
import re
import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from watchdog.sources.deadline import DeadlineSocket, DeadlineTlsSocket, keeping_deadlines, tls_context

Name = tuple[str, tuple[tuple[str, str], ...]]  # a series as its page calls it: name and labels
_CHUNK = 65536
_BARE_COUNTER = re.compile(r"^# TYPE (\S+) counter", re.MULTILINE)


class PageError(Exception):
    """A page that cannot be had.

    failing: the instance itself does not answer, or answers with a server error; otherwise somebody is alive there,
    only no readable page. refused: nothing listens, so whatever comes later is a new process. unknown: we did not get
    as far as the instance, which proves nothing about it.
    """

    def __init__(self, reason: str, *, failing: bool = True, refused: bool = False, unknown: bool = False) -> None:
        super().__init__(reason)
        self.failing = failing
        self.refused = refused
        self.unknown = unknown


class Page:
    """The page at one address."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        max_bytes: int,
        monotonic: Callable[[], float],
        ca_file: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._monotonic = monotonic
        self._connection: http.client.HTTPConnection = (
            _TlsConnection(host, port, timeout=timeout_s, context=tls_context(ca_file))
            if parts.scheme == "https"
            else _Connection(host, port, timeout=timeout_s)
        )

    def read(self) -> dict[Name, float]:
        """Fetch and parse (PageError)."""
        return parse(self._get())

    def close(self) -> None:
        """Drop the connection."""
        self._connection.close()

    def _get(self) -> str:
        deadline = self._monotonic() + self._timeout_s
        kept = self._connection.sock is not None
        try:
            return self._try(deadline)
        except (ConnectionError, http.client.HTTPException) as error:
            self.close()
            if not kept:
                raise _page_error(error) from None
        except OSError as error:
            self.close()
            raise _page_error(error) from None
        try:  # the server had closed the connection we kept
            return self._try(deadline)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _page_error(error) from None

    def _try(self, deadline: float) -> str:
        if self._connection.sock is None:
            self._connection.connect()
        sock = self._connection.sock
        if isinstance(sock, DeadlineSocket | DeadlineTlsSocket):
            sock.settimeout(self._timeout_s)
            sock.limit(self._monotonic, deadline)
        self._connection.request("GET", self._path, headers={"Accept": "text/plain;version=0.0.4"})
        response = self._connection.getresponse()
        body = bytearray()
        while chunk := response.read1(_CHUNK):
            body += chunk
            if len(body) > self._max_bytes:
                self.close()
                raise PageError(f"a page larger than {self._max_bytes:,} bytes", failing=False)
        if response.status != 200:
            raise PageError(f"HTTP {response.status}", failing=response.status >= 500)
        if response.length or not body.endswith(b"\n"):  # a number cut short would look like a reset
            self.close()
            raise PageError("a page cut short", failing=False)
        return body.decode("utf-8", "replace")


def parse(text: str) -> dict[Name, float]:
    """Read the text format; NaN and infinite values are left out (PageError)."""
    # The parser calls a counter `x` `x_total`, as OpenMetrics would; a selector says what the page says.
    bare = {name for name in _BARE_COUNTER.findall(text) if not name.endswith("_total")}
    series: dict[Name, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            renamed = f"{family.name}_total" if family.name in bare and family.type == "counter" else None
            for sample in family.samples:
                if math.isfinite(sample.value):
                    name = family.name if sample.name == renamed else sample.name
                    series[name, tuple(sorted(sample.labels.items()))] = float(sample.value)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise PageError("a page that is no metrics page", failing=False) from None
    if not series and text.strip() and not text.lstrip().startswith("#"):
        raise PageError("a page that is no metrics page", failing=False)
    return series


def _page_error(error: Exception) -> PageError:
    if isinstance(error, ConnectionRefusedError):
        return PageError("connection refused", refused=True)
    if isinstance(error, TimeoutError):
        return PageError("no answer in time")
    if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
        return PageError("an answer that is no HTTP", failing=False)
    if isinstance(error, ConnectionError):
        return PageError(f"no connection ({type(error).__name__})")
    return PageError(_our_trouble(error), failing=False, unknown=True)


def _our_trouble(error: Exception) -> str:
    """Names, certificates, routes and files are ours to set right: every page behind them looks the same."""
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate cannot be verified (see ca_file)"
    if isinstance(error, ssl.SSLError):
        return "no TLS with it"
    code = error.errno if isinstance(error, OSError) else None
    return f"it cannot be reached from here ({errno.errorcode.get(code or 0, type(error).__name__)})"


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = keeping_deadlines(self.sock)


class _TlsConnection(http.client.HTTPSConnection):
    """The context makes its sockets keep deadlines."""
