"""The sample configuration says what the program does: the same keys, the same defaults."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from attachd import config
from attachd.config import schema
from attachd.errors import Mistake

SAMPLE = Path(__file__).parents[2] / "sample-config.toml"
#: Keys that the sample gives an example for, because they have no default or only one that depends on others.
EXAMPLES = {
    ("folders", "inbox"),
    ("folders", "done"),
    ("folders", "failed"),
    ("jira", "url"),
    ("aliases",),
    ("folder",),
}


def text() -> str:
    return SAMPLE.read_text("utf-8")


def complete() -> str:
    """Return the sample with the keys that are commented out; prose stays a comment."""
    return re.sub(r'(?m)^# (?=\[|"?[A-Za-z_]+"? = )', "", text())


def keys_of_model(table: type[BaseModel] = schema.Tables, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in table.model_fields.items():
        below = field.annotation
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield from keys_of_model(below, (*path, name))
        else:
            yield (*path, name)


def default(path: tuple[str, ...]) -> Any:
    table: Any = schema.Tables
    for step in path[:-1]:
        table = table.model_fields[step].annotation
    field = table.model_fields[path[-1]]
    return None if field.default is PydanticUndefined else field.default


def value(tables: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return what stands at *path*; lists as the model has them."""
    found: Any = tables
    for step in path:
        found = found[step]
    return tuple(found) if isinstance(found, list) else found


def keys_of_file(
    tables: Mapping[str, Any], known: set[tuple[str, ...]], path: tuple[str, ...] = ()
) -> set[tuple[str, ...]]:
    found = set()
    for name, below in tables.items():
        here = (*path, name)
        found |= keys_of_file(below, known, here) if isinstance(below, dict) and here not in known else {here}
    return found


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Give a copy of the sample with its token beside it."""
    copy = tmp_path / "config.toml"
    copy.write_text(text(), "utf-8")
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text("not-a-token\n")
    return copy


def test_the_sample_is_valid(sample: Path) -> None:
    settings = config.load(sample, environ={})

    assert settings.folders.done == Path("/srv/attachd/done")
    assert settings.jira.auth.user == "email@example.com"


def test_the_sample_has_every_key_and_no_other() -> None:
    known = set(keys_of_model())

    assert keys_of_file(tomllib.loads(complete()), known) == known


def test_what_the_sample_sets_is_the_default() -> None:
    tables = tomllib.loads(text())
    known = set(keys_of_model())

    for path in keys_of_file(tables, known) - EXAMPLES:
        if default(path) is not None:
            assert value(tables, path) == default(path), path


def test_what_the_sample_leaves_out_is_the_default_too() -> None:
    """A key that is commented out shows its default, or has none."""
    tables = tomllib.loads(complete())
    known = set(keys_of_model())
    shown = keys_of_file(tomllib.loads(text()), known)

    for path in known - shown - EXAMPLES:
        if default(path) is not None:
            assert value(tables, path) == default(path), path


def test_the_folders_that_the_sample_leaves_out_are_where_it_says(sample: Path) -> None:
    shown = tomllib.loads(complete())["folders"]
    folders = config.load(sample, environ={}).folders

    assert (shown["done"], shown["failed"]) == (str(folders.done), str(folders.failed))


def explanations() -> dict[tuple[str, ...], str]:
    """Return each key and table of the sample, commented out or not, with the comment that it stands under."""
    found: dict[tuple[str, ...], str] = {}
    table: tuple[str, ...] = ()
    comment, in_prose = "", False
    for line in text().splitlines():
        setting = re.fullmatch(r'(?:# )?"?(\w+)"? = .*', line)
        header = re.fullmatch(r"(?:# )?\[+([a-z.]+)\]+", line)
        prose = line.startswith("# ") and not setting and not header
        if header:
            table = tuple(header[1].split("."))
            found[table] = comment
        elif setting:
            found[*table, setting[1]] = comment
        comment = (
            f"{comment} {line[2:]}".strip() if prose and in_prose else line[2:] if prose else comment if line else ""
        )
        in_prose = prose
    return found


def test_every_key_of_the_sample_is_explained() -> None:
    for path, comment in explanations().items():
        assert comment or len(path) == 1 or path == ("jira", "auth"), path


def test_the_examples_of_the_sample_are_right_but_for_files(sample: Path) -> None:
    # The keys of OAuth are refused with any other kind.
    sample.write_text(complete().replace('kind = "basic"', 'kind = "oauth2"'), "utf-8")
    for name in ("hook-secret", "client-secret"):
        (sample.parent / name).touch(0o600)
        (sample.parent / name).write_text("not-a-secret")

    with pytest.raises(Mistake) as caught:
        config.load(sample, environ={})

    refused = {problem.where for problem in caught.value.problems}
    files = {"jira.ca_file", "jira.client_cert_file", "jira.client_key_file", "metrics.textfile"}
    assert refused == files
