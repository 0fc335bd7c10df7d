"""The cookie of somebody who signed in with a token, and the seal on the forms they send.

A session is `name.end.nonce.signature`; nothing is kept here. The key is made from the token itself, so that a token
that is changed or removed ends its sessions at once, and a restart of the daemon ends none. SameSite=Strict keeps the
cookie out of every request that another site starts; the seal, sent by each form, holds where a browser does not.
"""

import base64
import binascii
import hashlib
import hmac

COOKIE = "deploy_watchdog_session"
LASTS_S = 12 * 3600  # a shift


def new_session(name: str, secret: bytes, *, now: float, nonce: str) -> str:
    """A cookie's value for the credential `name`, good until LASTS_S from now."""
    head = f"{_coded(name)}.{int(now) + LASTS_S}.{nonce}"
    return f"{head}.{seal(secret, f'session {head}')}"


def read_session(cookie: str, secret: bytes, *, now: float) -> str | None:
    """What identifies a valid session; None for one that is forged, over, or of another token."""
    head, _, signature = cookie.rpartition(".")
    parts = head.split(".")
    if len(parts) != 3 or not parts[1].isdecimal() or not hmac.compare_digest(
        signature.encode("utf-8", "surrogateescape"), seal(secret, f"session {head}").encode()
    ):  # fmt: skip
        return None
    return head if now < int(parts[1]) else None


def name_in(cookie: str) -> str | None:
    """The credential that a cookie claims to be of."""
    try:
        return base64.urlsafe_b64decode(cookie.partition(".")[0]).decode()
    except (binascii.Error, ValueError):
        return None


def seal(secret: bytes, text: str) -> str:
    """A signature under a key that is good for nothing but this text's purpose."""
    return hmac.new(secret, f"deploy-watchdog {text}".encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def _coded(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()
