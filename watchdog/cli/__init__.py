"""The commands. Nothing heavy is imported here: `--help` must come at once."""

from watchdog.cli.entry import app, command_line

__all__ = ["app", "command_line"]
