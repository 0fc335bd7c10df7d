"""prometheus-api-client, made safe to decide by: a total deadline, a size limit, and nothing kept back.

The library as it is hangs on slow servers, retries for seconds, puts the query into the URL, rounds times to whole
seconds, and drops `warnings` and `isPartial`, so that half an answer looks like a whole one.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from threading import Lock
from typing import Any

import requests
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from watchdog.ports import Clock
from watchdog.sources.deadline import keeping_deadlines, tls_context
from watchdog.sources.prometheus_answer import (
    Answer,
    EvaluationError,
    Moments,
    QueryError,
    QueryRefusedError,
    TooLargeError,
    excerpt,
    read,
)

CONNECT_S = 2.0
_CHUNK = 65536
# VictoriaMetrics would round the moments and repeat older values at the newest ones; others do not know the words
_AS_IT_IS = {"nocache": "1", "latency_offset": "1ms"}
_MEANINGS = {
    401: "it does not accept our credentials",
    403: "it does not allow us to query",
    404: "there is no query API at this address",
    413: "the query is too long for it",
    429: "it asks us to slow down",
    502: "the proxy before it cannot reach it",
    503: "it is overloaded or not ready",
    504: "the proxy before it gave up waiting",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one answer may be."""

    max_bytes: int = 5_000_000
    max_series: int = 5_000  # for each look that the answer is for
    max_skew_s: float = 10.0


class PrometheusApi(PrometheusConnect):
    """The query API of anything that speaks Prometheus'."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        limits: Limits,
        ca_file: str | None,
        compress: bool,
        pool: int,
    ) -> None:
        session = requests.Session()
        session.trust_env = False  # no proxies, certificates or passwords that the configuration does not name
        if ca_file:
            session.verify = ca_file
        super().__init__(url.rstrip("/"), headers={}, session=session, method="POST")
        session.mount(self.url, _DeadlineAdapter(clock.monotonic, ca_file, pool))
        self._encoding = "gzip" if compress else "identity"
        self._clock = clock
        self._limits = limits
        self._reading = Lock()  # one thread at a time: they would only take the interpreter from whoever answers CI

    def ask(
        self, query: str, moments: Moments, *, deadline: float, headers: Mapping[str, str], askers: int = 1
    ) -> list[Answer]:
        """Evaluate a query at one or several moments, by one request, for so many looks at once.

        Raises
        ------
        QueryError
            In every other case than whole, readable answers before the deadline.
        """
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise QueryError("no time was left to ask")
        form = {"query": query, **_when(moments), "timeout": f"{max(1, round(left * 1000))}ms", **_AS_IT_IS}
        what = "query" if moments.count == 1 else "query_range"
        asked_at = self._clock.now()
        with _told_as_one_sentence(left):
            status, body, date = self._exchange("POST", what, left, headers, data=form)
        if status != 200:
            raise _refusal(status, body)
        skew_s = skew(date, asked_at, self._clock.now())
        if 0 < self._limits.max_skew_s < abs(skew_s):
            raise QueryError(_apart(skew_s, self._limits.max_skew_s))
        with self._reading:
            return read(body, moments, self._limits.max_series * askers)

    def tell(
        self, what: str, form: Sequence[tuple[str, str]], *, deadline: float, headers: Mapping[str, str]
    ) -> tuple[Any, str]:
        """The `data` of any other part of the API, and the server's own time as it writes it (QueryError)."""
        left = deadline - self._clock.monotonic()
        if left <= 0:
            raise QueryError("no time was left to ask")
        with _told_as_one_sentence(left):
            status, body, date = self._exchange("GET", what, left, headers, params=list(form))
        if status != 200:
            raise _refusal(status, body)
        try:
            return json.loads(body)["data"], date
        except (ValueError, KeyError, TypeError, RecursionError):
            raise QueryError(f"its answer is not what a Prometheus says ({excerpt(body)})") from None

    def _exchange(
        self, method: str, what: str, left: float, headers: Mapping[str, str], **sent: Any
    ) -> tuple[int, bytes, str]:
        response = self._session.request(
            method,
            f"{self.url}/api/v1/{what}",
            headers={"Accept": "application/json", "Accept-Encoding": self._encoding, **headers},
            timeout=(min(left, CONNECT_S), left),
            stream=True,
            allow_redirects=False,
            **sent,
        )
        whole = False
        try:
            body = bytearray()
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if len(body) > self._limits.max_bytes:
                    raise TooLargeError(f"its answer is larger than {self._limits.max_bytes:,} bytes")
            whole = True
            return response.status_code, _without(_credential(headers), bytes(body)), response.headers.get("Date", "")
        finally:
            if whole:
                response.raw.release_conn()
            else:
                response.close()  # the rest of the body must not be mistaken for the next answer


