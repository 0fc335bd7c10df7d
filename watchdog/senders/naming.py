"""How a sender's words for services and environments become ours."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from watchdog.deploy_request import Identifier
from watchdog.errors import RefusedError
from watchdog.strict_json import JsonError, parse_object

DEEPEST = 24  # levels of an object in a text; others may keep theirs beside ours
LONGEST = 100  # leaves room for the number of a later roll-out
PLAIN = re.compile(r"[A-Za-z0-9._:/@-]+")
EXTRA = "deploy_watchdog"  # where a payload has room for words of the user: keys of our deploy event


class SenderOptions(BaseModel):
    """What config.toml may say about any sender."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    services: dict[str, Identifier] = Field({}, description="The sender's word for a service, and our name of it.")
    environments: dict[str, Identifier] = Field(
        {}, description="The sender's word for an environment, and our name of it."
    )

    def service(self, *theirs: str) -> str:
        """Our name of a service: of the sender's words for it the first that is in the table, else the last one."""
        return next((self.services[word] for word in theirs if word in self.services), theirs[-1])

    def environment(self, theirs: str | None) -> str | None:
        """Our name of an environment; their own word for it where the table has none."""
        return None if theirs is None else self.environments.get(theirs, theirs)


class Told(BaseModel):
    """A part of a payload: what we need of it is typed, the rest is not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def _unix(value: object) -> float:
    try:
        text = value if isinstance(value, str) else ""  # a number such as 20240502 would be read as a date
        at = datetime.fromisoformat(text.replace(" UTC", "+00:00").replace(" +", "+").replace(" -", "-"))
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("expected a time such as 2024-05-02T17:04:05Z") from None


def identity(*parts: object) -> str:
    """Our id of a deploy from the sender's own numbers and names; the same parts are the same deploy.

    >>> identity("github", 186853002, 145988746)
    'github:186853002:145988746'
    """
    told = ":".join(str(part) for part in parts)
    if len(told) <= LONGEST and PLAIN.fullmatch(told):
        return told
    return f"{parts[0]}:{hashlib.sha256(told.encode('utf-8', 'replace')).hexdigest()[:24]}"


UnixTime = Annotated[float, BeforeValidator(_unix)]  # RFC 3339, and what GitLab writes (2021-04-28 21:50:00 +0200)


def extra(payload: object) -> dict[str, Any]:
    """What whoever made the deployment says of it in our own words, such as `previous_version` or `migration`."""
    read = _object_in(payload) if isinstance(payload, str) else payload
    said = read.get(EXTRA) if isinstance(read, Mapping) else None
    if said is None:
        return {}
    if not isinstance(said, Mapping):
        raise RefusedError(f"{EXTRA} in the payload is no object", permanent=True)
    ours = {"id", "service", "environment", "deployed_at"} & set(said)
    if ours:
        raise RefusedError(f"{EXTRA} may not say {', '.join(sorted(ours))}: the event itself does", permanent=True)
    return dict(said)


def _object_in(text: str) -> dict[str, Any] | None:
    """The object that a text is, as GitHub takes payloads; None where it is somebody's own text, and none of ours."""
    try:
        return parse_object(text.encode("utf-8", "surrogatepass"), depth=DEEPEST)
    except JsonError as error:
        if EXTRA not in text:
            return None
        why = str(error).removeprefix("the body ")
        said = f"the payload is a text with {EXTRA} in it that cannot be read: it {why}"
        raise RefusedError(said, permanent=True) from None
