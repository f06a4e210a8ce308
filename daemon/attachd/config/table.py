"""The base of every table of the configuration: strict, frozen, without unknown keys, with absolute paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic_core import PydanticCustomError

from attachd.errors import Problem

#: The type of pydantic error that carries the ``Problem``s of our own checks; ``messages.py`` unpacks them.
PROBLEMS = "problems"


@dataclass(frozen=True, slots=True)
class Context:
    """What a check knows besides the value: the folder that relative paths count from, and the environment."""

    base: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    check_token: bool = True


class Table(pydantic.BaseModel):
    """A table of the configuration. Values keep their TOML type: ``"5"`` and ``5.0`` are not ``5``."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )


def complain(problems: Iterable[Problem]) -> None:
    """Fail the validation if there is any problem. Each ``where`` counts from the value that is checked."""
    found = tuple(problems)
    if found:
        raise PydanticCustomError(PROBLEMS, "see the problems", {PROBLEMS: found})


def _absolute(value: Any, info: pydantic.ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    complain(_bad_path(value))
    return (info.context.base if isinstance(info.context, Context) else Path()) / value


def _bad_path(value: str) -> Iterable[Problem]:
    if not value.strip():
        yield Problem("", "is empty.", "Give a path, or remove the key if it is optional.")
    elif value.startswith("~"):
        yield Problem("", "begins with “~”, but a service has no home.", "Write the full path.")
    elif not value.isprintable():
        yield Problem("", "contains control characters.", "Write “\\” as “\\\\”, or use 'single quotes'.")


AbsolutePath = Annotated[Path, pydantic.Field(strict=False), pydantic.BeforeValidator(_absolute)]
Texts = Annotated[tuple[str, ...], pydantic.Field(strict=False)]
