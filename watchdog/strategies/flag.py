"""Feature flag: one deployed version, two variations of it; the flag's label tells the arms apart."""

from watchdog.strategies.canary import Canary


class Flag(Canary):
    """Arms by flag variation: `version` and `previous_version` of the event name the variations, and the service's
    version_label the label that carries them. Rollback is the flag going off; nothing is deployed again."""
