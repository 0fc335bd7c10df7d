"""The password of an HTTP Basic header."""

import base64
import binascii


def basic_password(encoded: str) -> str:
    """Decode `base64(user:password)`; empty, and so never a token, where it is anything else.

    >>> basic_password("YW55OnMzY3JldA==")
    's3cret'
    >>> basic_password("not base64")
    ''
    """
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")[2]
    except (binascii.Error, ValueError):
        return ""
