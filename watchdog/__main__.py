"""`deploy-watchdog` and `python -m watchdog`."""

import sys
from pathlib import Path

USAGE = 4  # DESIGN's exit code for usage and connection errors


def main() -> int:
    """Run the command line; refuse where another package answers to our import name."""
    clash = import_clash()
    if clash:
        sys.stderr.write(f"deploy-watchdog cannot start: {clash}\n")
        return USAGE
    from watchdog.cli import command_line

    return command_line()


def import_clash() -> str:
    """Say in one sentence how the file-watching package `watchdog` is in the way; empty where it is not."""
    import importlib.metadata

    import watchdog

    here = Path(__file__).resolve().parent
    remedy = "give deploy-watchdog a virtual environment of its own: in its checkout, `make demo` builds one in .venv"
    try:
        other = importlib.metadata.distribution("watchdog")
    except importlib.metadata.PackageNotFoundError:
        other = None
    if other is not None:
        return (
            f"the file-watching package 'watchdog' {other.version} lies in the same environment and has the same "
            f"import name; {remedy}"
        )
    found = Path(getattr(watchdog, "__file__", None) or "nowhere").resolve().parent
    if found != here or (here / "observers").exists():
        return f"the import name 'watchdog' leads to another package, in {found}; {remedy}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
