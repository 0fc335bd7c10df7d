"""The daemon: everything of deploy-watchdog that touches the world.

Not the file-watching library of the same import name; see docs/adr/0002-the-import-name.md.
"""

__version__ = "0.1.0"
