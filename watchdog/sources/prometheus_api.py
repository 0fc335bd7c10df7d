"""prometheus-api-client, made safe to decide by: a total deadline, a size limit, and nothing kept back.

The library as it is hangs on slow servers, retries for seconds, puts the query into the URL, rounds times to whole
seconds, and drops `warnings` and `isPartial`, so that half an answer looks like a whole one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

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
    max_series: int = 5_000


class PrometheusApi(PrometheusConnect):
    """The query API of anything that speaks Prometheus'."""

    def __init__(
        self,
        url: str,
        *,
        monotonic: Callable[[], float],
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
        session.mount(self.url, _DeadlineAdapter(monotonic, ca_file, pool))
        self._encoding = "gzip" if compress else "identity"
        self._monotonic = monotonic
        self._limits = limits

    def ask(self, query: str, moments: Moments, *, deadline: float, headers: Mapping[str, str]) -> list[Answer]:
        """Evaluate a query at one or several moments, by one request.

        Raises
        ------
        QueryError
            In every other case than whole, readable answers before the deadline.
        """
        left = deadline - self._monotonic()
        if left <= 0:
            raise QueryError("no time was left to ask")
        form = {"query": query, **_when(moments), "timeout": f"{max(1, round(left * 1000))}ms", **_AS_IT_IS}
        try:
            status, body = self._post("query" if moments.count == 1 else "query_range", form, left, headers)
        except (requests.Timeout, TimeoutError):
            raise QueryError(f"it did not answer within {left:.1f} s") from None
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise QueryError(_told(error, left)) from None
        if status != 200:
            raise _refusal(status, body)
        return read(body, moments, self._limits.max_series)

    def _post(self, what: str, form: Mapping[str, str], left: float, headers: Mapping[str, str]) -> tuple[int, bytes]:
        response = self._session.post(
            f"{self.url}/api/v1/{what}",
            data=form,
            headers={"Accept": "application/json", "Accept-Encoding": self._encoding, **headers},
            timeout=(min(left, CONNECT_S), left),
            stream=True,
            allow_redirects=False,
        )
        whole = False
        try:
            body = bytearray()
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                body += chunk
                if len(body) > self._limits.max_bytes:
                    raise TooLargeError(f"its answer is larger than {self._limits.max_bytes:,} bytes")
            whole = True
            return response.status_code, bytes(body)
        finally:
            if whole:
                response.raw.release_conn()
            else:
                response.close()  # the rest of the body must not be mistaken for the next answer


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
