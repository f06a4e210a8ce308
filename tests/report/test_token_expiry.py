"""attachd warns of the token's last day in time: each mark once, across restarts, and daily from that day on."""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from attachd.journal.database import Journal
from attachd.report import status, status_text, token_expiry
from attachd.service import token_reminder
from attachd.setup import check
from memory_jira import World

LAST = datetime.date(2027, 3, 1)


def days(*before: int) -> list[int]:
    """On which of these days before the end there is a warning, one process after the other."""
    told, found = None, []
    for left in before:
        fresh = token_expiry.due(LAST, LAST - datetime.timedelta(left), told)
        if fresh is not None:
            told = fresh
            found.append(left)
    return found


def test_each_mark_is_told_once_and_from_the_last_day_on_each_day() -> None:
    assert days(*range(60, -4, -1)) == [30, 14, 7, 1, 0, -1, -2, -3]


def test_nothing_is_told_twice_on_one_day() -> None:
    assert days(30, 30, 14, 14, 0, 0, -1, -1, -1) == [30, 14, 0, -1]


def test_who_was_off_on_the_day_of_a_mark_is_told_afterwards_and_only_the_nearest() -> None:
    assert days(40, 25, 24, 5, 4) == [25, 5]


def test_another_last_day_begins_anew() -> None:
    told = token_expiry.due(LAST, LAST - datetime.timedelta(7), None)
    later = LAST + datetime.timedelta(3)

    assert token_expiry.due(LAST, LAST - datetime.timedelta(6), told) is None
    assert token_expiry.due(later, LAST - datetime.timedelta(6), told) is not None


@given(st.integers(-400, 400), st.integers(0, 400))
def test_later_days_never_forget_what_was_told(first: int, later: int) -> None:
    """However long it was off: it warns again only where another mark was reached, or it has ended."""
    told = token_expiry.due(LAST, LAST - datetime.timedelta(first), None)
    again = token_expiry.due(LAST, LAST - datetime.timedelta(first - later), told)

    marks = [sum(left <= mark for mark in token_expiry.MARKS_DAYS) for left in (first, first - later)]
    assert (again is not None) == (marks[1] > 0 and (marks[0] != marks[1] or (first - later <= 0 and later > 0)))


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (97, "the token expires in 97 days (2027-03-01)"),
        (1, "the token expires tomorrow (2027-03-01)"),
        (0, "the token expires today (2027-03-01)"),
        (-2, "the token expired on 2027-03-01 (jira.auth.token_expires)"),
    ],
)
def test_in_words(left: int, expected: str) -> None:
    assert token_expiry.words(LAST, LAST - datetime.timedelta(left)) == expected


# --- In the service ---------------------------------------------------------------------------------------------


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    """A service whose token ends ten days from now."""
    made = World(tmp_path)
    auth = {"user": "robot@example.com", "token": {"file": str(tmp_path / "token")}}
    made.tables = {"jira": {"auth": auth | {"token_expires": last_day(made)}}}
    made.restart()
    yield made
    made.end()


def last_day(w: World) -> datetime.date:
    return token_expiry.today(w.clock.time) + datetime.timedelta(10)


def told(w: World) -> list[dict[str, Any]]:
    with capture_logs() as lines:
        token_reminder.remind(w.runtime)
    return [dict(line) for line in lines]


def test_it_is_told_once_also_across_restarts(w: World) -> None:
    (line,) = told(w)
    assert (line["event"], line["log_level"]) == ("token.expiring", "warning")
    assert "expires in 10 days" in line["reason"]
    assert "jira.auth.token_expires" in line["remedy"]

    w.restart()
    assert told(w) == []
    w.clock.advance(3 * 86_400)
    assert len(told(w)) == 1
    w.clock.advance(9 * 86_400)
    (line,) = told(w)
    assert line["event"] == "token.expired"


def test_without_a_last_day_nothing_is_told(w: World) -> None:
    w.tables = {}
    w.restart()

    assert told(w) == []


def test_a_full_disk_neither_ends_the_service_nor_fills_the_log(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "transaction", full)
        assert told(w) == told(w) == []

    assert len(told(w)) == 1


def test_status_says_it_in_one_line(w: World) -> None:
    found = status.collect(w.runtime.config, w.home / "state", w.runtime.journal, w.clock.time)
    lines = status_text.lines(found, w.clock.time)

    assert found["token_expires"] == str(last_day(w))
    assert [line for line in lines if line.startswith("token ")] == [
        f"token      the token expires in 10 days ({last_day(w)})"
    ]


@pytest.mark.parametrize(("left", "result"), [(31, "ok"), (30, "warning"), (-1, "warning")])
def test_check_says_it(w: World, left: int, result: str) -> None:
    found: Sequence[check.Finding] = list(
        check._token_expires(w.runtime.config, last_day(w) - datetime.timedelta(left))
    )

    assert [(finding.what, finding.result) for finding in found] == [("jira.auth.token_expires", result)]
    assert bool(found[0].remedy) == (result == "warning")
