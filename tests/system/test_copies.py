"""`backup` and `restore`, as they are installed: what was attached since a copy was made is not attached again."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from pathlib import Path

import pytest

from installation import Jira, Place
from waiting import wait_until

LOOKS = "[doubt]\nlooks_seconds = [0.1, 0.2]"


@pytest.fixture
def copied(place: Place, jira: Jira) -> Path:
    """A place on which one file was attached and two wait, paused, with a copy of that moment."""
    place.configure(jira.url, LOOKS)
    place.drop("TEST-1/before.txt", b"before")
    assert place.run("once").returncode == 0
    assert place.run("pause").returncode == 0
    place.drop("TEST-1/known.txt", b"known")
    place.drop("TEST-2/other.txt", b"other")
    assert place.run("once").returncode == 4
    target = place.home / "copy.db"
    assert place.run("backup", target).returncode == 0
    assert place.run("resume").returncode == 0
    return target


def names(jira: Jira) -> list[str]:
    return sorted(each["filename"] for each in jira.attachments())


def test_what_was_attached_since_the_copy_was_made_is_found_and_not_attached_again(
    place: Place, jira: Jira, copied: Path
) -> None:
    snapshot = place.home / "snapshot"
    subprocess.run(["cp", "-a", place.inbox, snapshot], check=True)
    place.drop("TEST-1/later.txt", b"later")
    subprocess.run(["cp", "-a", place.inbox / "TEST-1" / "later.txt", snapshot / "TEST-1"], check=True)
    assert place.run("once").returncode == 0
    assert names(jira) == ["before.txt", "known.txt", "later.txt", "other.txt"]

    subprocess.run(["rm", "-r", place.inbox], check=True)
    snapshot.rename(place.inbox)
    restored = place.run("restore", copied)
    assert place.run("resume").returncode == 0
    place.drop("TEST-1/new.txt", b"new")
    ended = place.run("once")

    assert "Restored: 2 unfinished files" in restored.stdout, restored.stderr
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert names(jira) == ["before.txt", "known.txt", "later.txt", "new.txt", "other.txt"]
    assert sorted(place.files(place.inbox)) == []


def test_what_was_not_attached_since_is_sent_once(place: Place, jira: Jira, copied: Path) -> None:
    assert place.run("restore", copied).returncode == 0

    assert place.run("resume").returncode == 0
    assert place.run("once").returncode == 0
    assert names(jira) == ["before.txt", "known.txt", "other.txt"]
    assert sorted(place.files(place.done)) == [b"TEST-1/before.txt", b"TEST-1/known.txt", b"TEST-2/other.txt"]


def test_a_copy_is_whole_while_the_service_works_private_and_replaces_nothing(
    place: Place, jira: Jira, tmp_path: Path
) -> None:
    place.drop("TEST-1/a.txt", b"a")
    with place.start(stderr=subprocess.DEVNULL) as daemon:
        wait_until(lambda: names(jira) == ["a.txt"])
        target = tmp_path / "copy.db"
        made = place.run("backup", target)
        again = place.run("backup", target)
        missing = place.run("backup", tmp_path / "no" / "folder")
        daemon.terminate()
        assert daemon.wait(30) == 0

    assert made.returncode == 0, made.stderr
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []
    with sqlite3.connect(target) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()
    assert (again.returncode, missing.returncode) == (1, 1)
    assert "is there already" in again.stderr
    assert "cannot be written" in missing.stderr


def test_nothing_is_restored_under_a_running_service(place: Place, jira: Jira, copied: Path) -> None:
    with place.start(stderr=subprocess.DEVNULL) as daemon:
        wait_until(lambda: "running" in place.run("status").stdout.splitlines()[0])
        refused = place.run("restore", copied)
        daemon.terminate()
        assert daemon.wait(30) == 0

    assert refused.returncode == 75
    assert "is held by process" in refused.stderr


@pytest.mark.parametrize("damage", ["no journal", "cut short", "overwritten", "of a later version", "missing"])
def test_what_is_no_whole_journal_is_refused_and_the_present_one_stays(
    place: Place, jira: Jira, copied: Path, damage: str
) -> None:
    match damage:
        case "no journal":
            copied.write_bytes(b"hello\n" * 1000)
        case "cut short":
            os.truncate(copied, copied.stat().st_size // 2)
        case "overwritten":
            with copied.open("r+b") as file:
                file.seek(copied.stat().st_size // 2)
                file.write(b"\xff" * 8192)
        case "of a later version":
            with sqlite3.connect(copied) as copy:
                copy.execute("PRAGMA user_version = 99")
            copy.close()
        case "missing":
            copied.unlink()

    refused = place.run("restore", copied)

    assert refused.returncode in (1, 78)
    assert str(copied.name) in refused.stderr or "version 99" in refused.stderr
    assert place.run("once").returncode == 0
    assert names(jira) == ["before.txt", "known.txt", "other.txt"]
    assert not [name for name in os.listdir(place.state) if "restor" in name]


def test_the_journal_that_was_there_is_kept(place: Place, jira: Jira, copied: Path) -> None:
    for number in ("", "-2"):
        restored = place.run("restore", copied)
        assert restored.returncode == 0, restored.stderr
        assert f"journal.db.before-restore{number}." in restored.stdout
    assert (place.state / "journal.db.before-restore-2").exists()
