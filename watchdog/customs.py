"""What names of metrics mean by custom, where no preset knows the program. Pure."""

import re

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


def is_sold(name: str) -> bool:
    """Whether fewer of what this counter counts is worse. A name that may speak of failures does not say so.

    >>> is_sold("shop_orders_placed_total"), is_sold("shop_orders_cancelled_total"), is_sold("shop_orders_odd_total")
    (True, False, False)
    """
    return _SOLD.fullmatch(name) is not None and _LOST.search(name) is None
