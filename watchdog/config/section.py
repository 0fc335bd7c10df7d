"""What every table of config.toml has in common: frozen, no unknown keys, mistakes that name their key."""

import re
from collections.abc import Container, Mapping
from typing import Annotated, Any, NamedTuple, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

MISTAKES = "mistakes"  # the error type that carries several mistakes of one table

_NAME = re.compile(r"[A-Za-z0-9._:/@+][A-Za-z0-9._:/@+-]{0,127}")

# A bound here and another one on the field do not add up in pydantic: what has bounds of its own is a Number or Count.
Seconds = Annotated[float, Field(strict=True, gt=0, le=31_536_000, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(strict=True, ge=0, le=31_536_000, allow_inf_nan=False)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


def _plain_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is not allowed; expected up to 128 of A-Z a-z 0-9 . _ : / @ + -, not starting with -"
        )
    return text


Name = Annotated[str, AfterValidator(_plain_name)]


class Mistake(NamedTuple):
    """Something wrong between keys of one table; `key` is the path of the one to correct."""

    key: tuple[str | int, ...]
    message: str


class Section(BaseModel):
    """A table of config.toml. `mistakes` is asked once every key by itself is right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    _stands_in: bool = PrivateAttr(False)

    def mistakes(self) -> list[Mistake]:
        """Return what is wrong between the keys of this table."""
        return []

    @classmethod
    def fillers(cls, *, only: Container[str | int]) -> dict[str, Any]:
        """Return texts for those required keys, already told to be wrong, that the rest can be checked with."""
        fields = cls.model_fields.items()
        return {
            key: "missing" for key, field in fields if key in only and field.is_required() and field.annotation is str
        }

    @classmethod
    def stand_in(cls, kept: Mapping[str, Any]) -> Self:
        """Return this table with what could be kept of it and defaults, for the tables around it to be checked."""
        required = {name: "" for name, field in cls.model_fields.items() if field.is_required()}
        table: Any = cls.model_construct(**(required | dict(kept)))
        table._stands_in = True  # noqa: SLF001 - its own class
        return cast("Self", table)

    @model_validator(mode="after")
    def _keys_agree(self) -> Self:
        found = [] if self._stands_in else self.mistakes()
        if found:
            told = "; ".join(f"{'.'.join(map(str, m.key))}: {m.message}" for m in found)
            raise PydanticCustomError(MISTAKES, "{told}", {"told": told, MISTAKES: found})
        return self
