"""Where the daemon's log goes: stderr, a line an event, plain or JSON."""

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """One JSON object a line, with the attribute names that OpenTelemetry gives them."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, tz=UTC).isoformat(),
            "severity_text": record.levelname,
            "logger": record.name,
            "body": record.getMessage(),
        }
        if record.exc_info:
            line["exception.stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class PlainLines(logging.Formatter):
    """Time, level and message; nothing from outside can begin a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{at} {record.levelname:<7} {said}{trace}"


def log_to_stderr(*, as_json: bool) -> None:
    """Send the daemon's log to stderr; other libraries speak up only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("watchdog").setLevel(logging.INFO)
