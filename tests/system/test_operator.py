"""The administrator's verbs as they are installed: pause, resume, why, history and retry, with the daemon up and down."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import ATTACHD, Jira, Place
from waiting import wait_until


@contextlib.contextmanager
def running(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon on *place* until the end of the context."""
    with (place.home / "run.log").open("wb") as log:
        daemon = place.start(stderr=log)
    try:
        wait_until(lambda: "attachd    running" in place.run("status").stdout)
        yield daemon
    finally:
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(20)
    assert code == 0


def said(place: Place, *words: str, code: int = 0, cwd: Path = Path("/")) -> str:
    """What a verb prints; it ends with *code*, and complains of nothing on stderr."""
    ended = place.run(*words, cwd=cwd)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert ended.stderr == ""
    return ended.stdout


def refused(place: Place, *words: str, code: int = 2) -> str:
    """What a verb complains of on stderr, in lines of its own and nothing else; it ends with *code*."""
    ended = place.run(*words)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert ended.stdout == ""
    assert [line for line in ended.stderr.splitlines() if not line.startswith("attachd: ")] == []
    return ended.stderr


@pytest.fixture
def tried(place: Place) -> Place:
    """A place with a journal."""
    assert place.run("once").returncode == 0
    return place


# --- pause and resume -------------------------------------------------------------------------------------------


def test_a_running_daemon_heeds_pause_and_resume_within_moments(place: Place, jira: Jira) -> None:
    def logged() -> list[str]:
        lines = (place.home / "run.log").read_text().splitlines()
        return [event for line in lines if (event := json.loads(line)["event"]).startswith("operator.")]

    with running(place):
        told = said(place, "pause")
        assert told.startswith("Paused everything until `attachd resume`.\nattachd is running (process ")
        wait_until(lambda: logged() == ["operator.paused"])
        place.drop("TEST-1/a.txt", b"a")
        wait_until(lambda: "1 waiting" in place.run("status").stdout)
        assert "paused     until `attachd resume`: paused by hand" in said(place, "status")
        assert jira.attachments() == []

        began = time.monotonic()
        assert said(place, "resume").startswith("Ended: the pause by hand (since ")
        wait_until(lambda: place.files(place.done) == {b"TEST-1/a.txt": b"a"}, 10)
        assert time.monotonic() - began < 10, "not only when the workers look by themselves"
        wait_until(lambda: logged() == ["operator.paused", "operator.resumed"])


def test_an_issue_is_paused_by_the_name_of_its_folder(tried: Place, jira: Jira) -> None:
    paused = said(tried, "pause", "--issue", "test-1 Printer jams", "--for", "2h")
    assert "attachd has seen no file for TEST-1 yet. Is the key correct?\n" in paused
    tried.drop("TEST-1/a.txt", b"a")
    tried.drop("TEST-2/b.txt", b"b")

    ended = tried.run("once")

    assert ended.returncode == 4
    assert "1 attached, 0 failed, 1 waiting" in ended.stdout
    assert "ended early: paused by hand: TEST-1" in ended.stdout
    assert "paused     TEST-1 until " in said(tried, "status")
    assert "is known yet" not in said(tried, "pause", "--issue", "TEST-2", "--for", "1s")
    said(tried, "resume", "--issue", "TEST-2")
    assert said(tried, "resume", "--issue", "TEST-2") == "Nothing of TEST-2 was paused.\n"
    said(tried, "resume", "--issue", "TEST-1")
    assert tried.run("once").returncode == 0
    assert sorted(a["filename"] for a in jira.attachments()) == ["a.txt", "b.txt"]


def test_once_ends_at_a_pause_of_everything(tried: Place, jira: Jira) -> None:
    said(tried, "pause")
    tried.drop("TEST-1/a.txt", b"a")

    ended = tried.run("once")

    assert ended.returncode == 4
    assert "ended early: paused by hand" in ended.stdout
    assert jira.attachments() == []


def test_with_nothing_paused_resume_says_so(tried: Place) -> None:
    assert said(tried, "resume") == "Nothing was paused.\n"


# --- why --------------------------------------------------------------------------------------------------------


