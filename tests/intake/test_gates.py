"""Gates that only delay: sizes, ages, and the rules of single folders."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attachd import config, text
from attachd.config import Rulebook, Settle, schema
from attachd.intake import gates
from attachd.intake.gates import Blocked, Ready, Wait
from attachd.journal.admission import Moment
from attachd.model import State, Word
from attachd.report import status, why, why_lookup
from memory_jira import SITE, World, world
from report.test_why import row

NOW, BOOT = 1_800_000_000.0, 1000.0
MOMENT = Moment(NOW, BOOT, 7)
CLOSED = Settle(quiet_seconds=0.0, quiet_seconds_unproven=0.0, empty_seconds=0.0)


def judged(age: float, size: int = 5, unchanged: float = 0.0, *, returned: bool = False, **rules: Any) -> object:
    seen = row(State.SEEN, size=size, mtime_ns=int((NOW - age) * 1e9), quiet_boot=BOOT - unchanged)
    return gates.before_opening(seen, CLOSED.model_copy(update=rules), MOMENT, returned=returned)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (4, Blocked("it is smaller than min_bytes = 5")),
        (5, Ready()),
        (9, Ready()),
        (10, Blocked("it is larger than max_bytes = 9")),
    ],
)
def test_sizes(size: int, expected: object) -> None:
    assert judged(0.0, size, min_bytes=5, max_bytes=9) == expected


@pytest.mark.parametrize(
    ("age", "unchanged", "expected"),
    [
        (100.0, 0.0, Ready()),
        (40.0, 0.0, Wait(BOOT + 60.0, "it is younger than min_age_seconds = 100", over=True)),
        (40.0, 99.0, Wait(BOOT + 1.0, "it is younger than min_age_seconds = 100", over=True)),
        (-1e8, 100.0, Ready()),  # its time lies years ahead
        (-1e8, 0.0, Wait(BOOT + 100.0, "it is younger than min_age_seconds = 100", over=True)),
        (1001.0, 0.0, Blocked("it is older than max_age_seconds = 1000")),
    ],
)
def test_ages(age: float, unchanged: float, expected: object) -> None:
    assert judged(age, unchanged=unchanged, min_age_seconds=100.0, max_age_seconds=1000.0) == expected


def test_a_file_that_came_back_from_failed_is_not_too_old() -> None:
    assert judged(1001.0, max_age_seconds=1000.0, returned=True) == Ready()


def test_a_size_is_judged_when_the_file_is_quiet() -> None:
    """A file that is being written is not called too small."""
    assert judged(0.0, 0, min_bytes=1, quiet_seconds=2.0) == Wait(BOOT + 2.0)


# --- In the inbox -----------------------------------------------------------------------------------------------


def told(w: World, path: str) -> why.Answer:
    locator = why_lookup.Locator(w.runtime.config, w.runtime.journal)
    circumstances = why_lookup.circumstances(w.runtime.config, w.home / "state", w.runtime.journal, w.clock)
    ((_, found),) = locator.about(bytes(w.inbox / path), b"/")
    return why.explain(path, found, circumstances)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, settle={"min_bytes": 3, "max_bytes": 5}) as made:
        yield made


def test_a_file_of_the_wrong_size_is_blocked_until_it_changes(small: World) -> None:
    path = small.drop("TEST-1/a.txt", b"12")
    small.drop("TEST-1/b.txt", b"123456")
    small.deliver()
    assert small.states() == ["SEEN", "SEEN"]
    answer = told(small, "TEST-1/a.txt")
    assert answer.word is Word.BLOCKED
    since = text.clock(small.row("TEST-1/a.txt").since, small.clock.now())
    assert f"has been blocked since {since}: it is smaller than min_bytes = 3." in answer.sentence
    before = small.runtime.journal.value("SELECT total_changes()")
    small.scan()
    assert small.runtime.journal.value("SELECT total_changes()") == before
    path.write_bytes(b"123")
    small.deliver()

    assert (small.row("TEST-1/a.txt").state, small.row("TEST-1/b.txt").state) == ("DONE", "SEEN")
    assert small.files(small.failed) == {}


def test_a_limit_that_is_changed_lets_the_file_go(small: World) -> None:
    small.drop("TEST-1/a.txt", b"12")
    small.scan()
    small.tables = {"settle": {}}
    small.restart()
    small.deliver()

    assert small.states() == ["DONE"]


def test_a_young_file_waits_and_says_until_when(tmp_path: Path) -> None:
    with world(tmp_path, settle={"min_age_seconds": 60.0}) as w:
        w.drop("TEST-1/a.txt", mtime_ns=int(w.clock.time * 1e9))
        report = w.scan()
        assert report.settles == {b"TEST-1": w.clock.boot() + 60.0}
        assert ": it is younger than min_age_seconds = 60. It is sent to TEST-1 at " in told(w, "TEST-1/a.txt").sentence
        (waiting,) = status.collect(w.runtime.config, w.home, w.runtime.journal, w.clock.time)["waiting_for"]
        assert waiting["next"] == w.clock.time + 60.0
        w.clock.advance(60.0)
        w.deliver()

        assert w.states() == ["DONE"]


def test_an_old_file_is_blocked_but_not_when_it_comes_back_from_failed(tmp_path: Path) -> None:
    with world(tmp_path, settle={"max_age_seconds": 86_400.0}, fuse={"hold_minutes": 0.0}) as w:
        w.jira.limit = 1
        fresh = int((w.clock.time - 3600) * 1e9)
        w.drop("TEST-1/a.txt", mtime_ns=fresh)
        w.deliver()
        assert w.states() == ["FAILED"]
        w.clock.advance(86_400.0)
        w.drop("TEST-1/b.txt", mtime_ns=fresh)
        w.deliver()
        assert w.row("TEST-1/b.txt").blocked == "it is older than max_age_seconds = 86400"
        w.jira.limit = 1000
        (w.inbox / "TEST-1/b.txt").unlink()
        (w.failed / "TEST-1/a.txt").rename(w.inbox / "TEST-1/a.txt")
        w.clock.advance(100.0)
        w.deliver()

        assert w.row("TEST-1/a.txt").state is State.DONE


# --- Folders with rules of their own ----------------------------------------------------------------------------


def rulebook(*tables: dict[str, Any]) -> Rulebook:
    whole = {
        "folders": {"inbox": "/inbox"},
        "jira": {"url": SITE, "auth": {"kind": "anonymous"}},
        "settle": {"quiet_seconds": 1.0, "min_bytes": 1},
        "folder": list(tables),
    }
    return Rulebook(config.parse(whole, base=Path("/")))


@pytest.mark.parametrize(
    ("folder", "key", "quiet"),
    [
        (b"TEST-1", "TEST-1", 1.0),
        (b"LC-1", "LC-1", 2.0),
        (b"lc-1 printer", "LC-1", 2.0),
        (b"LC-12", "LC-12", 3.0),
        (b"Invoices", "LC-12", 3.0),
        ("Prüfstand".encode(), "X-1", 4.0),
        (b"\xff", "X-1", 1.0),
    ],
)
def test_the_longest_pattern_holds(folder: bytes, key: str, quiet: float) -> None:
    book = rulebook(
        {"match": "LC-*", "quiet_seconds": 2.0},
        {"match": "lc-1?", "quiet_seconds": 3.0},
        {"match": "LC-1*", "quiet_seconds": 2.0},
        {"match": "pru\u0308fstand", "quiet_seconds": 4.0},
    )

    assert book.of(folder, key).quiet_seconds == quiet


def test_of_equally_long_patterns_the_first_holds_and_the_rest_is_as_in_settle() -> None:
    book = rulebook({"match": "A-*", "ignore": []}, {"match": "A-?", "quiet_seconds": 9.0})

    assert book.of(b"A-1", "A-1") == Settle(quiet_seconds=1.0, min_bytes=1)


def test_a_folder_has_its_own_gates(tmp_path: Path) -> None:
    with world(tmp_path, folder=[{"match": "LC-*", "min_bytes": 10, "quiet_seconds": 5.0}]) as w:
        w.drop("LC-1/a.txt", b"x")
        w.drop("TEST-1/a.txt", b"x")
        began = w.clock.boot()
        assert w.scan().settles == {b"LC-1": began + 5.0}
        w.clock.advance(5.0)
        w.deliver()

        assert (w.row("LC-1/a.txt").blocked, w.row("TEST-1/a.txt").state) == (
            "it is smaller than min_bytes = 10",
            "DONE",
        )


def test_the_sample_shows_every_key_of_a_folder() -> None:
    sample = (Path(__file__).parents[2] / "sample-config.toml").read_text("utf-8")
    shown = tomllib.loads(re.sub(r'(?m)^# (?=\[|"?[A-Za-z_]+"? = )', "", sample))["folder"]

    assert set(shown[0]) == set(schema.Folder.model_fields)