def _credential(headers: Mapping[str, str]) -> bytes:
    """What we show the server so that it lets us in."""
    return headers.get("Authorization", "").partition(" ")[2].encode()


def _without(credential: bytes, body: bytes) -> bytes:
    """An answer in which our own credential is not repeated: parts of errors are shown, logged and stored."""
    return body.replace(credential, b"***") if credential else body


def skew(date: str, asked_at: float, answered_at: float) -> float:
    """How far a server's clock is ahead of ours by the Date of its answer; 0 where it has none that can be read.

    What the answer's own time on the way explains is not counted, nor the second to which a Date is rounded.
    """
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return max(0.0, theirs - answered_at) or min(0.0, theirs + 1.0 - asked_at)


def _apart(skew_s: float, most_s: float) -> str:
    side = "ahead of" if skew_s > 0 else "behind"
    return (
        f"its clock is {abs(skew_s):.0f} s {side} this daemon's, so its counts are not of the time that is asked for; "
        f"set the clocks right (more than {most_s:g} s apart is not believed)"
    )


@contextmanager
def _told_as_one_sentence(left: float) -> Iterator[None]:
    """Whatever goes wrong on the way is a QueryError."""
    try:
        yield
    except (requests.Timeout, TimeoutError):
        raise QueryError(f"it did not answer within {left:.1f} s") from None
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise QueryError(_told(error, left)) from None


def _when(moments: Moments) -> dict[str, str]:
    first, last = f"{moments.first_ms / 1000:.3f}", f"{moments.last_ms / 1000:.3f}"
    if moments.count == 1:
        return {"time": first}
    return {"start": first, "end": last, "step": f"{moments.step_ms}ms"}  # seconds might lose a millisecond


def _refusal(status: int, body: bytes) -> QueryError:
    """Turn an HTTP error into a sentence, with the server's own words where it has some."""
    try:
        answer = json.loads(body)
        kind, words = answer.get("errorType"), str(answer.get("error", ""))[:300]
    except (ValueError, AttributeError, RecursionError):
        kind, words = None, ""
    if kind in {"bad_data", "execution"} and status in {400, 422}:
        refused = EvaluationError if kind == "execution" else QueryRefusedError
        return refused(f"it refuses the query: {words}")
    if 300 <= status < 400:
        return QueryError(f"it redirects us (HTTP {status}), perhaps to a login page; expected the API itself")
    meaning = words or _MEANINGS.get(status, "") or excerpt(body)
    return QueryError(f"it answers HTTP {status}: {meaning}")


def _told(error: Exception, left: float) -> str:
    text = str(error)
    reasons: Sequence[tuple[str, str]] = (
        ("timed out", f"it did not answer within {left:.1f} s"),
        ("deadline has passed", f"it did not answer within {left:.1f} s"),
        ("refused", "it refuses connections"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate cannot be verified (see ca_file)"),
        ("resolve", "its name cannot be resolved"),
        ("getaddrinfo", "its name cannot be resolved"),
    )
    found = next((sentence for word, sentence in reasons if word in text), None)
    return found or f"it cannot be asked ({type(error).__name__})"


class _DeadlineAdapter(HTTPAdapter):
    """Connections whose reads end by the request's read timeout, counted from the request."""

    def __init__(self, monotonic: Callable[[], float], ca_file: str | None, pool: int) -> None:
        self._monotonic = monotonic
        self._ca_file = ca_file
        # one more try for a connection that the server closed meanwhile; a status is an answer, never retried
        retry = Retry(total=1, status=0, redirect=0, allowed_methods={"POST"}, backoff_factor=0)
        super().__init__(pool_connections=1, pool_maxsize=pool, max_retries=retry)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=tls_context(self._ca_file), **kwargs)
        self.poolmanager.pool_classes_by_scheme = {
            "http": _pool(HTTPConnectionPool, HTTPConnection, self._monotonic),
            "https": _pool(HTTPSConnectionPool, HTTPSConnection, self._monotonic),
        }


def _pool(
    pool: type[HTTPConnectionPool], connection: type[HTTPConnection], monotonic: Callable[[], float]
) -> type[HTTPConnectionPool]:
    """Make a pool class whose connections keep deadlines."""

    def new_connection(self: Any) -> Any:
        return keeping_deadlines(connection._new_conn(self))  # noqa: SLF001 - urllib3's seam for other sockets

    def response(self: Any) -> Any:
        self.sock.limit(monotonic, monotonic() + self.timeout)
        return connection.getresponse(self)

    kept = type(f"Deadline{connection.__name__}", (connection,), {"_new_conn": new_connection, "getresponse": response})
    return type(f"Deadline{pool.__name__}", (pool,), {"ConnectionCls": kept})
