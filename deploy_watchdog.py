"""The command `deploy-watchdog`. It lies outside the folder `watchdog`, whose files another package may lie over.

The file-watching library of the same import name brings an `__init__` and a `__main__` of its own: installed after us,
it replaces ours, and with them the guard that would say so (docs/adr/0002-the-import-name.md).
"""

import sys

OVERWRITTEN = (
    "deploy-watchdog cannot start: the file-watching package 'watchdog' was installed over it and replaced its files; "
    "give deploy-watchdog a virtual environment of its own and install it there anew: in its checkout, `make demo` "
    "builds one in .venv\n"
)
USAGE = 4


def main() -> int:
    """Start, or say in one sentence why not."""
    try:
        from watchdog.__main__ import main as start
    except ImportError:
        sys.stderr.write(OVERWRITTEN)
        return USAGE
    return start()
