"""Folders within folders: how deep they may lie, what is said of deeper ones, and what their files are called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from attachd.intake import files as intake_files
from attachd.journal import counts
from attachd.model import State
from attachd.report import status
from attachd.report.why import TooDeep
from intake.test_gates import told
from memory_jira import World, world
from report.test_why_lookup import one

REASON = "it lies deeper than 32 folders; move what is in it directly into the issue's folder"


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def nested(levels: int, name: str = "d") -> str:
    """A path of so many folders in that of an issue."""
    return "/".join(["TEST-1", *[name] * levels])


def unrouted(w: World) -> dict[str, int]:
    return {each.folder.decode(): each.files for each in counts.unrouted(w.runtime.journal) if each.reason == REASON}


def make(w: World, folder: str, *names: str) -> None:
    """Make a folder, however long its path is, with files in it."""
    here = os.open(w.inbox, os.O_RDONLY)
    for part in folder.split("/"):
        if not os.path.isdir(f"/proc/self/fd/{here}/{part}"):
            os.mkdir(part, dir_fd=here)
        below = os.open(part, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=here))
    os.close(here)


def test_the_deepest_folder_that_is_taken_and_the_one_below_it(w: World) -> None:
    w.drop(f"{nested(32)}/in.txt")
    w.drop(f"{nested(33)}/out.txt")
    w.deliver()

    assert w.states() == ["DONE"]
    assert unrouted(w) == {nested(33): 1}
    assert told(w, f"{nested(33)}/out.txt").sentence.endswith(
        "is ignored, because it is deeper than 32 folders. Move it directly into the issue folder."
    )
    assert one(w, f"inbox/{nested(33)}") == TooDeep(32)
    assert one(w, f"inbox/{nested(40)}/x") != TooDeep(32)  # nothing lies there


@pytest.mark.parametrize(("levels", "files"), [(34, 2), (50, 2), (66, 1), (100, 1)])
def test_what_lies_deeper_still_is_counted_or_known_to_be_there(w: World, levels: int, files: int) -> None:
    make(w, nested(levels), "a.txt", "b.txt")
    w.scan()

    assert unrouted(w) == {nested(33): files}


def test_an_empty_folder_deep_down_and_litter_there_are_no_trouble(w: World) -> None:
    make(w, nested(40), ".DS_Store")
    w.drop("TEST-1/x.txt")
    w.deliver()

    assert unrouted(w) == {}
    assert w.states() == ["DONE"]


def test_it_is_said_in_status_and_once_in_the_log(w: World, capsys: pytest.CaptureFixture[str]) -> None:
    w.drop(f"{nested(33)}/out.txt")
    for _ in range(3):
        w.clock.advance(60.0)
        w.scan()

    lines = [line for line in capsys.readouterr().out.splitlines() if "folder.not_routed" in line]
    found = status.collect(w.runtime.config, w.home / "state", w.runtime.journal, w.clock.now(), look=False)
    assert len(lines) == 1
    assert REASON in lines[0]
    assert [(each["folder"], each["reason"]) for each in found["unrouted"]] == [(nested(33), REASON)]


def test_it_is_said_until_the_files_are_moved(w: World) -> None:
    out = w.drop(f"{nested(33)}/out.txt")
    w.scan()
    w.scanner.scan({b"TEST-1"})
    assert unrouted(w) == {nested(33): 1}
    out.rename(w.inbox / "TEST-1/out.txt")
    w.deliver()

    assert unrouted(w) == {}
    assert w.states() == ["DONE"]


def test_files_that_are_not_too_deep_are_withdrawn_and_filed_as_ever(w: World) -> None:
    w.drop(f"{nested(33)}/out.txt")
    gone = w.drop("TEST-1/gone.txt")
    w.scan()
    gone.unlink()
    for _ in range(3):
        w.clock.advance(60.0)
        w.scan()

    assert {row.state for row in w.rows()} <= {State.WITHDRAWN}


def test_many_such_folders_are_named_in_part_and_counted_in_full(w: World) -> None:
    for number in range(intake_files.MOST_NAMED + 5):
        make(w, f"{nested(32)}/{number}", "x")
    w.scan()

    assert len(unrouted(w)) == intake_files.MOST_NAMED
    assert sum(unrouted(w).values()) == intake_files.MOST_NAMED + 5


def test_in_a_folder_of_no_issue_they_are_counted_with_the_others(w: World) -> None:
    make(w, "/".join(["no key", *["d"] * 40]), "a", "b")
    w.scan()

    assert [(each.folder, each.files) for each in counts.unrouted(w.runtime.journal)] == [(b"no key", 2)]


def test_a_folder_of_hundreds_of_levels_is_answered_for(w: World) -> None:
    make(w, nested(600), "a.txt")

    assert told(w, nested(600) + "/a.txt").sentence.endswith("Move it directly into the issue folder.")
    assert one(w, "inbox/TEST-1") == TooDeep(32)


def test_long_names_of_folders_do_not_cut_off_the_files_own(w: World) -> None:
    long = "/".join(["f" * 250] * 5)
    for name in ("one.pdf", "other.pdf"):
        make(w, f"TEST-1/{long}", name)
    w.deliver()

    names = w.jira.names("TEST-1")
    assert sorted(name.rpartition("-")[2] for name in names) == ["one.pdf", "other.pdf"]
    assert len(set(names)) == 2


def test_a_file_that_was_sent_keeps_the_name_it_was_sent_under(w: World) -> None:
    """Also that of a version which cut names otherwise."""
    make(w, "TEST-1/" + "/".join(["f" * 250] * 2), "x.pdf")
    w.scan()
    old = "f" * 236 + ".pdf"
    with w.runtime.journal.transaction() as connection:
        connection.execute("UPDATE file SET name = ?", (old,))
    w.deliver()

    assert w.jira.names("TEST-1") == [old]
    assert w.states() == ["DONE"]


@pytest.mark.parametrize("mtime", [-(2**61), -1, 0, 2**33 * 10**9, 2**62])
@pytest.mark.parametrize(
    "name",
    [
        b"x" * 255,
        b"\xff" * 255,
        b"a\nb\x1b[2J.txt",
        "invoice\u202efdp.exe".encode(),
        "\u0323".encode() * 127,
        b" ",
        b"-rf",
    ],
)
def test_whatever_a_file_is_called_and_whenever_it_was_changed_it_arrives_once(
    w: World, name: bytes, mtime: int
) -> None:
    w.drop(b"TEST-1/a/" + name, mtime_ns=mtime)
    for _ in range(3):
        w.deliver()

    assert w.states() == ["DONE"]
    assert len(w.jira.names("TEST-1")) == 1
    assert os.listdir(os.fsencode(w.home / "done/TEST-1/a")) == [name]