def test_why_tells_the_life_of_a_file(place: Place, jira: Jira) -> None:
    place.configure(jira.url, "[doubt]\nlooks_seconds = [0.2, 600]")
    assert place.run("once").returncode == 0
    place.drop("TEST-1/a.txt", b"a")
    down = "attachd is not running: nothing happens until it is started.\n"
    assert said(place, "why", "TEST-1/a.txt").endswith(f"TEST-1/a.txt yet. {down}")

    with running(place):
        wait_until(lambda: " was attached to TEST-1 at " in place.run("why", "TEST-1/a.txt").stdout)
        jira.tell("faults", {"kind": "reset", "point": "last-byte"})
        place.drop("TEST-1/doubt.txt", b"d")
        wait_until(lambda: " (look 2 of 2), and sends it again only if" in place.run("why", "TEST-1/doubt.txt").stdout)

        # Nothing else of the issue waits for that.
        jira.tell("faults", {"kind": "stall", "point": "reply-none", "delay": 3.0})
        place.drop("TEST-1/slow.txt", b"s")
        wait_until(lambda: " has been uploading to TEST-1 since " in place.run("why", "TEST-1/slow.txt").stdout)

    assert said(place, "why", "TEST-1/doubt.txt").endswith(f"sends it again only if it is not there. {down}")


def test_what_was_being_sent_when_the_service_died_is_in_doubt(place: Place, jira: Jira) -> None:
    jira.tell("faults", {"kind": "stall", "point": "reply-none", "delay": 30.0})
    place.drop("TEST-1/slow.txt", b"s")
    daemon = place.start(stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: " has been uploading to TEST-1 since " in place.run("why", "TEST-1/slow.txt").stdout)
    finally:
        daemon.kill()
        daemon.wait(20)

    found = json.loads(said(place, "status", "--json"))

    assert (found["files"]["sending"], found["files"]["in-doubt"], found["sending"]) == (0, 1, [])
    assert [(row["file"], row["word"]) for row in found["waiting_for"]] == [("TEST-1/slow.txt", "in-doubt")]
    assert "was uploading when attachd ended" in said(place, "status")


def test_why_tells_of_a_token_that_is_refused_and_of_a_file_that_failed(place: Place, jira: Jira) -> None:
    place.drop("TEST-1/big.bin", b"x" * 100)
    jira.tell("set", {"upload_limit": 50})
    assert place.run("once").returncode == 3
    assert "the file has 100 bytes, and this Jira allows 50" in said(
        place, "why", "failed/TEST-1/big.bin", cwd=place.home
    )

    (place.home / "token").write_text("wrong\n")
    place.drop("TEST-1/b.txt", b"b")
    assert place.run("once", "--wait", "5").returncode == 4
    told = said(place, "why", "TEST-1/b.txt")
    assert " is waiting because everything has been paused since " in told
    assert "and when the token changes. `attachd resume` retries now" in told


def test_why_in_json(tried: Place) -> None:
    tried.drop("TEST-1/a.txt", b"a")
    tried.drop("no key/b.txt", b"b")
    assert tried.run("once").returncode == 4

    found = json.loads(said(tried, "why", str(tried.inbox / "TEST-1/a.txt"), "--json"))
    folder = json.loads(said(tried, "why", str(tried.inbox), "--json"))

    assert [one["word"] for one in found] == ["attached"]
    assert found[0]["attachment"]
    assert found[0].keys() == {"path", "word", "sentence", "known", "id", "issue", "attachment", "since", "next"}
    assert [(one["path"], one["word"]) for one in folder] == [(str(tried.inbox / "no key"), "waiting")]


def test_why_ends_1_where_nothing_is_known(tried: Place) -> None:
    for path in ("/etc/passwd", "nothing", "two\nlines", b"caf\xe9"):
        ended = subprocess.run(tried.command("why", os.fsdecode(path)), capture_output=True, timeout=60)
        assert ended.returncode == 1, path
        assert ended.stderr == b""
        assert ended.stdout.count(b"\n") == 1


def test_why_tells_only_so_many_files_of_a_folder(tried: Place) -> None:
    for number in range(60):
        tried.drop(f"TEST-1/{number}", b"x")

    told = said(tried, "why", "TEST-1", cwd=tried.inbox).splitlines()

    assert len(told) == 51
    assert told[-1].startswith("There are more than 50 files")


# --- history ----------------------------------------------------------------------------------------------------


HINT = "--limit N shows more; --issue, --state and --since filter"


