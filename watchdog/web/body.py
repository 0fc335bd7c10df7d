"""A request's body: bounded in size and time, never decompressed, and typed only after its sender is known."""

import asyncio
from collections.abc import Collection
from typing import TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from watchdog.strict_json import JsonError, parse_object
from watchdog.web.errors import ApiError, problems_of

MAX_BYTES = 64 * 1024
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
BODY_DEADLINE_S = 10.0
_DRAINED_BYTES = 4 * 1024 * 1024
_MAX_FIELDS = 20
_CLOSE = {"Connection": "close"}

T = TypeVar("T", bound=BaseModel)


async def read_form(request: Request) -> dict[str, str]:
    """Read a form of our own pages; a field given twice is refused, as every field of theirs occurs once."""
    body = await read_body(request, kinds=(FORM,))
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise ApiError(422, "The form cannot be read.") from None
    if len(pairs) != len(dict(pairs)):
        raise ApiError(422, "The form gives a field twice.")
    return dict(pairs)


async def read_body(request: Request, *, kinds: Collection[str] = (JSON,), max_bytes: int = MAX_BYTES) -> bytes:
    """Read the raw bytes, or refuse them: 413 too many, 408 too slow, 415 compressed or not of these kinds."""
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            body = await _bounded(request, max_bytes)
    except TimeoutError:
        raise ApiError(408, "The body did not arrive in time.", headers=_CLOSE) from None
    except ClientDisconnect:
        raise ApiError(408, "The sender hung up.", headers=_CLOSE) from None
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise ApiError(415, "The body is compressed.")
    # A web page cannot send JSON to another origin without asking first, and we never say yes. Forms carry a seal.
    if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() not in kinds:
        raise ApiError(415, f"The body is not declared to be {'a form' if FORM in kinds else 'JSON'}.")
    return body


def read_model(kind: type[T], body: bytes) -> T:
    """Type a body; 422 says all that is wrong with it at once."""
    try:
        parse_object(body)
        return kind.model_validate_json(body, strict=True)
    except JsonError as error:
        raise ApiError(422, f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    except ValidationError as error:
        raise ApiError(422, problems_of(error)) from None


async def _bounded(request: Request, max_bytes: int) -> bytes:
    """Collect up to `max_bytes`. What is a little too long is read to its end, so that the answer arrives."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > _DRAINED_BYTES:
            break
        if size <= max_bytes:
            chunks.append(chunk)
        else:
            chunks.clear()
    if size > max_bytes:
        raise ApiError(413, f"The body is larger than {max_bytes // 1024} KB.", headers=_CLOSE)
    return b"".join(chunks)
