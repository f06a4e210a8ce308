"""What pydantic found, in words for the person who wrote the file. No value that may be secret is repeated."""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence

import pydantic
from pydantic_core import ErrorDetails

from attachd import errors, model
from attachd.config.schema import Tables
from attachd.config.table import PROBLEMS, Table

_Loc = Sequence[int | str]

#: What pydantic calls an error, and what the value has to be.
_MUST_BE: Mapping[str, str] = {
    "bool_type": "true or false, without quotes",
    "date_type": "a date without quotes, for example 2027-03-01",
    "dict_type": "a table of names and texts",
    "finite_number": "a finite number",
    "float_type": "a number without quotes or unit",
    "greater_than": "more than {gt:.15g}",
    "greater_than_equal": "at least {ge:.15g}",
    "int_from_float": "a whole number",
    "int_type": "a whole number without quotes or unit",
    "less_than": "less than {lt:.15g}",
    "less_than_equal": "at most {le:.15g}",
    "literal_error": "{expected}",
    "model_type": "a table",
    "path_type": "a path in quotes",
    "string_type": "a text in quotes",
    "tuple_type": "a list in [brackets]",
}
#: What a list holds, by its key.
_LISTS: Mapping[str, str] = {
    "folders.projects": 'a list of project keys, for example ["TEST", "SUP"]',
    "settle.ignore": 'a list of patterns, for example ["*.bak", "drafts/"]',
    "doubt.looks_seconds": "a list of seconds, for example [5.0, 30.0, 120.0]",
    "folder": "tables that each begin with [[folder]]",
    "web.hosts": 'a list of host names, for example ["drop.example.com"]',
    "hooks.command": 'a list of a program and its arguments, for example ["/usr/local/bin/attachd-hook"]',
    "hooks.events": 'a list of events, for example ["failed", "stuck"]',
    "jira.auth.token.command": 'a list of a program and its arguments, for example ["pass", "show", "jira"]',
}
_KINDS = (
    (bool, "true or false"),
    (str, "a text"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (dict, "a table"),
)
#: What is shorter is quoted.
_SHORT = 40
#: A consequence of another error, which has a line of its own.
_CONSEQUENCE = "default_factory_not_called"


def problems(error: pydantic.ValidationError, file: str = "") -> Iterator[errors.Problem]:
    """Yield each thing that is wrong with *file*, in the order of its keys, as texts that any terminal may show."""
    for problem in _problems(error):
        texts = (problem.where, problem.what, problem.remedy, file)
        yield errors.Problem(*(model.printable(text.encode("utf-8", "surrogatepass")) for text in texts))


def _problems(error: pydantic.ValidationError) -> Iterator[errors.Problem]:
    for details in error.errors(include_url=False):
        if details["type"] == PROBLEMS:
            yield from _ours(details)
        elif details["type"] != _CONSEQUENCE:
            yield _theirs(details)


def _ours(details: ErrorDetails) -> Iterator[errors.Problem]:
    for problem in details["ctx"][PROBLEMS]:
        loc = (*details["loc"], problem.where) if problem.where else details["loc"]
        yield errors.Problem(key(loc), problem.what, problem.remedy)


def _theirs(details: ErrorDetails) -> errors.Problem:
    loc = details["loc"]
    if details["type"] == "missing":
        return errors.Problem(key(loc), "is missing.", "sample-config.toml shows every key.")
    if details["type"] == "extra_forbidden":
        return errors.Problem(key(loc), "is not a key that attachd knows.", _nearest(loc))
    must_be = _MUST_BE.get(details["type"], "of another kind").format_map(details.get("ctx", {}))
    if details["type"] == "tuple_type":
        must_be = _LISTS.get(key(loc), must_be)
    return errors.Problem(key(loc), f"{_entry(loc)}must be {must_be}.", f"It is {_found(details)}.")


def _found(details: ErrorDetails) -> str:
    """Return the value, or only its kind if it may be a secret."""
    value = details["input"]
    if details["type"].startswith(("greater", "less", "finite")) and len(str(value)) < _SHORT:
        return str(value)
    if details["type"] == "literal_error" and isinstance(value, str) and "auth" not in details["loc"]:
        return f"“{value[:_SHORT]}”"
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "something else")


def _entry(loc: _Loc) -> str:
    return f"entry {loc[-1] + 1} " if isinstance(loc[-1], int) else ""


def key(loc: _Loc) -> str:
    """Write a place as TOML does: tables and key with dots between them, in quotes where TOML asks for them.

    Several tables of one name (``[[folder]]``) have their number, counted from 1: ``folder[2].match``.
    """
    written = ""
    for step, following in zip(loc, [*loc[1:], 0], strict=True):
        if isinstance(step, str):
            name = step if re.fullmatch(r"[A-Za-z0-9_-]+", step) else json.dumps(step)
            written += f".{name}" if written else name
        elif isinstance(following, str):
            written += f"[{step + 1}]"
    return written


def _nearest(loc: _Loc) -> str:
    """Return a hint at the key that was probably meant: a similar one in that table, or the same one in another table."""
    *above, name = (step for step in loc if isinstance(step, str))
    elsewhere = next((path for path in _all_keys(Tables) if path[-1] == name), None)
    if elsewhere:
        return f"“{name}” belongs in [{key(elsewhere[:-1])}]." if elsewhere[1:] else f"[{name}] is a table of its own."
    known = _keys_of(above)
    if close := difflib.get_close_matches(name.lower().replace("-", "_"), known, 1):
        return f"Did you mean “{key([*above, *close])}”?"
    return f"Known here: {', '.join(known)}."


def _keys_of(path: Sequence[str]) -> list[str]:
    table: type[Table] = Tables
    for step in path:
        table = dict(_tables(table))[step]
    return list(table.model_fields)


def _all_keys(table: type[Table]) -> Iterator[tuple[str, ...]]:
    below = dict(_tables(table))
    for name in table.model_fields:
        yield (name,)
        if name in below:
            yield from ((name, *rest) for rest in _all_keys(below[name]))


def _tables(table: type[Table]) -> Iterator[tuple[str, type[Table]]]:
    for name, info in table.model_fields.items():
        for choice in (info.annotation, *typing.get_args(info.annotation)):
            if isinstance(choice, type) and issubclass(choice, Table):
                yield name, choice
