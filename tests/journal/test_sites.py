"""Another ``jira.url``: what was never stored goes along, what may have been waits for a person, and nothing ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx

from attachd.journal import sites
from attachd.model import State
from attachd.service import reminders
from memory_jira import SITE, Fault, World, world

OTHER = "https://jira.other.example.com"


def moved(w: World, url: str, **options: bool) -> None:
    base = {"user": "robot@example.com", "token": {"file": str(w.home / "token")}}
    w.tables = {**w.tables, "jira": {"url": url, "auth": base}}
    w.restart(**options)


def test_what_was_never_sent_goes_to_the_corrected_address(tmp_path: Path) -> None:
    with world(tmp_path, jira={"url": OTHER, "auth": {"kind": "anonymous"}}) as w:
        w.jira.faults = [Fault(breaks=httpx.ConnectError, early=True)] * 3
        for name in ("a", "b"):
            w.drop(f"TEST-1/{name}.txt", name.encode())
        w.drop("NOPE-1/c.txt")
        w.jira.missing.add("NOPE-1")
        w.deliver()
        assert {row.state for row in w.rows()} == {State.READY}
        w.jira.missing.clear()

        moved(w, SITE)
        w.deliver()

        assert w.jira.names("TEST-1") == ["a.txt", "b.txt"]
        assert w.jira.names("NOPE-1") == ["c.txt"]
        assert w.pauses() == set()
        assert w.unfinished() == []


def test_what_only_a_lost_journal_made_doubtful_goes_to_the_corrected_address(tmp_path: Path) -> None:
    """Nobody knows that anything of it was sent, least of all to the wrong address."""
    with world(tmp_path) as w:
        w.drop("TEST-1/sent.txt", b"sent")
        w.deliver()
        w.end()
        shutil.rmtree(w.home / "state")
        w.drop("TEST-1/suspect.txt", b"suspect")
        w.jira.faults = [Fault(breaks=httpx.ConnectError, early=True)] * 3
        moved(w, OTHER)
        w.deliver()
        assert [(row.state, row.site) for row in w.unfinished()] == [(State.DOUBTFUL, OTHER)]
        w.jira.faults.clear()

        moved(w, SITE)
        w.settle()

        assert w.jira.names("TEST-1") == ["sent.txt", "suspect.txt"]
        assert w.unfinished() == []


def doubted(w: World) -> None:
    """A file that may have arrived, and one that was never sent."""
    w.jira.faults = [Fault(commit="all", breaks=httpx.ReadError)]
    w.drop("TEST-1/doubted.txt", b"doubted")
    w.scan()
    w.step()
    w.step()
    assert [row.state for row in w.unfinished()] == [State.DOUBTFUL]
    w.drop("TEST-2/fresh.txt", b"fresh")


def test_what_may_have_arrived_waits_and_all_others_go(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        doubted(w)

        moved(w, OTHER)
        w.clock.advance(3600)
        w.deliver()

        assert w.row("TEST-2/fresh.txt").state is State.DONE
        waits = w.row("TEST-1/doubted.txt")
        assert (waits.state, waits.site) == (State.DOUBTFUL, SITE)
        assert w.jira.names("TEST-1") == ["doubted.txt"]
        with w.runtime.journal.transaction_for_reading() as connection:
            (told,) = sites.elsewhere(connection, OTHER)
        assert (told.site, told.files) == (SITE, 1)


def test_a_person_who_says_that_both_are_one_site_has_it_looked_up_there(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        doubted(w)
        moved(w, OTHER)
        w.clock.advance(3600)
        with w.runtime.journal.transaction() as connection:
            assert sites.adopt_site(connection, OTHER) == 1
        w.settle()

        assert w.row("TEST-1/doubted.txt").state is State.DONE
        assert w.jira.names("TEST-1") == ["doubted.txt"]


def test_the_start_takes_that_word_too(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        doubted(w)

        moved(w, OTHER, adopt_site=True)
        w.settle()

        assert w.jira.names("TEST-1") == ["doubted.txt"]
        assert w.unfinished() == []


def test_back_at_the_first_address_it_is_looked_up_there(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        doubted(w)
        moved(w, OTHER)
        w.deliver()

        moved(w, SITE)
        w.settle()

        assert w.jira.names("TEST-1") == ["doubted.txt"]
        assert w.unfinished() == []


def test_nobody_s_word_for_a_day_gives_it_up_with_a_note(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        doubted(w)
        moved(w, OTHER)
        w.clock.advance(w.runtime.config.doubt.give_up_hours * 3600 + 60)
        reminders.give_up(w.runtime)
        w.work()

        row = w.row("TEST-1/doubted.txt")
        assert (row.state, bool(row.may_be_attached)) == (State.FAILED, True)
        assert SITE in (row.reason or "")
        assert w.files(w.failed)["TEST-1/doubted.txt"] == b"doubted"


def test_two_sites_that_gave_one_id_can_be_adopted(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.drop("TEST-1/first.txt", b"first")
        w.deliver()
        doubted(w)
        moved(w, OTHER)
        w.jira.stored.clear()
        w.jira._ids = iter(range(10_001, 10_100))  # type: ignore[assignment]
        w.deliver()
        with w.runtime.journal.transaction() as connection:
            sites.adopt_site(connection, OTHER)

        assert {row.site for row in w.unfinished()} == {OTHER}
