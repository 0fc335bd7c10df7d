"""The receiving side of Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`, several keys live at once.

Our own lines, because the reference library reads the real clock and raises what is no verification error on a
signature without comma, bad base64 and bodies that are not UTF-8. Everything here is bytes and cannot raise.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from pydantic import SecretStr

TOLERANCE_S = 300
PREFIX = "whsec_"
_MAX_SIGNATURES = 16
_ID = re.compile(rb"[!-~]{1,256}")
_TIMESTAMP = re.compile(rb"[0-9]{1,12}")


class Check(Enum):
    GENUINE = "genuine"
    STALE = "stale"  # signed with our key, but not now
    FORGED = "forged"  # anything else


@dataclass(frozen=True, slots=True)
class SignedHeaders:
    """The three headers as they came."""

    id: bytes
    timestamp: bytes
    signatures: bytes


def read_key(secret: SecretStr) -> bytes:
    """Decode `whsec_…`; ValueError where it is no secret of 24 to 64 bytes."""
    text = secret.get_secret_value()
    try:
        encoded = text.removeprefix(PREFIX)
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError(f"expected {PREFIX} and the base64 of 24 to 64 random bytes")
    return key


def signed_headers(headers: Iterable[tuple[bytes, bytes]]) -> SignedHeaders | None:
    """Find the three headers; None where one is missing, doubled or misshapen."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.startswith(b"webhook-"):
            if name in found:
                return None
            found[name] = value
    sent = SignedHeaders(
        found.get(b"webhook-id", b""), found.get(b"webhook-timestamp", b""), found.get(b"webhook-signature", b"")
    )
    return sent if _ID.fullmatch(sent.id) and _TIMESTAMP.fullmatch(sent.timestamp) else None


def check(sent: SignedHeaders, body: bytes, keys: Sequence[bytes], *, now: float) -> Check:
    """Compare every signature with every key, in constant time, and only then look at the clock."""
    message = b".".join((sent.id, sent.timestamp, body))
    expected = [b"v1," + base64.b64encode(hmac.digest(key, message, "sha256")) for key in keys]
    given = sent.signatures.split(b" ")[:_MAX_SIGNATURES]
    matches = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in given]
    if not any(matches):
        return Check.FORGED
    return Check.GENUINE if abs(now - int(sent.timestamp)) <= TOLERANCE_S else Check.STALE