def test_history_in_a_table_and_in_json(tried: Place, jira: Jira) -> None:
    tried.drop("test-1/a.txt", b"a")
    assert tried.run("once").returncode == 0
    jira.tell("set", {"upload_limit": 50})
    tried.drop(b"TEST-2/caf\xe9\n.bin", b"x" * 100)
    assert tried.run("once").returncode == 3

    head, *lines = said(tried, "history").splitlines()
    newest, oldest = json.loads(said(tried, "history", "--json"))

    assert head.split() == [
        "seen",
        "state",
        "id",
        "issue",
        "file",
        "attachment",
        "size",
        "sha256",
        "verdict",
        "filed",
        "tried",
        "reason",
    ]
    assert [line.split()[1:5] for line in lines] == [
        ["failed", "F2", "TEST-2", r"TEST-2/caf\xe9\n.bin"],
        ["attached", "F1", "TEST-1", "test-1/a.txt"],
    ]
    assert "the file has 100 bytes, and this Jira allows 50" in lines[0]
    assert "\x1b" not in "".join(lines)
    assert oldest["sha256"] == hashlib.sha256(b"a").hexdigest()
    assert oldest["target"] == "done/TEST-1/a.txt"
    assert (oldest["word"], oldest["issue"], oldest["folder_key"], oldest["bytes"], oldest["tries"]) == (
        "attached",
        "TEST-1",
        "TEST-1",
        1,
        1,
    )
    assert oldest["attachment"] in {a["id"] for a in jira.attachments()}
    assert newest["file"] == r"TEST-2/caf\xe9\n.bin"
    assert oldest["seen"] <= oldest["verdict"] <= oldest["filed"] <= newest["seen"]
    assert json.loads(said(tried, "history", "--json", "--issue", "test-1")) == [oldest]
    assert json.loads(said(tried, "history", "--json", "--state", "failed")) == [newest]
    assert json.loads(said(tried, "history", "--json", "--limit", "1")) == [newest]
    assert json.loads(said(tried, "history", "--json", "--since", "1d", "--state", "failed")) == [newest]
    assert json.loads(said(tried, "history", "--json", "--since", "2100-01-01T08:30")) == []
    assert said(tried, "history", "--issue", "TEST-9") == "No files.\n"
    for number in range(50):
        tried.drop(f"TEST-3/{number}.txt", b"%d" % number)
    assert tried.run("once").returncode == 0
    assert len(json.loads(said(tried, "history", "--json"))) == 52
    assert said(tried, "history").endswith(f"There are more than these 50 files. {HINT}.\n")
    assert len(said(tried, "history", "--limit", "50").splitlines()) == 51


# --- retry ------------------------------------------------------------------------------------------------------


def test_failed_files_come_back_and_are_attached(place: Place, jira: Jira) -> None:
    jira.tell("set", {"upload_limit": 50})
    for issue in ("TEST-1", "TEST-2", "TEST-3"):
        place.drop(f"{issue}/big.bin", issue.encode() * 20)
    place.drop("TEST-1/other/big.bin", b"y" * 100)
    assert place.run("once").returncode == 3
    jira.tell("set", {"upload_limit": 5000})
    waits = "attachd is not running. Start it to send the files.\n"

    assert said(place, "retry", "TEST-1/big.bin", "nothing", code=1) == (
        f"nothing: not moved: attachd knows no failed file of this name.\n"
        f"TEST-1/big.bin: back in the inbox as TEST-1/big.bin.\n{waits}"
    )
    assert said(place, "retry", "--issue", "test-2") == f"TEST-2/big.bin: back in the inbox as TEST-2/big.bin.\n{waits}"
    with running(place):
        told = said(place, "retry", "--all").splitlines()
        assert sorted(told) == [
            "TEST-1/other/big.bin: back in the inbox as TEST-1/other/big.bin.",
            "TEST-3/big.bin: back in the inbox as TEST-3/big.bin.",
        ]
        wait_until(lambda: len(place.files(place.done)) == 4)
    assert place.files(place.failed) == place.files(place.inbox) == {}
    assert len(jira.attachments()) == 4
    assert [row["word"] for row in json.loads(said(place, "status", "--json"))["last"]] == ["attached"] * 4
    assert said(place, "retry", "--all") == f"attachd knows no failed file in {place.failed}.\n"


def test_retry_moves_nothing_into_a_folder_that_is_not_the_inbox(place: Place, jira: Jira) -> None:
    jira.tell("set", {"upload_limit": 50})
    place.drop("TEST-1/big.bin", b"x" * 100)
    assert place.run("once").returncode == 3
    place.inbox.rename(place.home / "unmounted")
    place.inbox.mkdir()

    ended = place.run("retry", "--all")

    assert ended.returncode == 1
    assert "has no attachd marker" in ended.stderr
    assert list(place.inbox.iterdir()) == []
    assert b"TEST-1/big.bin" in place.files(place.failed)


