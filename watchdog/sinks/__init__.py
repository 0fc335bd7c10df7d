"""Sinks tell someone. To add one: one file here, one line in SINKS."""

from watchdog.ports import Sink
from watchdog.sinks.alertmanager import AlertmanagerSink
from watchdog.sinks.cdevents import CdEventsSink
from watchdog.sinks.github import GithubSink
from watchdog.sinks.grafana import GrafanaSink
from watchdog.sinks.heartbeat import HeartbeatSink
from watchdog.sinks.log import LogSink
from watchdog.sinks.slack import SlackSink
from watchdog.sinks.webhook import WebhookSink

SINKS: dict[str, type[Sink]] = {
    "slack": SlackSink,
    "webhook": WebhookSink,
    "log": LogSink,
    "alertmanager": AlertmanagerSink,
    "grafana": GrafanaSink,
    "github": GithubSink,
    "cdevents": CdEventsSink,
    "heartbeat": HeartbeatSink,
}
