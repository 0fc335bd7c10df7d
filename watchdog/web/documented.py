"""What /openapi.json says about refusals, security and bodies that we read ourselves."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from watchdog.web.bodies import ErrorBody
from watchdog.web.errors import REMEDIES

_MEANS = {
    401: "No valid token or signature; the same for every cause but a stale timestamp.",
    403: "The caller lacks the scope, or may not speak for the service.",
    404: "No such deploy or service, or not one this caller may see.",
    408: "The body came too slowly.",
    409: "What is on record contradicts this: another body under the same id, or a state that does not allow it. "
    "Also how a question is answered with no.",
    413: "More than 64 KB.",
    415: "Compressed, or not declared as JSON.",
    422: "Understood, and wrong.",
    429: "Too many requests by one caller; see Retry-After.",
    503: "The ledger cannot be used, nothing was recorded; see Retry-After.",
}
_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of [[auth.tokens]] with its scopes."},
    "webhookSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "webhook-signature",
        "description": "Standard Webhooks 1.0: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, with the "
        "headers webhook-id and webhook-timestamp (within 300 s). Several signatures are separated by spaces.",
    },
    "senderSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Hub-Signature-256",
        "description": "What the sender itself signs with: GitHub this, GitLab X-Gitlab-Token or webhook-signature.",
    },
}


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Document error answers, each with an example."""
    return {code: {"model": ErrorBody, "description": _MEANS[code], "content": _example(code)} for code in codes}


def answer(model: type[BaseModel], description: str) -> dict[str, Any]:
    """Document a good answer."""
    return {"model": model, "description": description}


def answer_or_lines(model: type[BaseModel], description: str) -> dict[str, Any]:
    """Document a good answer that shells may have as lines: `Accept: text/plain` gives id, outcome and sentence."""
    lines = {"text/plain": {"schema": {"type": "string"}, "example": "shop-v42\npassed\nshop v42 passed: ..."}}
    return {**answer(model, f"{description} As text/plain three lines: id, outcome or `undecided`, sentence."),
            "content": lines}  # fmt: skip


def reads(model: type[BaseModel], example: dict[str, Any], *, required: bool, signed: bool = False) -> dict[str, Any]:
    """Document a body that we read raw, and who may send it."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}, "example": example}}
    ways = ["token", "webhookSignature"] if signed else ["token"]
    return {"requestBody": {"required": required, "content": content}, "security": [{way: []} for way in ways]}


def takes_any() -> dict[str, Any]:
    """Document a body in the words of another system, and that it may have a scheme of its own to show who it is."""
    content = {"application/json": {"schema": {"type": "object"}}}
    return {"requestBody": {"required": True, "content": content}, "security": [{"token": []}, {"senderSignature": []}]}


def guarded() -> dict[str, Any]:
    """Document a route that needs a token and reads no body."""
    return {"security": [{"token": []}]}


def complete(app: FastAPI, *bodies: type[BaseModel]) -> None:
    """Add what FastAPI cannot know, and remove what it assumes: that a 422 has its own shape."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            described = describe()
            schemas = described["components"]["schemas"]
            described["components"]["securitySchemes"] = _SCHEMES
            for body in bodies:
                schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= schema.pop("$defs", {}) | {body.__name__: schema}
            for operation in (o for methods in described["paths"].values() for o in methods.values()):
                if "HTTPValidationError" in str(operation["responses"].get("422")):
                    del operation["responses"]["422"]
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
        return describe()

    app.openapi = openapi  # type: ignore[method-assign]


def _example(code: int) -> dict[str, Any]:
    name, remedy = REMEDIES[code]
    return {"application/json": {"example": {"error": {"code": name, "message": _MEANS[code], "remedy": remedy}}}}
