"""Hook `haproxy`: the weights, and on request the states, of a backend's servers over HAProxy's runtime API.

The servers of the version that comes get their configured weights, scaled to the wanted share; those of the version
that leaves get the rest, 0 in a rollback. The coming version is let in before the other is let out, and nothing is
touched where no server of the coming version would take traffic, being down or drained: all would get a 503.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from watchdog.hooks.haproxy_runtime import NAME, RuntimeApi, Server
from watchdog.hooks.wanted_state import HookEndedError, Span, Wanted, WantedStateHook, again_later, impossible, wanted
from watchdog.hooks.weights import split
from watchdog.ports import Clock, HookCall, HookOutcome, ProbeAnswer

T = TypeVar("T")
MOST = 256  # HAProxy's largest weight


class HaproxyOptions(BaseModel):
    """What config.toml may say about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    addresses: tuple[str, ...] = Field(
        min_length=1,
        description="Runtime APIs of all HAProxy processes that share the traffic, each a stats socket's path or "
        "host:port, level admin.",
    )
    backend: str = Field(description="Backend whose servers run the versions.")
    servers: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Servers of a version by their names; versions not named go by `pattern`."
    )
    pattern: str = Field(
        "{version}-", description="How the names of a version's servers begin; what follows holds no further -."
    )
    weight: int = Field(100, ge=1, le=MOST, description="Weight of a server that is configured with 0.")
    maintenance: bool = Field(
        False,
        description="Whether the hook also puts servers with no share to maintenance, which takes sticky clients away "
        "too, and the others to ready. Otherwise a server that somebody put to maintenance, or drains, stays as it is.",
    )
    timeout_s: float = Field(10.0, gt=0, le=600, description="Longest time for all of it, all addresses.")
    probe_timeout_s: float = Field(5.0, gt=0, le=600, description="The same for the probe.")

    @field_validator("addresses")
    @classmethod
    def _paths_or_ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            if "/" not in address and not address.rpartition(":")[2].isdecimal():
                raise ValueError(f"{address!r} is neither a path with a / nor host:port")
        return value

    @field_validator("backend")
    @classmethod
    def _a_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(f"{value!r} is no name of a backend")
        return value


@dataclass(frozen=True)
class Sides:
    """The backend's servers as the action sees them."""

    coming: Sequence[Server]
    leaving: Sequence[Server]
    others: Sequence[Server]

    def is_moved_on(self) -> bool:
        return not any(s.takes_traffic for s in (*self.coming, *self.leaving)) and any(
            s.takes_traffic for s in self.others
        )

    def share(self) -> float | None:
        """Of the servers that take traffic, the coming version's part of the weight."""
        coming, leaving = (sum(s.weight for s in side if s.takes_traffic) for side in (self.coming, self.leaving))
        return coming / (coming + leaving) if coming + leaving else None

    def reach(self, share: float) -> bool:
        """Whether somebody takes the traffic of each side that shall have some."""
        needed = (self.coming if share > 0 else (), self.leaving if share < 1 else ())
        return all(any(s.takes_traffic for s in side) for side in needed if side)


