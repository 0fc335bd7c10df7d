"""Hooks do something to production, or ask it. To add one: one file here, one line in HOOKS."""

from watchdog.hooks.command import CommandHook
from watchdog.hooks.dry_run import DryRunHook
from watchdog.hooks.git_revert import GitRevertHook
from watchdog.hooks.haproxy import HaproxyHook
from watchdog.hooks.http import HttpHook
from watchdog.hooks.nginx import NginxHook
from watchdog.ports import Hook

HOOKS: dict[str, type[Hook]] = {
    "command": CommandHook,
    "http": HttpHook,
    "dry_run": DryRunHook,
    "haproxy": HaproxyHook,
    "nginx": NginxHook,
    "git_revert": GitRevertHook,
}
