"""Sinks tell someone. To add one: one file here, one line in SINKS."""

from watchdog.ports import Sink
from watchdog.sinks.log import LogSink
from watchdog.sinks.slack import SlackSink
from watchdog.sinks.webhook import WebhookSink

SINKS: dict[str, type[Sink]] = {
    "slack": SlackSink,
    "webhook": WebhookSink,
    "log": LogSink,
}
