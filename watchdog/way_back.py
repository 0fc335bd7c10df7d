"""Before a rollback begins: does the version to go back to answer, and would it know the schema of the data?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from watchdog.errors import LedgerCorruptError
from watchdog.hook_words import finding, last_words
from watchdog.intended import SCHEMA_KNOWN, UNTIL_KNOWN
from watchdog.missing_hook import NO_HOOK
from watchdog.model import UPDATED, Action, ActionKind, ActionState, HoldReason, Strategy, Watch
from watchdog.policy import no_longer_safe
from watchdog.ports import Hook, HookCall, HookOutcome, Ledger, ProbeAnswer
from watchdog.strategies.rolling import updated_servers
from watchdog.strategies.window import interval_bounds

_LEFT_ALONE = frozenset({ProbeAnswer.APPLIED, ProbeAnswer.MOVED_ON})  # answers after which nothing is switched
SEEN_STEPS = 3  # steps for which what was seen of a roll-out is believed; it goes on behind it


@dataclass(frozen=True, slots=True, kw_only=True)
class WayBack:
    """Asks the hooks that know; touches nothing."""

    ledger: Ledger
    hooks: Mapping[str, Hook]

    def closed(self, action: Action, before: ProbeAnswer, now: float) -> tuple[HoldReason, str] | None:
        """Why going back would make it worse. before: what the probe says of production. A rollback may have waited for
        a human until after the time in which it was safe."""
        if action.kind is not ActionKind.ROLLBACK or action.state is ActionState.RETRY_WAIT:  # looked at seconds ago
            return None
        watch = self.ledger.watch(action.watch_id)
        if watch is None:
            return None
        late = no_longer_safe(watch, now) if before not in _LEFT_ALONE else ""
        if late and not action.params.get(UNTIL_KNOWN):
            return HoldReason.MIGRATION, f"{late}; approve to go back all the same"
        # Only where production is known to be elsewhere is nobody asked; a hook without a probe knows nothing, and
        # that is no reason to switch everybody to a version that may be dead.
        gone = self._target_gone(watch, action) if before not in _LEFT_ALONE else None
        if gone is not None:
            return HoldReason.TARGET_GONE, gone
        changed = self._schema_changed(watch, action) if before is not ProbeAnswer.APPLIED else None
        return None if changed is None else (HoldReason.MIGRATION, changed)

    def with_servers(self, action: Action, now: float) -> Action:
        """Of a roll-out only the servers that were updated are put back: its rollback says which these are.

        They are named as it is carried out, not as it is decided on: a roll-out goes on while somebody is asked. Where
        nobody has looked for a while they are not known, and the hook takes them all.
        """
        watch = self.ledger.watch(action.watch_id)
        if action.kind is not ActionKind.ROLLBACK or action.state is ActionState.RETRY_WAIT or watch is None:
            return action
        others = {name: value for name, value in action.params.items() if name != UPDATED}
        servers = self._updated(watch, now) if watch.deploy.strategy is Strategy.ROLLING else []
        return replace(action, params={**others, UPDATED: servers} if servers else others)

    def _updated(self, watch: Watch, now: float) -> list[str]:
        if watch.plan.bakes:  # all have it by then
            return []
        try:
            looks = self.ledger.looks(watch.id)
        except LedgerCorruptError:  # no reason to leave a bad version live
            return []
        telling = [look for look in looks if look.interval >= 0 and look.cells]
        seen_at = interval_bounds(watch, telling[-1].interval)[1] if telling else -math.inf
        if now - seen_at > watch.plan.settle_s + SEEN_STEPS * watch.plan.step_s:
            return []
        unnamed = {metric.spec.name for metric in watch.plan.metrics if metric.promql is not None}
        return updated_servers(looks, watch.deploy.instances.get("candidate", ()), unnamed=unnamed)

    def _target_gone(self, watch: Watch, action: Action) -> str | None:
        """Whether the version to switch back to does not answer."""
        name = watch.plan.smoke_hook
        if name is None:
            return None
        result = self.hooks.get(name, NO_HOOK).run(call_of(replace(action, kind=ActionKind.SMOKE)))
        if result.outcome is HookOutcome.OK:
            return None
        failed = f"{action.to_version} does not pass its smoke test ({finding(result)})"
        return f"{failed}; switching back would make it worse"

    def _schema_changed(self, watch: Watch, action: Action) -> str | None:
        """Whether the schema is another than the one that the deploy began with; one that changed unannounced may not
        suit the version to go back to. A schema that cannot be asked for is no reason to leave a bad version live."""
        name = watch.plan.schema_hook
        if name is None:
            return None
        told = [a for a in self.ledger.actions(watch_id=watch.id) if a.kind is ActionKind.SCHEMA]
        known = next((a.detail for a in told if a.state is ActionState.APPLIED), None)
        if watch.deploy.migration != "none" or known is None or action.params.get(SCHEMA_KNOWN):
            return None
        result = self.hooks.get(name, NO_HOOK).run(call_of(replace(action, kind=ActionKind.SCHEMA)))
        now_is = last_words(result)
        if result.outcome is not HookOutcome.OK or now_is == known:
            return None
        return (
            f"the schema was {known} when the deploy began and is {now_is} now, though no migration was announced; "
            f"{action.to_version} may not work with it: a human decides"
        )


def call_of(action: Action) -> HookCall:
    """What a hook is told of an action."""
    return HookCall(
        action_id=action.id,
        kind=action.kind,
        attempt=action.attempt,
        fence=action.fence,
        service=action.service,
        environment=action.environment,
        from_version=action.from_version,
        to_version=action.to_version,
        deploy_id=action.watch_id,
        params=action.params,
    )
