"""Rolling: the old version's servers are replaced one by one; both versions serve side by side meanwhile."""

from watchdog.strategies.canary import Canary


class Rolling(Canary):
    """Arms by version label for as long as both live. Servers that join or leave change an arm's traffic and not what
    it is compared by; once the old version is gone, nothing new can be told about it and the evidence stands."""
