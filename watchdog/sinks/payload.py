"""A message as JSON values, for every reader that is a program. `webhook.schema.json` describes it."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

from watchdog.model import Message
from watchdog.ports import Delivery


def payload(delivery: Delivery) -> dict[str, Any]:
    """The message, the deploy it is about, and where that deploy stands now."""
    message, deploy = delivery.message, delivery.deploy
    return {
        "id": message_id(message),
        "kind": message.kind.value,
        "severity": message.severity.value,
        "sentence": message.sentence,
        "state": delivery.state.value,
        "deploy": {
            "id": deploy.id,
            "service": deploy.service,
            "environment": deploy.environment,
            "version": deploy.version,
            "previous_version": deploy.previous_version,
            "strategy": deploy.strategy.value,
            "deployed_at": deploy.deployed_at,
        },
        "facts": _json_value(message.facts),
    }


def message_id(message: Message) -> str:
    """The same for every delivery of one message, so that a reader can drop the second copy."""
    return "msg_" + hashlib.sha256(f"{message.watch_id}\0{message.key}".encode()).hexdigest()[:24]


def _json_value(value: Any) -> Any:
    """What JSON can hold of a value: NaN and infinities are null, strangers are their text."""
    if isinstance(value, Mapping):
        return {str(key): _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
