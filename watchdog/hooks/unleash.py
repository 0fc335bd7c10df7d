"""Hook `unleash`: a flag in one environment of Unleash, by its Admin API: gradual rollout, and off for everybody.

Off is the environment's switch, which stops every strategy at once. A share is the percentage of one gradual rollout;
other strategies, for staff for instance, stay as they are. A promotion never turns on what somebody has turned off.

API: /docs/openapi of every Unleash server, tag Features; whole percents, since the clients draw by whole percents.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from watchdog.config import read_secret
from watchdog.hooks.json_api import answered, ask
from watchdog.hooks.wanted_state import Span, WantedStateHook, again_later, impossible, wanted
from watchdog.model import ActionKind
from watchdog.ports import Clock, HookCall, ProbeAnswer
from watchdog.signed_http import Address

GRADUAL = "flexibleRollout"
EVERYBODY = "default"
_NEAR = 1e-6


class UnleashOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Address = Field(description="Address of Unleash, https://…, without /api.")
    project: str = Field("default", min_length=1, description="Project of the flag.")
    environment: str = Field(min_length=1, description="Environment in which the flag is turned on and off.")
    flag: str = Field(min_length=1, description="Name of the flag.")
    off: tuple[str, ...] = Field(
        ("off",), min_length=1, description="Versions that mean the flag is off; every other means that it is on."
    )
    title: str = Field(
        "", description="Title of the gradual rollout to set. Empty: the only one without constraints and segments."
    )
    token_env: str = Field("", description="Variable with a token that may update the flag and its environment.")
    token_file: str = Field("", description="File with it.")
    timeout_s: float = Field(10.0, gt=0, le=600, description="Longest time for all of it.")
    probe_timeout_s: float = Field(5.0, gt=0, le=600, description="The same for the probe.")


class UnleashHook(WantedStateHook):
    """One flag in one environment. Clients hear of a change when they ask next, every 15 s unless set otherwise."""

    kind: ClassVar[str] = "unleash"

    Options: ClassVar[type[BaseModel]] = UnleashOptions

    def __init__(
        self, name: str, options: UnleashOptions, clock: Clock, env: Mapping[str, str], state_dir: Path
    ) -> None:
        super().__init__(name, options, clock, env, state_dir)
        self._options = options
        token = read_secret(options.token_env, options.token_file, env, Path())
        self._headers = {"Authorization": token.get_secret_value()} if token is not None else {}
        parts = ("projects", options.project, "features", options.flag, "environments", options.environment)
        self._place = f"{options.url.rstrip('/')}/api/admin/" + "/".join(quote(part, safe="") for part in parts)

    def bring_about(self, call: HookCall, span: Span, lock: int) -> str:  # noqa: ARG002
        share = self._wanted_share_of_on(call)
        flag = self._flag(span)
        if share > 0 and not _is_on(flag) and call.kind is ActionKind.PROMOTE:
            impossible(f"{self._options.flag} is off in {self._options.environment}: hands off")
        if share > 0:
            self._set_percentage(flag, share, span)
        if _is_on(flag) is not (share > 0):
            self._change("POST", f"/{'on' if share > 0 else 'off'}", None, span)
        if not self._is_as_wanted(self._flag(span), share):
            again_later(f"{self._options.flag} is not as it was set")
        return f"{self._options.flag} is on for {share:.0%} in {self._options.environment}" if share else self._is_off()

    def standing(self, call: HookCall, span: Span) -> ProbeAnswer:
        share = self._wanted_share_of_on(call)
        flag = self._flag(span)
        if self._is_as_wanted(flag, share):
            return ProbeAnswer.APPLIED
        is_turned_off = call.kind is ActionKind.PROMOTE and not _is_on(flag)
        return ProbeAnswer.MOVED_ON if is_turned_off else ProbeAnswer.NOT_APPLIED

    def current_share(self, call: HookCall, span: Span) -> float | None:
        share = self._share_of_on(self._flag(span))
        return 1 - share if call.to_version in self._options.off else share

    def hindrance(self, call: HookCall, span: Span) -> str | None:
        share = self._wanted_share_of_on(call)
        flag = self._flag(span)
        if share > 0:
            self._gradual(flag)
        return None

    # --- what is wanted -----------------------------------------------------------------------------------

    def _wanted_share_of_on(self, call: HookCall) -> float:
        want = wanted(call)
        is_coming_on, is_leaving_on = (version not in self._options.off for version in (want.coming, want.leaving))
        if is_coming_on is is_leaving_on:
            word = "on" if is_coming_on else "off"
            impossible(f"{want.coming!r} and {want.leaving!r} both mean {word}; see the option off")
        share = want.share if is_coming_on else 1 - want.share
        if abs(share * 100 - round(share * 100)) > _NEAR:
            impossible(f"Unleash draws by whole percents, not by {share:.4%}")
        return round(share * 100) / 100

    def _is_off(self) -> str:
        return f"{self._options.flag} is off in {self._options.environment}"

    # --- what is there ------------------------------------------------------------------------------------

    def _is_as_wanted(self, flag: Mapping[str, Any], share: float) -> bool:
        if share == 0:
            return not _is_on(flag)
        return _is_on(flag) and abs(self._share_of_on(flag) - share) < _NEAR

    def _share_of_on(self, flag: Mapping[str, Any]) -> float:
        """Beside those whom a constraint chooses: nobody, a percentage, or everybody."""
        strategies = [s for s in _strategies(flag) if not s.get("disabled")]
        if not _is_on(flag):
            return 0.0
        if not strategies or any(s.get("name") == EVERYBODY and not _chooses(s) for s in strategies):
            return 1.0
        found = self._all_gradual(flag)
        return _percentage(found[0]) / 100 if len(found) == 1 and not found[0].get("disabled") else 0.0

    def _all_gradual(self, flag: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        title = self._options.title
        gradual = [s for s in _strategies(flag) if s.get("name") == GRADUAL]
        return [s for s in gradual if (s.get("title") == title if title else not _chooses(s))]

    def _gradual(self, flag: Mapping[str, Any]) -> Mapping[str, Any]:
        found = self._all_gradual(flag)
        if len(found) != 1:
            known = f"has {len(found)} gradual rollouts that it could be; see the option title"
            impossible(f"{self._options.flag} in {self._options.environment} {known}")
        return found[0]

    # --- the API ------------------------------------------------------------------------------------------

    def _flag(self, span: Span) -> dict[str, Any]:
        found = answered(ask("GET", self._place, span, headers=self._headers), self._options.flag)
        if not isinstance(found.get("enabled"), bool):
            impossible(f"{self._options.flag}: the answer does not say whether it is enabled")
        return found

    def _set_percentage(self, flag: Mapping[str, Any], share: float, span: Span) -> None:
        """Of one gradual rollout, and nothing else of it."""
        strategy, percent = self._gradual(flag), str(round(share * 100))
        change: list[dict[str, Any]] = []
        if _percentage(strategy) != round(share * 100):
            change.append({"op": "replace", "path": "/parameters/rollout", "value": percent})
        if strategy.get("disabled"):
            change.append({"op": "replace", "path": "/disabled", "value": False})
        if change:
            self._change("PATCH", f"/strategies/{quote(str(strategy.get('id')), safe='')}", change, span)

    def _change(self, method: str, path: str, change: Any, span: Span) -> None:
        answered(ask(method, f"{self._place}{path}", span, headers=self._headers, change=change), self._options.flag)


def _is_on(flag: Mapping[str, Any]) -> bool:
    return flag.get("enabled") is True


def _strategies(flag: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = flag.get("strategies")
    return [s for s in found if isinstance(s, dict)] if isinstance(found, list) else []


def _chooses(strategy: Mapping[str, Any]) -> bool:
    """Whether it is for some alone."""
    return bool(strategy.get("constraints") or strategy.get("segments"))


def _percentage(strategy: Mapping[str, Any]) -> float:
    parameters = strategy.get("parameters")
    said = parameters.get("rollout") if isinstance(parameters, dict) else None
    try:
        return float(str(said))
    except ValueError:
        impossible(f"the gradual rollout has no percentage: {said!r}")
