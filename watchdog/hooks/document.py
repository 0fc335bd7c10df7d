"""What every hook is told about an action, in the same words by stdin, body, query and environment."""

import json
import re
from typing import Any

from watchdog.ports import HookCall

_PARAM = re.compile(r"[a-z][a-z0-9_]*")
_PARAM_CHARS = 4096  # a program does not start with variables that are too long; the document has them all


def document(call: HookCall) -> dict[str, Any]:
    """The action as JSON values: stdin of a command, body of a request."""
    return {**fields(call), "attempt": call.attempt, "fence": call.fence, "params": dict(call.params)}


def encode(call: HookCall) -> bytes:
    """The document as one line of JSON."""
    return json.dumps(document(call), ensure_ascii=True, separators=(",", ":"), default=str).encode() + b"\n"


def fields(call: HookCall) -> dict[str, str]:
    """The action's plain fields as text: query of a probe, names of the environment in lower case."""
    return {
        "action_id": call.action_id,
        "kind": call.kind.value,
        "attempt": str(call.attempt),
        "fence": str(call.fence),
        "service": call.service,
        "environment": call.environment,
        "deploy_id": call.deploy_id,
        "from": call.from_version,
        "to": call.to_version,
    }


def environment(call: HookCall) -> dict[str, str]:
    """The fields as ACTION_ID, KIND, ATTEMPT, FENCE, SERVICE, … FROM, TO, and short plain params as PARAM_…"""
    told = {name.upper(): value for name, value in fields(call).items()}
    for name, value in call.params.items():
        if _PARAM.fullmatch(name) and isinstance(value, str | int | float) and len(str(value)) <= _PARAM_CHARS:
            told[f"PARAM_{name.upper()}"] = str(value)
    return told
