"""The event "version X of service S is live", typed, as whoever tells it must fill it in."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from watchdog.model import Strategy

_IDENTIFIER = re.compile(r"[A-Za-z0-9._:/@+][A-Za-z0-9._:/@+-]{0,127}")


def _identifier(value: str) -> str:
    if _IDENTIFIER.fullmatch(value) is None:
        raise ValueError("expected 1 to 128 of A-Z a-z 0-9 . _ : / @ + -, not starting with -")
    return value


Identifier = Annotated[str, AfterValidator(_identifier)]
_LATEST = 253_402_300_799.0  # the end of the year 9999: no calendar goes further
_ADDED = ("train", "safe_to_rollback_until")  # fields that came after the first version


class DeployRequest(BaseModel):
    """The event "version X of service S is live", as CI sends it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    id: Identifier | None = Field(None, description="Your id of this deploy; the same id is the same deploy.")
    service: Identifier = Field(description="A service of the configuration.")
    environment: Identifier | None = Field(None, description="Default: the service's environment.")
    version: Identifier = Field(description="The version that went live.")
    previous_version: Identifier | None = Field(None, description="Default: the last version known to be live.")
    strategy: Strategy | None = Field(None, description="Default: the service's strategy.")
    deployed_at: float | None = Field(None, description="Unix seconds; default: now.")
    share: float | None = Field(None, gt=0, le=1, description="Traffic share of the new version.")
    instances: dict[Literal["baseline", "candidate"], list[Identifier]] = Field(
        default_factory=dict, description="Instances per arm, where they are known."
    )
    migration: Literal["none", "expand", "contract", "irreversible", "unknown"] = Field(
        "none", description="What the deploy does to the database."
    )
    safe_to_rollback_until: float | None = Field(
        None,
        ge=0,
        le=_LATEST,
        description="Unix seconds after which going back may do harm: a later step of the migration, say.",
    )
    train: Identifier | None = Field(
        None, description="Release train: deploys that name the same one are judged and put back together."
    )


def derived_id(request: DeployRequest, environment: str, deployed_at: float) -> str:
    """The id of a deploy that was told without one: the same deploy has the same."""
    seed = json.dumps([request.service, environment, request.version, deployed_at])
    return hashlib.sha256(seed.encode()).hexdigest()[:20]


def own_id(request: DeployRequest) -> str:
    """The id of a deploy whose own is taken by a deploy of another service."""
    return hashlib.sha256(json.dumps([request.service, request.id]).encode()).hexdigest()[:20]


def digest_of(request: DeployRequest) -> str:
    """What tells a retry from another deploy under the same id."""
    told = request.model_dump(mode="json")
    for name in _ADDED:  # where they are not used, a retry across an upgrade is still the same deploy
        if told[name] is None:
            del told[name]
    canonical = json.dumps(told, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def in_waves(requests: Sequence[DeployRequest]) -> list[list[int]]:
    """Places of requests that came together; what may be the same deploy again is in a later wave, when the first is on
    record: a sender that did not wait for its answer."""
    waves: list[list[int]] = []
    seen: Counter[str | tuple[str, str]] = Counter()
    for at, request in enumerate(requests):
        deploy = request.id or (request.service, request.version)  # from which its id will follow
        if seen[deploy] == len(waves):
            waves.append([])
        waves[seen[deploy]].append(at)
        seen[deploy] += 1
    return waves
