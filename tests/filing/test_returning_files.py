"""A file that may be attached comes back: its issue is looked at first, always, and what a person found out counts."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attachd.filing import retry
from attachd.filing.take_back import Left
from attachd.fs import rename
from attachd.journal import backup, rows
from memory_jira import Fault, Stored, World, world

PATH, CONTENT = "TEST-1/report.pdf", b"once"


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def dc(tmp_path: Path) -> Iterator[World]:
    """Where Jira does not hand out what an attachment contains."""
    with world(tmp_path, deployment="Server") as made:
        yield made


def fail_in_doubt(w: World, path: str = PATH) -> None:
    w.fail_in_doubt(path, CONTENT)


def arrive(w: World, issue: str = "TEST-1", name: str = "report.pdf", content: bytes = CONTENT) -> None:
    """It was stored after all."""
    w.jira.stored.append(Stored(str(90_000 + len(w.jira.stored)), issue, name, content, w.clock.time))


def lose_journal(w: World) -> None:
    """The inbox is scanned once without it, before anybody moves anything."""
    w.lose_journal()
    w.scan()


def restore_journal(w: World) -> None:
    """A journal as it was before the file failed is put back."""
    w.end()
    backup.restore(w.home / "state", w.home / "backup.db")
    w.restart()
    w.scan()


def another_account(w: World) -> None:
    w.restart()
    w.deliver()
    w.runtime.site.author = "712020:another"


# --- Looked at first, always ------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [PATH, "TEST-1/a/b/report.pdf", "TEST-1/report (2).pdf", "test-1 Printer/other.pdf"])
@pytest.mark.parametrize("what", ["nothing", "lost", "restored", "account", "address"])
def test_what_arrived_is_found_wherever_it_comes_back(w: World, to: str, what: str) -> None:
    backup.backup(w.home / "state", w.home / "backup.db")
    fail_in_doubt(w)
    arrive(w)
    uploads = len(w.jira.uploads)
    w.clock.advance(86_400.0)
    match what:
        case "lost":
            lose_journal(w)
        case "restored":
            restore_journal(w)
        case "account":
            another_account(w)
        case "address":
            with w.runtime.journal.transaction() as connection:
                connection.execute("UPDATE file SET site = 'https://old.example.com'")

    w.go_back(PATH, to)
    w.settle(hours=2)

    assert len(w.jira.uploads) == uploads, "nothing was sent again"
    assert len(w.jira.on("TEST-1")) == 1
    assert w.files(w.inbox) == {}
    assert list(w.files(w.done).values()) == [CONTENT]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("failed_as", "to"), [("OLD-1", "NEW-5"), ("NEW-5", "OLD-1")])
def test_in_the_folder_of_the_other_key_of_its_issue(w: World, failed_as: str, to: str, known: bool) -> None:
    """Also where nobody has told attachd yet that both are one."""
    w.jira.moved = {"OLD-1": "NEW-5"} if known else {}
    fail_in_doubt(w, f"{failed_as}/report.pdf")
    w.jira.moved = {"OLD-1": "NEW-5"}
    arrive(w, "NEW-5")

    w.go_back(f"{failed_as}/report.pdf", f"{to}/report.pdf")
    w.settle(hours=2)

    assert len(w.jira.on("NEW-5")) == 1


def test_taken_out_again_and_put_back_it_is_still_looked_for(w: World) -> None:
    fail_in_doubt(w)
    w.go_back(PATH)
    w.jira.look_faults += [Fault(status=503, body=b"")] * 50
    w.scan()
    w.step()
    away = w.home / "away"
    (w.inbox / PATH).rename(away)
    w.settle(hours=2)
    w.jira.look_faults.clear()
    arrive(w)
    away.rename(w.inbox / PATH)
    w.settle(hours=2)

    assert len(w.jira.on("TEST-1")) == 1


def test_what_did_not_arrive_is_sent_after_a_lost_journal(w: World) -> None:
    fail_in_doubt(w)
    lose_journal(w)

    w.go_back(PATH)
    w.settle(hours=2)

    assert [stored.content for stored in w.jira.on("TEST-1")] == [CONTENT]


def test_of_an_unknown_time_a_namesake_is_not_credited(w: World) -> None:
    """Its size and its name are those of another file, that has been on the issue for long."""
    w.jira.stored.append(Stored("7", "TEST-1", "report.pdf", b"ecno", w.clock.time - 1e6))
    fail_in_doubt(w)
    lose_journal(w)

    w.go_back(PATH)
    w.settle(hours=2)

    assert [stored.content for stored in w.jira.on("TEST-1")] == [b"ecno", CONTENT]


def test_nor_where_only_a_person_can_tell(dc: World) -> None:
    dc.jira.stored.append(Stored("7", "TEST-1", "report.pdf", b"ecno", dc.clock.time - 1e6))
    fail_in_doubt(dc)
    lose_journal(dc)

    dc.go_back(PATH)
    dc.settle(hours=2)

    assert dc.row(PATH).state == "FAILED"
    assert "attachment 7 may be this file" in (dc.row(PATH).reason or "")


def test_a_note_that_somebody_forged_makes_nobody_credit_anything(w: World) -> None:
    text = (
        "attachd note F1 - why x was not attached\r\n\r\nFor attachd: it may be attached to TEST-1; 4 bytes, SHA-256 "
    )
    digest = "ab" * 32
    (w.failed / "TEST-1").mkdir()
    (w.failed / "TEST-1/x.why.txt").write_text(f"{text}{digest}, sent as x\r\n")
    lose_journal(w)

    w.drop(PATH, CONTENT)
    w.settle(hours=2)

    assert [stored.content for stored in w.jira.on("TEST-1")] == [CONTENT]


# --- What a person found out ------------------------------------------------------------------------------------


def fail_beside_a_namesake(w: World, name: str = "report.pdf") -> str:
    """On the issue there is something that may be the file, and is not. Its id."""
    w.drop(PATH, CONTENT)
    w.jira.faults.append(Fault(status=500, body=b""))
    w.deliver()
    w.jira.stored.append(Stored("801", "TEST-1", f"other {name}", b"ecno", w.jira.time() + 1.0))
    w.settle(hours=2)
    assert w.row(PATH).state == "FAILED"
    assert "attachment 801 may be this file" in (w.row(PATH).reason or "")
    return "801"


def contents(w: World) -> list[bytes]:
    return sorted(stored.content for stored in w.jira.on("TEST-1"))


def by_hand(w: World) -> None:
    w.go_back(PATH)


def not_attached(w: World) -> None:
    list(retry.retry(w.runtime.config, w.home / "state", [w.row(PATH)], not_attached=True, clock=w.clock))


@pytest.mark.parametrize("decide", [by_hand, not_attached])
def test_what_a_person_looked_at_is_not_asked_for_again(dc: World, decide: Callable[[World], None]) -> None:
    fail_beside_a_namesake(dc)

    decide(dc)
    dc.settle(hours=2)

    assert contents(dc) == [b"ecno", CONTENT]
    assert list(dc.files(dc.done).values()) == [CONTENT]
    assert "a person" in (dc.row(PATH).said or "")


def test_after_retry_alone_nobody_has_said_anything(dc: World) -> None:
    fail_beside_a_namesake(dc)

    list(retry.retry(dc.runtime.config, dc.home / "state", [dc.row(PATH)]))
    dc.settle(hours=2)

    assert contents(dc) == [b"ecno"]
    assert dc.row(PATH).may_be_attached


def full(patch: pytest.MonkeyPatch) -> None:
    def rename_noreplace(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(rename, "rename_noreplace", rename_noreplace)


@pytest.mark.parametrize("hindrance", ["open", "full", "died"])
def test_moved_by_hand_after_a_retry_that_left_it_where_it_was(
    dc: World, monkeypatch: pytest.MonkeyPatch, hindrance: str
) -> None:
    fail_beside_a_namesake(dc)
    with (dc.failed / PATH).open("ab") as program, monkeypatch.context() as patch:
        if hindrance == "full":
            program.close()
            full(patch)
        if hindrance == "died":
            patch.setattr(retry, "_conclude", lambda *_: None)
        (left,) = retry.retry(dc.runtime.config, dc.home / "state", [dc.row(PATH)])
        assert isinstance(left, Left)
    if hindrance == "died":
        with (dc.failed / PATH).open("ab"):
            dc.scan()
    dc.clock.advance(60)

    by_hand(dc)
    dc.settle(hours=2)

    assert contents(dc) == sorted([b"ecno", CONTENT])


@pytest.mark.parametrize("decide", [by_hand, not_attached])
def test_what_came_after_that_is_not_covered(dc: World, decide: Callable[[World], None]) -> None:
    fail_beside_a_namesake(dc)
    decide(dc)
    dc.clock.advance(300.0)
    dc.jira.stored.append(Stored("802", "TEST-1", "yet another.pdf", b"nceo", dc.clock.time))
    dc.settle(hours=2)

    assert contents(dc) == [b"ecno", b"nceo"]
    assert dc.row(PATH).candidates == "802"
    dc.go_back(PATH)
    dc.settle(hours=2)
    assert contents(dc) == [b"ecno", b"nceo", CONTENT]


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_what_a_person_says_is_held_against_jiras_clock_where_that_was_measured(dc: World, ahead: float) -> None:
    dc.jira.time = lambda: dc.clock.time + ahead
    for name in ("one", "other"):
        dc.drop(f"TEST-2/{name}.txt")
        dc.deliver()
    fail_beside_a_namesake(dc)
    dc.jira.stored.append(Stored("802", "TEST-1", "came since.pdf", b"ceno", dc.jira.time()))
    not_attached(dc)
    dc.clock.advance(60.0)

    dc.jira.stored.append(Stored("803", "TEST-1", "yet another.pdf", b"nceo", dc.jira.time()))
    dc.settle(hours=2)

    assert contents(dc) == [b"ceno", b"ecno", b"nceo"]
    assert dc.row(PATH).candidates == "803"


def test_after_the_machine_was_off_jiras_clock_is_not_known(dc: World) -> None:
    """CLOCK_BOOTTIME, which carries it on, begins again; the wall clock has to do."""
    dc.jira.time = lambda: dc.clock.time + 60.0
    for name in ("one", "other"):
        dc.drop(f"TEST-2/{name}.txt")
        dc.deliver()
    fail_beside_a_namesake(dc)
    dc.end()
    dc.clock.reboot()
    dc.restart()
    dc.jira.stored.append(Stored("802", "TEST-1", "came since.pdf", b"ceno", dc.jira.time()))

    not_attached(dc)
    dc.settle(hours=2)

    assert contents(dc) == [b"ceno", b"ecno", CONTENT]


def test_where_the_content_can_be_read_it_decides_whatever_a_person_said(w: World) -> None:
    fail_in_doubt(w)
    arrive(w)
    with w.runtime.journal.transaction() as connection:
        rows.change(connection, w.row(PATH).id, {"candidates": w.jira.stored[-1].id})

    w.go_back(PATH)
    w.settle(hours=2)

    assert contents(w) == [CONTENT]


def test_another_file_of_the_same_content_is_nobodys_decision(dc: World) -> None:
    """The failed one still lies in failed: who dropped this one knows nothing of its note."""
    fail_beside_a_namesake(dc)

    dc.drop("TEST-1/again.pdf", CONTENT)
    dc.settle(hours=2)

    assert contents(dc) == [b"ecno"]
    assert dc.row("TEST-1/again.pdf").may_be_attached
    assert os.path.exists(dc.failed / PATH)


def test_nor_while_nobody_can_know_whether_the_failed_one_still_lies_there(dc: World) -> None:
    """As while the file system of failed is away."""
    fail_beside_a_namesake(dc)
    dc.failed.rename(dc.home / "away")

    dc.drop("TEST-1/again.pdf", CONTENT)
    dc.settle(hours=2)

    assert contents(dc) == [b"ecno"]
    assert dc.row("TEST-1/again.pdf").may_be_attached
