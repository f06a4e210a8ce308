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

LOOKS = "[doubt]\nlooks_seconds = [0.1, 0.2]\n[upload]\nreply_seconds = 1.0"


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


def asked(path: Path, *queries: str) -> list[tuple[object, ...]]:
    """Ask a database that nobody uses; the last query's rows."""
    found: list[tuple[object, ...]] = []
    connection = sqlite3.connect(path)
    with connection:
        for query in queries:
            found = connection.execute(query).fetchall()
    connection.close()
    return found


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

    assert "with 2 unfinished files" in restored.stdout, restored.stderr
    ids = [row[0] for row in asked(place.state / "journal.db", "SELECT id FROM file ORDER BY id")]
    assert (len(ids), ids[-2] > 4) == (5, True), "no id is given twice"
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


def test_the_journal_of_another_inbox_is_refused(place: Place, copied: Path) -> None:
    asked(copied, "UPDATE meta SET value = 'another' WHERE key = 'inbox'")

    refused = place.run("restore", copied)

    assert refused.returncode == 1
    assert "is the journal of another inbox, not of" in refused.stderr
    assert sorted(path.name for path in place.state.iterdir() if path.name.startswith("journal")) == ["journal.db"]
    (place.inbox / ".attachd").rename(place.home / "marker")
    assert place.run("restore", copied).returncode == 0


def test_nothing_is_restored_under_a_running_service(place: Place, jira: Jira, copied: Path) -> None:
    with place.start(stderr=subprocess.DEVNULL) as daemon:
        wait_until(lambda: place.run("status").stdout.startswith("attachd    running"))
        refused = place.run("restore", copied)
        daemon.terminate()
        assert daemon.wait(30) == 0

    assert refused.returncode == 75
    assert "another attachd (process" in refused.stderr


