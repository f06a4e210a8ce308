"""What one answer says is asked for a second time before it lasts, and again after a day; a person can undo it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from attachd.delivery import probe, site
from attachd.journal import by_hand, moved_issues
from memory_jira import ACCOUNT, Fault, World, world

DAY = 86_400.0


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def wrongly(w: World, ending: str, body: Any, *, times: int = 1) -> None:
    """The next *times* questions of an address are answered from somebody else's cache."""
    usual, left = w.jira._answer, [times]

    def answer(request: httpx.Request, path: str) -> httpx.Response:
        if path.endswith(ending) and left[0]:
            left[0] -= 1
            return w.jira._reply(200, body)
        return usual(request, path)

    w.jira._answer = answer  # type: ignore[method-assign]


def asked(w: World, ending: str) -> int:
    return sum(path.endswith(ending) for _, path in w.jira.requests)


# --- Limits ---------------------------------------------------------------------------------------------------------


def test_a_limit_that_one_answer_names_refuses_nothing(w: World) -> None:
    wrongly(w, "/attachment/meta", {"enabled": True, "uploadLimit": 3})
    w.drop("TEST-1/log.txt", b"bytes")

    w.settle(hours=1)

    assert w.files(w.done) == {"TEST-1/log.txt": b"bytes"}


def test_attachments_that_one_answer_calls_disabled_hold_nothing_up(w: World) -> None:
    wrongly(w, "/attachment/meta", {"enabled": False})
    w.drop("TEST-1/log.txt", b"bytes")

    w.deliver()

    assert w.files(w.done) == {"TEST-1/log.txt": b"bytes"}


def test_a_limit_that_is_named_twice_is_believed_and_asked_for_again(w: World) -> None:
    w.jira.limit = 3
    w.drop("TEST-1/log.txt", b"bytes")
    w.deliver()
    assert "this Jira allows 3" in (w.row("TEST-1/log.txt").reason or "")
    w.jira.limit = 10

    w.clock.advance(site.LIMITS_SECONDS + 1)
    w.drop("TEST-1/other.txt", b"bytes")
    w.deliver()

    assert w.files(w.done) == {"TEST-1/other.txt": b"bytes"}


def test_limits_are_asked_for_again_after_a_day(w: World) -> None:
    w.drop("TEST-1/log.txt")
    w.deliver()
    before = asked(w, "/attachment/meta")
    w.clock.advance(DAY + 1)

    w.drop("TEST-1/other.txt")
    w.deliver()

    assert asked(w, "/attachment/meta") == before + 1


# --- Who we are, and what the site is -------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1])
def test_an_account_that_one_answer_names_is_not_ours(w: World, before: int) -> None:
    """Under a wrong one what was stored would not be found, and sent again."""
    if before:
        wrongly(w, "/serverInfo", {"deploymentType": "Cloud", "version": "x"})
    wrongly(w, "/myself", {"accountId": "712020:somebody"})
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))

    w.settle(hours=1)

    assert [stored.content for stored in w.jira.stored] == [b"bytes"]
    assert w.rows()[0].author == ACCOUNT


