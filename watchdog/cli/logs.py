"""Where the daemon's log goes: stderr, a line an event, plain or JSON."""

import json
import logging
import sys
from datetime import UTC, datetime

from watchdog import __version__

SERVICE = "deploy-watchdog"
# OpenTelemetry's log data model: INFO is 9, WARN 13, ERROR 17, FATAL 21
SEVERITY = {logging.DEBUG: 5, logging.INFO: 9, logging.WARNING: 13, logging.ERROR: 17, logging.CRITICAL: 21}


class JsonLines(logging.Formatter):
    """One JSON object a line, with the attribute names that OpenTelemetry gives them."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, tz=UTC).isoformat(),
            "severity_text": record.levelname,
            "severity_number": SEVERITY.get(record.levelno, 0),
            "logger": record.name,
            "body": record.getMessage(),
            "service.name": SERVICE,
            "service.version": __version__,
            **getattr(record, "attributes", {}),
            **_of_span(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception.type"] = record.exc_info[0].__qualname__
            line["exception.message"] = str(record.exc_info[1])
            line["exception.stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class PlainLines(logging.Formatter):
    """Time, level and message, of one to people its sentence; nothing from outside can begin a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = getattr(record, "sentence", "") or record.getMessage()
        said = said.replace("\r", "\\r").replace("\n", "\\n")
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{at} {record.levelname:<7} {said}{trace}"


def _of_span() -> dict[str, str]:
    """The span that the line was written in; nothing where no spans are drawn. OpenTelemetry is not loaded for this."""
    trace = sys.modules.get("opentelemetry.trace")
    context = trace.get_current_span().get_span_context() if trace is not None else None
    if context is None or not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def log_to_stderr(*, as_json: bool) -> None:
    """Send the daemon's log to stderr; other libraries speak up only when something is wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("watchdog").setLevel(logging.INFO)
    # it warns of every try while a server is down; what came of them all is told once, by whoever asked
    logging.getLogger("urllib3").setLevel(logging.ERROR)
