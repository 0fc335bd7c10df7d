"""What names of metrics and values of labels mean by custom, where no preset knows the program. Pure."""

import re
from collections.abc import Callable, Collection

REQUESTS = re.compile(r"(?!promhttp_)(.+)_requests?_total")
DURATIONS = ("_request_duration_seconds", "_request_latency_seconds", "_duration_seconds", "_latency_seconds")
STATUS_LABELS = ("code", "status", "status_code", "http_status", "http_status_code", "response_code")
_SOLD = re.compile(
    r".*_(?:orders|purchases|checkouts|payments|signups|sign_ups|registrations|bookings|sales|conversions|subscriptions)"
    r"(?:_(?:accepted|activated|approved|captured|completed|confirmed|created|done|finished|made|new|ok|paid|placed"
    r"|processed|received|settled|sold|started|submitted|succeeded|success|successful|verified))?_total"
)
_LOST = re.compile(
    r"fail|error|cancel|declin|reject|refund|abandon|expir|invalid|duplicat|retr(?:y|ie)|timeout|timed_out|unpaid|lost"
    r"|denied|abort|chargeback|dropped"
)
_GRPC = (
    "OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted "
    "FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated"
)
_WORDS = (
    "ok success successful succeeded completed complete done pass passed true fail failed failure error errors errored "
    "exception timeout rejected denied false"
)
_OF_THE_SERVER = (  # as the presets of gRPC have them
    "Unknown|DeadlineExceeded|Unimplemented|Internal|Unavailable|DataLoss",
    "UNKNOWN|DEADLINE_EXCEEDED|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS",
)


def _upper(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


_HTTP = frozenset(map(str, range(100, 600))) | {f"{first}{rest}" for first in range(1, 6) for rest in ("xx", "XX")}
_GRPC_NAMES = frozenset(_GRPC.split()), frozenset({*map(_upper, _GRPC.split()), "CANCELLED"})
_KINDS = (  # of what a status may be; one that some values belong to, and a condition does not, is another kind
    _HTTP,
    *_GRPC_NAMES,
    frozenset(map(str, range(1, 6))),  # the class alone
    frozenset({turned for word in _WORDS.split() for turned in (word, word.upper(), word.title())}),
)


def failed_among(values: Collection[str]) -> str | None:
    """Which of a status label's values are failures of the server, as a regular expression; None where nobody knows.

    >>> failed_among(["200", "404"]), failed_among(["success", "error"])
    ('5..', None)
    """
    if not _HTTP.isdisjoint(values):
        return "5.."
    for names, failed in zip(_GRPC_NAMES, _OF_THE_SERVER, strict=True):
        if names.issuperset(values) and set(values) - {"OK"}:
            return failed
    return None


def speaks_of_failure(value: str) -> bool:
    """Whether a label's value looks like a failure, for a suggestion to people."""
    return re.fullmatch(r"[A-Za-z0-9_]+", value) is not None and _LOST.search(value.lower()) is not None


def may_come(wanted: Callable[[str], bool], values: Collection[str]) -> bool:
    """Whether what a condition wants may still come among such values: a 503 among 200 and 404, never among words."""
    kinds = [kind for kind in _KINDS if any(map(wanted, kind))]
    return not kinds or any(not kind.isdisjoint(values) for kind in kinds)


def is_sold(name: str) -> bool:
    """Whether fewer of what this counter counts is worse. A name that may speak of failures does not say so.

    >>> is_sold("shop_orders_placed_total"), is_sold("shop_orders_cancelled_total"), is_sold("shop_orders_odd_total")
    (True, False, False)
    """
    return _SOLD.fullmatch(name) is not None and _LOST.search(name) is None
