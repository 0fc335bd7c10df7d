"""Free text from outside, made harmless before it is stored."""

import unicodedata


def clean(text: str) -> str:
    """Compose (NFC), drop control, format and bidi characters, and fold white space.

    >>> clean("because\\u202e\\x00 of\\n\\nit")
    'because of it'
    """
    composed = unicodedata.normalize("NFC", text)
    visible = "".join(" " if c.isspace() else c for c in composed if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join(visible.split())