class HaproxyHook(WantedStateHook):
    """Sets weights; several processes are set one after the other and must all agree."""

    kind: ClassVar[str] = "haproxy"

    Options: ClassVar[type[BaseModel]] = HaproxyOptions

    def __init__(
        self, name: str, options: HaproxyOptions, clock: Clock, env: Mapping[str, str], state_dir: Path
    ) -> None:
        super().__init__(name, options, clock, env, state_dir)
        self._options = options
        self._apis = [RuntimeApi(address) for address in options.addresses]

    def bring_about(self, call: HookCall, span: Span, lock: int) -> str:  # noqa: ARG002
        want = wanted(call)
        self._each(span, lambda api, part: self._set(api, want, part))
        return f"{want.coming} has a share of {want.share:g}, {want.leaving} the rest"

    def standing(self, call: HookCall, span: Span) -> ProbeAnswer:
        want = wanted(call)
        answers = self._each(span, lambda api, part: self._standing_of(self._sides(api, want, part), want))
        return answers[0] if len(set(answers)) == 1 else ProbeAnswer.PARTIAL

    def current_share(self, call: HookCall, span: Span) -> float | None:
        """The smallest share of any process, or the largest where that is further from what was asked."""
        want = wanted(call)
        shares = self._each(span, lambda api, part: self._sides(api, want, part).share())
        known = [share for share in shares if share is not None]
        if len(known) < len(shares):
            return None
        return reduce(lambda a, b: a if abs(a - want.share) >= abs(b - want.share) else b, known)

    def hindrance(self, call: HookCall, span: Span) -> str | None:
        want = wanted(call)
        self._each(span, lambda api, part: self._refuse_what_would_hurt(self._sides(api, want, part), want))
        return None

    def _each(self, span: Span, do: Callable[[RuntimeApi, Span], T]) -> list[T]:
        """All processes are tried, also where one is away or hangs: most of the traffic is better than none."""
        done: list[T] = []
        trouble: list[HookEndedError] = []
        for before, api in enumerate(self._apis):
            try:
                done.append(do(api, span.part(len(self._apis) - before)))
            except HookEndedError as error:
                trouble.append(error)
        if trouble:
            hopeless = [error for error in trouble if error.outcome is HookOutcome.FAILED]
            raise (hopeless or trouble)[0]
        return done

    # --- one process --------------------------------------------------------------------------------------

    def _set(self, api: RuntimeApi, want: Wanted, span: Span) -> None:
        sides = self._sides(api, want, span)
        if sides.is_moved_on():
            impossible(f"{api.address}: neither {want.coming} nor {want.leaving} takes traffic: hands off")
        self._refuse_what_would_hurt(sides, want)
        api.change(self._commands(sides, want), span)
        if self._standing_of(self._sides(api, want, span), want) is not ProbeAnswer.APPLIED:
            again_later(f"{api.address}: the weights are not as they were set")

    def _sides(self, api: RuntimeApi, want: Wanted, span: Span) -> Sides:
        servers = api.servers(self._options.backend, span)
        coming, leaving = (self._named(version, servers) for version in (want.coming, want.leaving))
        for version, names in ((want.coming, coming), (want.leaving, leaving)):
            if not names or not names <= servers.keys():
                impossible(f"{version!r}: no such servers in {self._options.backend} ({', '.join(sorted(servers))})")
        if coming & leaving:
            impossible(f"{want.coming!r} and {want.leaving!r} run on the same servers")
        return Sides(
            coming=[s for name, s in servers.items() if name in coming],
            leaving=[s for name, s in servers.items() if name in leaving],
            others=[s for name, s in servers.items() if name not in coming | leaving],
        )

    def _named(self, version: str, servers: Mapping[str, Server]) -> set[str]:
        if version in self._options.servers:
            return set(self._options.servers[version])
        start = self._options.pattern.replace("{version}", version)
        return {name for name in servers if name.startswith(start) and "-" not in name.removeprefix(start)}

    def _weights(self, sides: Sides, want: Wanted) -> dict[str, int]:
        """The weight that each server of both sides shall have.

        The share is one of those who take traffic. A server that somebody took out carries nothing, and finds the
        weight of its peers when it comes back.
        """
        both = (sides.coming, sides.leaving)
        carrying = [[s for s in side if not s.is_taken_out or self._would_take(s)] or side for side in both]
        try:
            given = split(want.share, *([self._capacity(s) for s in side] for side in carrying), most=MOST)
        except ValueError as error:
            impossible(str(error))
        weights: dict[str, int] = {}
        for side, peers, theirs in zip(both, carrying, given, strict=True):
            per_capacity = sum(theirs) / sum(map(self._capacity, peers))
            weights |= {s.name: _whole(self._capacity(s) * per_capacity) for s in side}
            weights |= {s.name: weight for s, weight in zip(peers, theirs, strict=True)}
        return weights

    def _capacity(self, server: Server) -> int:
        return server.configured_weight or self._options.weight

    def _would_take(self, server: Server) -> bool:
        """Whether it takes traffic once our commands are through."""
        return server.is_open or (self._options.maintenance and server.opens_when_ready)

    def _refuse_what_would_hurt(self, sides: Sides, want: Wanted) -> None:
        weights = self._weights(sides, want)
        for version, side in ((want.coming, sides.coming), (want.leaving, sides.leaving)):
            needed = [s for s in side if weights[s.name] > 0]
            if needed and not any(map(self._would_take, needed)):
                impossible(f"{self._why_nobody(version, needed)}; leaving the weights as they are")

    def _why_nobody(self, version: str, needed: Sequence[Server]) -> str:
        """Why none of a version's servers takes traffic, and what to do about those that only need a word."""
        drained = [s for s in needed if s.is_drained and s.is_up]
        if not drained:
            return f"no server of {version} is up"
        which = "every server" if len(drained) == len(needed) else "every server that is up"
        found = f"{which} of {version} is drained"
        liftable = next((s for s in drained if s.opens_when_ready), None)
        if liftable is None:
            return f"{found}: set ready the server that {drained[0].name} tracks"
        command = f"set server {self._options.backend}/{liftable.name} state ready"
        return f"{found}: set it ready ({command}), or let this hook do so by maintenance = true"

    def _commands(self, sides: Sides, want: Wanted) -> list[str]:
        """First what lets traffic in, then what lets it out: at no moment is there nobody to take it."""
        weights = self._weights(sides, want)
        present = {s.name: s for s in (*sides.coming, *sides.leaving)}
        rising = [name for name, weight in weights.items() if weight > 0 and weight >= present[name].weight]
        commands: list[str] = []
        for name in [*rising, *(name for name in weights if name not in rising)]:
            server, weight = f"{self._options.backend}/{name}", weights[name]
            if weight != present[name].weight:
                commands.append(f"set server {server} weight {weight}")
            if self._options.maintenance and (weight == 0) != present[name].is_forced_out:
                commands.append(f"set server {server} state {'maint' if weight == 0 else 'ready'}")
        return commands

    def _standing_of(self, sides: Sides, want: Wanted) -> ProbeAnswer:
        if sides.is_moved_on():
            return ProbeAnswer.MOVED_ON
        if want.share < 1.0:
            weights = self._weights(sides, want)
            right = sides.reach(want.share) and all(
                self._is_as_wanted(s, weights[s.name]) for s in (*sides.coming, *sides.leaving)
            )
            return ProbeAnswer.APPLIED if right else ProbeAnswer.NOT_APPLIED
        if any(s.takes_traffic for s in sides.leaving) or not any(s.takes_traffic for s in sides.coming):
            return ProbeAnswer.NOT_APPLIED
        # How the coming servers share the traffic between them is theirs; one of them may be down for its own reasons.
        is_out = all(self._is_as_wanted(s, 0) for s in sides.leaving)
        is_in = all(s.weight > 0 or not s.is_up for s in sides.coming)
        return ProbeAnswer.APPLIED if is_out and is_in else ProbeAnswer.PARTIAL

    def _is_as_wanted(self, server: Server, weight: int) -> bool:
        is_state_right = not self._options.maintenance or server.is_forced_out == (weight == 0)
        return server.weight == weight and is_state_right


def _whole(weight: float) -> int:
    """A weight that HAProxy takes; only nothing becomes 0."""
    return min(MOST, max(1, round(weight))) if weight > 0 else 0
