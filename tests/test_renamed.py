"""Keys that were renamed: understood and told for two minor releases, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import attachd
from attachd import config
from attachd.config import renamed
from attachd.config.renamed import Renamed
from attachd.errors import Mistake
from attachd.setup import check

OLD = {
    "folders": {"inbox": "/srv/inbox"},
    "jira": {"url": "https://jira.example.com", "auth": {"user": "x", "secret": {"env": "T"}}},
    "sending": {"threads": 7},
}


@pytest.fixture(autouse=True)
def _two_keys_were_renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = (
        Renamed(("sending", "threads"), ("upload", "parallel"), (0, 2)),
        Renamed(("jira", "auth", "secret"), ("jira", "auth", "token"), (0, 3)),
    )
    monkeypatch.setattr(renamed, "RENAMED", keys)


def parse(tables: dict[str, Any]) -> config.Config:
    return config.parse(tables, base=Path("/srv"), environ={"T": "not-a-token"})


def test_the_old_names_are_understood_and_told() -> None:
    made = parse(OLD)

    assert made.upload.parallel == 7
    assert made.jira.auth.token is not None
    assert made.notices == (
        "sending.threads is called upload.parallel since version 0.2; the old name will be refused",
        "jira.auth.secret is called jira.auth.token since version 0.3; the old name will be refused",
    )
    assert OLD["jira"]["auth"]["secret"] == {"env": "T"}, "the caller's tables stay as they are"


def test_the_new_name_is_nothing_to_speak_of() -> None:
    tables = {"folders": OLD["folders"], "jira": {"url": "https://jira.example.com", "auth": {"kind": "anonymous"}}}

    assert parse(tables | {"upload": {"parallel": 7}}).notices == ()


def test_both_names_are_a_mistake() -> None:
    with pytest.raises(
        Mistake, match=r"sending\.threads: is called upload\.parallel now, and is given under both names"
    ):
        parse(OLD | {"upload": {"parallel": 3}})


def test_what_else_is_in_a_table_that_is_gone_is_unknown() -> None:
    with pytest.raises(Mistake, match=r"sending"):
        parse(OLD | {"sending": {"threads": 7, "more": 1}})


def test_a_table_that_is_none_is_told_by_its_own_name() -> None:
    with pytest.raises(Mistake, match="upload"):
        parse(OLD | {"upload": 3})


def test_check_warns(tmp_path: Path) -> None:
    found = check.inspect(parse(OLD), tmp_path, {}, offline=True)

    assert [each.result for each in found if "is called jira.auth.token" in each.detail] == ["warning"]


def test_no_old_name_outlives_two_minor_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    major, minor = map(int, attachd.__version__.split(".")[:2])

    for each in renamed.RENAMED:
        assert each.since[0] == major
        assert minor - each.since[1] < 2, f"{each.old} is to be refused now: take its line out"
