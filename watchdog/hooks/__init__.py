"""Hooks do something to production, or ask it. To add one: one file here, one line in HOOKS."""

from watchdog.hooks.argo_rollouts import ArgoRolloutsHook
from watchdog.hooks.command import CommandHook
from watchdog.hooks.dry_run import DryRunHook
from watchdog.hooks.flagd import FlagdHook
from watchdog.hooks.gate import GateHook
from watchdog.hooks.git_revert import GitRevertHook
from watchdog.hooks.haproxy import HaproxyHook
from watchdog.hooks.http import HttpHook
from watchdog.hooks.kubernetes import KubernetesHook
from watchdog.hooks.nginx import NginxHook
from watchdog.hooks.unleash import UnleashHook
from watchdog.ports import Hook

HOOKS: dict[str, type[Hook]] = {
    "command": CommandHook,
    "http": HttpHook,
    "dry_run": DryRunHook,
    "gate": GateHook,
    "haproxy": HaproxyHook,
    "nginx": NginxHook,
    "git_revert": GitRevertHook,
    "flagd": FlagdHook,
    "unleash": UnleashHook,
    "kubernetes": KubernetesHook,
    "argo_rollouts": ArgoRolloutsHook,
}