def test_retry_wants_to_know_which(tried: Place) -> None:
    for words in ([], ["--all", "x"], ["--all", "--issue", "TEST-1"]):
        ended = tried.run("retry", *words)
        assert ended.returncode == 2
        assert ended.stderr == "attachd: retry needs exactly one of PATH, --issue KEY and --all.\n"


# --- Given wrongly ----------------------------------------------------------------------------------------------

OPERATORS = (["pause"], ["resume"], ["why", "x"], ["history"], ["retry", "--all"])


def test_without_a_journal_every_verb_says_so_and_makes_none(place: Place) -> None:
    for words in OPERATORS:
        told = refused(place, *words, code=1)
        assert told == f"attachd: {place.state} has no journal yet. `attachd run` or `attachd once` creates it.\n"
    assert not place.state.exists()


def test_a_journal_of_a_later_version_is_left_alone(tried: Place) -> None:
    with contextlib.closing(sqlite3.connect(tried.state / "journal.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = (tried.state / "journal.db").read_bytes()

    for words in OPERATORS:
        assert "written by a later attachd" in refused(tried, *words, code=78)
    assert (tried.state / "journal.db").read_bytes() == before


def test_a_journal_that_is_none_is_told(tried: Place) -> None:
    for path in tried.state.glob("journal.db*"):
        path.write_bytes(b"this is no database, and too long for one" * 10)

    for words in OPERATORS:
        assert "cannot be used as the journal" in refused(tried, *words, code=78)


def test_a_key_that_is_none_is_a_usage_error(tried: Place) -> None:
    wrong = [("pause", key) for key in ("nonsense", "", "../x", "TEST-1\nTEST-2", b"caf\xe9")]
    for verb, key in [*wrong, ("resume", "TEST-"), ("history", "RUN-2026-11-22"), ("retry", "10042")]:
        told = refused(tried, verb, "--issue", os.fsdecode(key))
        assert told.startswith("attachd: --issue needs an issue key or an alias, but got '")
        assert told.endswith("'. Give a key such as TEST-123.\n")


def test_a_length_that_is_none_is_a_usage_error(tried: Place) -> None:
    for length in ("abc", "9999d", b"\xff"):
        assert refused(tried, "pause", "--for", os.fsdecode(length)).startswith("attachd: --for ")
    assert "paused" not in said(tried, "status").split()


def test_which_attachd_may_be_said_before_the_verb(tried: Place) -> None:
    ended = subprocess.run([ATTACHD, "-c", tried.config, "history"], capture_output=True, text=True, timeout=100)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, said(tried, "history"), "")


def test_a_state_that_is_none_is_a_usage_error(tried: Place) -> None:
    for words in (
        ["--state", "lost"],
        ["--limit", "0"],
        ["--limit", "many"],
        ["--limit", "9" * 30],
        ["--since", "soon"],
        ["--since", "0001-01-01"],
    ):
        assert tried.run("history", *words).returncode == 2


# --- As root ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can play several users")
def test_as_root_nothing_is_left_that_the_service_cannot_use(place: Place, jira: Jira) -> None:
    """Also where this Python lies in a home of root's, of which nothing more can be loaded then."""
    nobody = 65534
    for above in [place.home, *place.home.parents][:-1]:
        above.chmod(above.stat().st_mode | 0o011)
    jira.tell("set", {"upload_limit": 50})
    place.drop("TEST-1/a/big.bin", b"x" * 100)
    assert place.run("once").returncode == 3
    (place.inbox / "TEST-1/a").rmdir()
    for path in [place.home, *place.home.rglob("*")]:
        os.chown(path, nobody, nobody)

    said(place, "pause")
    said(place, "retry", "--all")
    said(place, "why", "TEST-1")
    said(place, "resume")
    said(place, "check")

    assert place.files(place.inbox) == {b"TEST-1/a/big.bin": b"x" * 100}
    jira.tell("set", {"upload_limit": 5000})
    assert place.run("once").returncode == 0
    assert place.files(place.done) == {b"TEST-1/a/big.bin": b"x" * 100}
    left = [*place.home.rglob("*"), *place.state.iterdir()]
    assert {str(path) for path in left if path.lstat().st_uid != nobody} == set()
