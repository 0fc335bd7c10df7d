"""JSON patches (RFC 6902, as far as objects go) and merge patches (RFC 7396), as the test API server takes them."""

from typing import Any

Object = dict[str, Any]


class RefusedError(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def patched_by(kind: str, target: Object, patch: Any) -> Object:
    if kind == "application/merge-patch+json":
        merged: Object = merge(target, patch)
        return merged
    if kind != "application/json-patch+json":
        raise RefusedError(415, f"the body of the request was in an unknown format: {kind}")
    for operation in patch:
        _operate(target, operation)
    return target


def _operate(target: Object, operation: Object) -> None:
    *path, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
    place: Any = target
    for part in path:
        place = place.get(part) if isinstance(place, dict) else None
    if not isinstance(place, dict) or (operation["op"] in ("replace", "test") and last not in place):
        raise RefusedError(422, f"the path {operation['path']} does not exist")
    if operation["op"] == "test" and place[last] != operation["value"]:
        raise RefusedError(422, f"testing value {operation['path']} failed")
    if operation["op"] in ("add", "replace"):
        place[last] = operation["value"]


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged
