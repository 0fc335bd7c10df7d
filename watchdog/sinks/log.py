"""Sink `log`: each message as one line of JSON through the standard logging; a log for people shows its sentence."""

import json
import logging
import re
from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from watchdog.model import Severity
from watchdog.ports import Clock, Delivery
from watchdog.sinks.payload import payload

LEVELS = {
    Severity.INFO: logging.INFO,
    Severity.GOOD: logging.INFO,
    Severity.WARNING: logging.WARNING,
    Severity.PAGE: logging.ERROR,
}
# What json leaves as it is and a terminal or log reader would take for a line end, an escape or a direction.
_UNSEEN = re.compile("[\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]")


class LogOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    logger: str = Field("watchdog.messages", min_length=1, description="Name of the logger to write to.")


class LogSink:
    """Never fails; where the line goes is for the logging configuration to say."""

    kind: ClassVar[str] = "log"

    Options: ClassVar[type[BaseModel]] = LogOptions

    def __init__(self, name: str, options: LogOptions, clock: Clock, env: Mapping[str, str]) -> None:  # noqa: ARG002 (all are built alike)
        self.name = name
        self._logger = logging.getLogger(options.logger)

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        sentence = _seen(json.dumps(delivery.message.sentence, ensure_ascii=False)[1:-1]).replace('\\"', '"')
        self._logger.log(LEVELS[delivery.message.severity], "%s", line(delivery), extra={"sentence": sentence})
        return {}


def line(delivery: Delivery) -> str:
    """The message as one line; letters of all scripts stay readable, unseen characters are escaped."""
    return _seen(json.dumps(payload(delivery), ensure_ascii=False, separators=(",", ":")))


def _seen(text: str) -> str:
    return _UNSEEN.sub(lambda found: json.dumps(found.group())[1:-1], text)