def test_what_is_no_whole_journal_is_refused_and_the_present_one_stays(
    place: Place, jira: Jira, copied: Path, tmp_path: Path
) -> None:
    bad = {name: tmp_path / name for name in ("none", "cut", "overwritten", "later", "foreign", "missing")}
    for path in bad.values():
        path.write_bytes(copied.read_bytes())
    bad["none"].write_bytes(b"hello\n" * 1000)
    os.truncate(bad["cut"], copied.stat().st_size // 2)
    with bad["overwritten"].open("r+b") as file:
        file.seek(copied.stat().st_size // 2)
        file.write(b"\xff" * 8192)
    asked(bad["later"], "PRAGMA user_version = 99")
    bad["foreign"].unlink()
    asked(bad["foreign"], "CREATE TABLE a (b)", "PRAGMA user_version = 5")
    bad["missing"].unlink()
    before = sorted(os.listdir(place.state))

    for path in bad.values():
        refused = place.run("restore", path)
        assert refused.returncode in (1, 78)
        assert refused.stderr.startswith("attachd: "), refused.stderr
        assert "Traceback" not in refused.stderr

    assert sorted(os.listdir(place.state)) == before
    assert place.run("once").returncode == 0
    assert names(jira) == ["before.txt", "known.txt", "other.txt"]


def test_the_journal_that_was_there_is_kept(place: Place, jira: Jira, copied: Path) -> None:
    for number in ("", "-2"):
        restored = place.run("restore", copied)
        assert restored.returncode == 0, restored.stderr
        assert f"journal.db.before-restore{number}." in restored.stdout
    assert (place.state / "journal.db.before-restore-2").exists()


# --- What restore must not rely on ------------------------------------------------------------------------------


def test_a_wal_of_the_journal_that_was_there_is_not_taken_for_the_new_ones(
    place: Place, jira: Jira, copied: Path
) -> None:
    """As one that was killed leaves it, and of which somebody moved the main file aside."""
    place.drop("TEST-3/more.txt", b"more")
    with place.start(stderr=subprocess.DEVNULL) as daemon:
        wait_until(lambda: "more.txt" in names(jira))
        daemon.kill()
    assert (place.state / "journal.db-wal").stat().st_size > 0
    (place.state / "journal.db").rename(place.state / "aside")

    restored = place.run("restore", copied)

    assert restored.returncode == 0, restored.stderr
    assert not (place.state / "journal.db-wal").exists()
    assert asked(place.state / "journal.db", "PRAGMA integrity_check") == [("ok",)]
    assert asked(place.state / "journal.db", "SELECT value FROM meta WHERE key = 'lost'") == [(1,)]
    assert asked(
        place.state / "journal.db", "SELECT count(*) FROM file WHERE path = CAST('TEST-3/more.txt' AS BLOB)"
    ) == [(0,)]


def test_it_restores_also_where_the_present_journal_cannot_be_read(place: Place, jira: Jira, copied: Path) -> None:
    present = place.state / "journal.db"
    for make in (
        lambda: present.write_bytes(b"no journal" * 1000),
        lambda: asked(present, "PRAGMA user_version = 99"),
        lambda: present.unlink(),
    ):
        make()
        restored = place.run("restore", copied)
        assert restored.returncode == 0, restored.stderr

    place.run("resume")
    assert place.run("once").returncode == 0
    assert names(jira) == ["before.txt", "known.txt", "other.txt"]


def test_a_file_that_a_backup_has_brought_back_with_a_new_ctime_is_found_too(
    place: Place, jira: Jira, copied: Path
) -> None:
    later = place.drop("TEST-1/later.txt", b"later")
    times = later.stat().st_mtime_ns
    assert place.run("once").returncode == 0
    assert place.run("restore", copied).returncode == 0
    again = place.drop("TEST-1/later.txt", b"later")
    os.utime(again, ns=(times, times))

    assert place.run("resume").returncode == 0
    assert place.run("once").returncode == 0
    assert names(jira) == ["before.txt", "known.txt", "later.txt", "other.txt"]


def test_a_row_that_had_lost_its_path_when_the_copy_was_made_is_no_obstacle(
    place: Place, jira: Jira, copied: Path
) -> None:
    connection = sqlite3.connect(copied)
    with connection:
        connection.execute("UPDATE file SET generation = id WHERE path = CAST('TEST-2/other.txt' AS BLOB)")
        assert connection.execute("SELECT state FROM file WHERE generation <> 0").fetchall() == [("READY",)]
    connection.close()

    restored = place.run("restore", copied)
    place.run("resume")

    assert restored.returncode == 0, restored.stderr
    assert place.run("once").returncode == 0
    assert names(jira) == ["before.txt", "known.txt", "other.txt"]


def test_a_backup_that_cannot_be_written_is_told_in_words(place: Place, jira: Jira, copied: Path) -> None:
    for target in (place.home / "token" / "copy.db", Path("/proc/copy.db")):
        refused = place.run("backup", target)
        assert refused.returncode == 1
        assert "cannot be written" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_on_a_full_disk_the_journal_that_was_there_stays(place: Place, jira: Jira, copied: Path) -> None:
    connection = sqlite3.connect(copied)
    with connection:
        connection.execute("CREATE TABLE ballast (b)")
        connection.execute("INSERT INTO ballast VALUES (randomblob(3000000))")
    connection.close()
    kept = place.home / "kept"
    place.state.rename(kept)
    place.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place.state], check=True)
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", place.state], check=True)
        before = sorted(os.listdir(place.state))
        room = os.statvfs(place.state)
        with (place.state / "filler").open("wb") as filler:
            filler.write(bytes(max(0, room.f_bavail * room.f_frsize - 2_000_000)))

        refused = place.run("restore", copied)

        (place.state / "filler").unlink()
        assert refused.returncode == 1, refused.stderr
        assert "cannot be put there" in refused.stderr
        assert sorted(os.listdir(place.state)) == before
        assert place.run("once").returncode == 0
        assert names(jira) == ["before.txt", "known.txt", "other.txt"]
    finally:
        subprocess.run(["umount", place.state], check=True)
