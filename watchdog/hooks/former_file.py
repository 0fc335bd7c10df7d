"""The file as it was before a change that is not known to have been taken up, kept beside what was written over it.

With both it can be told whose the present file is. Where somebody else has written since, what was kept is history:
putting it back would bring a version back that nobody asked for.
"""

import hashlib
import re
from pathlib import Path

from watchdog.hooks import file_swap

_HEADER = re.compile(rb"deploy-watchdog knows((?: [0-9a-f]{64}){1,3})\n")


class FormerFile:
    """One record in the state folder. It exists from before a change until the change is known to be taken up."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def before(self, present: bytes) -> bytes | None:
        """The content to go back to from the present one; None where no change of ours is open."""
        if not self._path.exists():
            return None
        record = file_swap.read(self._path)
        header = _HEADER.match(record)
        if header is None:  # as older versions kept it, without a word of what they wrote
            return present
        return record[header.end() :] if _digest(present) in header[1].split() else None

    def keep(self, former: bytes, *, present: bytes, fresh: bytes) -> None:
        """Before `fresh` is written over `present`: either may stand there when somebody asks, or `former` again."""
        known = dict.fromkeys(map(_digest, (former, present, fresh)))
        file_swap.replace(self._path, b"deploy-watchdog knows " + b" ".join(known) + b"\n" + former)

    def forget(self) -> None:
        """The change is known to be taken up, or to be undone."""
        self._path.unlink(missing_ok=True)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