def test_an_account_that_jira_does_not_sign_our_files_with_is_asked_for_again(w: World) -> None:
    wrongly(w, "/myself", {"accountId": "712020:somebody"}, times=2)
    w.drop("TEST-1/first.txt", b"first")
    w.deliver()
    w.drop("TEST-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))

    w.settle(hours=1)

    assert sorted(stored.content for stored in w.jira.stored) == [b"bytes", b"first"]
    assert w.row("TEST-1/log.txt").author == ACCOUNT


@pytest.mark.parametrize("kind", ["Server", "Cloud"])
def test_an_api_that_one_answer_names_is_not_spoken(tmp_path: Path, kind: str) -> None:
    with world(tmp_path, deployment={"Server": "Cloud", "Cloud": "Server"}[kind]) as w:
        wrongly(w, "/serverInfo", {"deploymentType": kind, "version": "x"})
        w.drop("TEST-1/log.txt")

        w.settle(hours=1)

        assert w.runtime.site.version == ("2" if kind == "Cloud" else "3")
        assert len(w.jira.stored) == 1


def test_the_site_is_met_again_after_a_day(w: World) -> None:
    w.drop("TEST-1/log.txt")
    w.deliver()
    before = asked(w, "/myself")
    w.clock.advance(DAY + 1)

    w.drop("TEST-1/other.txt")
    w.deliver()

    assert asked(w, "/myself") > before


# --- What requests may hold, and witnesses --------------------------------------------------------------------------


def test_what_a_site_declined_once_is_tried_again_after_a_day(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.drop("TEST-1/b.txt")
    w.jira.faults.append(Fault(status=413, body=b"<html>", shared=True))
    w.settle(hours=1)
    assert w.runtime.journal.value("SELECT value FROM meta WHERE key = 'batch.bytes'") is not None

    w.clock.advance(DAY + 1)
    w.drop("TEST-1/c.txt")
    w.settle(hours=1)

    assert w.runtime.journal.value("SELECT value FROM meta WHERE key = 'batch.bytes'") is None


def test_a_witness_that_could_not_be_seen_once_is_asked_again_after_a_day(w: World) -> None:
    w.drop("TEST-1/log.txt")
    w.deliver()
    probe.strike(w.runtime, ["TEST-1"])
    assert probe.known(w.runtime) == []

    w.clock.advance(DAY + 1)

    assert probe.known(w.runtime) == ["TEST-1"]


# --- What a person undoes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["OLD-1", "NEW-5"])
def test_resume_forgets_that_an_issue_was_moved(w: World, key: str) -> None:
    with w.runtime.journal.transaction() as connection:
        moved_issues.merge_issue(connection, "OLD-1", "NEW-5", "77", w.clock.now())
    w.drop("OLD-1/log.txt")
    w.scan()
    assert w.rows()[0].issue == "NEW-5"

    with w.runtime.journal.transaction() as connection:
        done = by_hand.resume(connection, moved_issues.issue_of(connection, key), w.clock.now())

    assert done.forgotten == ("OLD-1",)
    assert w.rows()[0].issue == "OLD-1"


def test_what_is_in_doubt_under_the_other_key_is_looked_for_there(w: World) -> None:
    w.drop("OLD-1/log.txt", b"bytes")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    with w.runtime.journal.transaction() as connection:
        moved_issues.merge_issue(connection, "OLD-1", "NEW-5", w.jira.number("NEW-5"), w.clock.now() + 1)
    w.jira.moved["OLD-1"] = "NEW-5"
    w.deliver()
    w.jira.moved.clear()

    with w.runtime.journal.transaction() as connection:
        by_hand.resume(connection, "NEW-5", w.clock.now())
    w.settle(hours=1)

    assert [(stored.issue, stored.content) for stored in w.jira.stored] == [("NEW-5", b"bytes")]


# --- The proof itself -----------------------------------------------------------------------------------------------


def said(key: str, number: str) -> Callable[[World], None]:
    return lambda w: wrongly(w, f"/issue/{key}", {"id": number, "key": key, "fields": {}}, times=99)


@pytest.mark.parametrize(
    "spoil",
    [
        said("NEW-5", "1"),  # the new key leads to another number
        lambda w: wrongly(w, "/issue/NEW-5", {"id": w.jira.number("NEW-5"), "key": "NEW-6", "fields": {}}, times=99),
        lambda w: w.jira.missing.add("NEW-5"),
    ],
    ids=["number", "key", "unseen"],
)
def test_two_keys_are_one_issue_only_if_both_lead_to_it(w: World, spoil: Callable[[World], None]) -> None:
    w.jira.moved["OLD-1"] = "NEW-5"
    answer = {"id": w.jira.number("NEW-5"), "key": "NEW-5", "fields": {"attachment": []}}
    wrongly(w, "/issue/OLD-1", answer, times=99)
    w.drop("OLD-1/log.txt")
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout))
    w.deliver()
    spoil(w)

    for _ in range(5):
        w.clock.advance(31.0)
        w.deliver()

    assert w.rows()[0].issue == "OLD-1"
    assert os.fsencode("OLD-1/log.txt") == w.rows()[0].path


def test_the_site_is_well_met_where_all_answers_agree(w: World) -> None:
    assert probe.introduce(w.runtime, w.client) is None

    assert (w.runtime.site.version, w.runtime.site.author, w.runtime.site.introduced) == ("3", ACCOUNT, True)
