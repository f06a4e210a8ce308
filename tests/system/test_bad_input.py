"""What a user gives the installed command wrongly: told in plain words with what to do, and nothing is touched.

Exit codes are those of the README's table.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import signal
import sqlite3
import stat
import struct
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from installation import ATTACHD, Jira, Place
from waiting import wait_until

SYSTEM_FILE = Path("/etc/attachd/config.toml")
#: Nobody listens there: what is found out before Jira is asked needs no Jira.
NOWHERE = "http://127.0.0.1:9"
VERBS = ("run", "once", "check")


@pytest.fixture
def untried(tmp_path: Path) -> Place:
    """A place that nobody has worked with yet, and whose Jira would not answer."""
    home = tmp_path / "untried"
    home.mkdir()
    return Place(home, NOWHERE)


def everything(home: Path) -> dict[str, tuple[Any, ...]]:
    """Each name below *home* with its mode, owner, size, times and content."""
    found = {}
    for path in (home, *home.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
        found[str(path)] = (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, content)
    return found


def refused(place: Place, *words: str | Path, code: int = 78) -> str:
    """Run it, hold it to *code* and to plain words on stderr alone, and to having touched nothing. Returns the words."""
    before = everything(place.home)

    ended = place.run(*words)

    assert everything(place.home) == before
    return told(ended, code)


def told(ended: subprocess.CompletedProcess[str], code: int) -> str:
    """Hold a command that has ended to *code* and to plain words on stderr alone. Returns the words."""
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert lines
    assert [line for line in lines if not line.startswith("attachd: ")] == []
    return ended.stderr


def status(place: Place) -> dict[str, Any]:
    ended = place.run("status", "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def forgive(jira: Jira) -> None:
    urllib.request.urlopen(
        urllib.request.Request(f"{jira.url}/__standin__/faults", method="DELETE"), timeout=30
    ).close()


@contextlib.contextmanager
def running(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon on *place*, until the end of the context; it must then end well."""
    daemon = place.start(stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (place.state / "journal.db").exists() and status(place)["running"])
        yield daemon
    finally:
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(20)
    assert code == 0


# --- The configuration ------------------------------------------------------------------------------------------


@pytest.mark.skipif(SYSTEM_FILE.exists(), reason=f"this machine has {SYSTEM_FILE}")
@pytest.mark.parametrize("verb", [*VERBS, "status"])
def test_without_any_configuration_the_places_that_were_looked_at_are_told(tmp_path: Path, verb: str) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    ended = subprocess.run([ATTACHD, verb], env=environ, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 78, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.startswith("attachd: No configuration found. attachd searched: ")
    for place in (tmp_path / ".config/attachd/config.toml", SYSTEM_FILE):
        assert str(place) in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_named_and_is_missing_is_told(untried: Place) -> None:
    untried.config.unlink()

    assert str(untried.config) in refused(untried, "run")


def more(text: str) -> Callable[[Place], None]:
    return lambda place: place.configure(NOWHERE, text)


def folders(text: str) -> Callable[[Place], None]:
    return lambda place: place.configure(NOWHERE, folders=text)


#: How it is spoilt, and what must be said.
def _several(place: Place) -> None:
    more = "[upload]\nparallel = 0\nparalel = 3\n[batch]\nmax_files = true\n[hooks]\nevents = ['done']"
    place.configure("http://jira.example.com", more, 'inbox = "inbox"\ndone = "inbox"')


def _two(place: Place) -> None:
    place.configure(NOWHERE, "[upload]\nparalel = 3")
    (place.home / "token").chmod(0o644)


SPOILT: dict[str, tuple[Callable[[Place], None], list[str]]] = {
    "broken TOML": (
        more('[upload]\nparallel = "4'),
        ["config.toml, line ", "a line break or control character is not allowed here"],
    ),
    "not UTF-8": (
        lambda place: place.config.write_bytes(place.config.read_bytes() + b"# caf\xe9\n"),
        ["is not UTF-8: line ", "Save the file as UTF-8."],
    ),
    "unknown key": (
        more("[upload]\nparalel = 3"),
        ["upload.paralel is not a key that attachd knows. Did you mean “upload.parallel”?"],
    ),
    "key of another table": (
        more("[upload]\nquiet_seconds = 3.0"),
        ["upload.quiet_seconds is not a key that attachd knows. “quiet_seconds” belongs in [settle]."],
    ),
    "a page for everybody": (
        more('[web]\nlisten = "0.0.0.0:8437"'),
        ["web.listen is not a loopback address, so the network could read the page's token."],
    ),
    "http to a public host": (
        lambda place: place.configure("http://jira.example.com"),
        ["jira.url is http, so the network could read the token and every file. Write https"],
    ),
    "inbox inside done": (
        folders('inbox = "done/inbox"\ndone = "done"\nfailed = "failed"\nstate = "state"'),
        ["folders.done contains folders.inbox"],
    ),
    "state inside the inbox": (
        folders('inbox = "inbox"\nstate = "inbox/state"'),
        ["folders.state lies inside folders.inbox", "Choose a folder outside inbox, done and failed."],
    ),
    "token readable by others": (
        lambda place: (place.home / "token").chmod(0o644),
        ["jira.auth.token names ", "which other users can read or change (mode 0644)", "chmod 0600 "],
    ),
    "token missing": (
        lambda place: (place.home / "token").unlink(),
        ["jira.auth.token names a file that cannot be read: No such file or directory."],
    ),
    "token empty": (lambda place: (place.home / "token").write_text("\n"), ["jira.auth.token is empty."]),
    "a key and the token": (
        _two,
        ["jira.auth.token names ", "upload.paralel is not a key that attachd knows."],
    ),
    "several at once": (
        _several,
        [
            "folders.done is the same folder as folders.inbox",
            "jira.url is http",
            "upload.parallel must be at least 1. It is 0.",
            "upload.paralel is not a key that attachd knows.",
            "batch.max_files must be a whole number without quotes or unit. It is true or false.",
            "hooks.events lists 'done', which is not an event.",
        ],
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_wrong_configuration_is_told_and_nothing_is_touched(untried: Place, kind: str) -> None:
    spoil, said = SPOILT[kind]
    spoil(untried)
    (untried.inbox / "TEST-1").mkdir()
    (untried.inbox / "TEST-1" / "waits.txt").write_text("waits")

    before = everything(untried.home)

    with ThreadPoolExecutor() as pool:
        all_ended = list(pool.map(untried.run, VERBS))

    assert everything(untried.home) == before
    for ended in all_ended:
        words = told(ended, 78)
        assert [part for part in (*said, str(untried.config)) if part not in words] == []
        assert len(words.splitlines()) == (len(said) if kind in ("several at once", "a key and the token") else 1)


def _give_up_reading_everything() -> None:
    """Leave root, in the child, with the rights of an owner: it may otherwise read files of mode 000 (prctl(2))."""
    drop_from_bounding_set, dac_override, dac_read_search = 24, 1, 2
    for capability in (dac_override, dac_read_search):
        ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)


@pytest.mark.parametrize("verb", VERBS)
def test_a_token_that_the_service_may_not_read_is_told(untried: Place, verb: str) -> None:
    token = untried.home / "token"
    token.chmod(0)
    before = token.stat()

    ended = untried.run(verb, preexec_fn=_give_up_reading_everything)

    assert ended.returncode == 78, ended.stderr
    said = "jira.auth.token names a file that cannot be read: Permission denied."
    assert ended.stderr.startswith(f"attachd: {untried.config}: {said}")
    assert "standin-token" not in ended.stderr
    assert not untried.state.exists()
    assert list(untried.inbox.iterdir()) == []
    assert token.stat() == before


@pytest.mark.parametrize("verb", ["run", "once"])
@pytest.mark.parametrize("name", ["inbox", "done", "failed"])
def test_a_missing_folder_that_no_journal_knows_is_a_mistake(untried: Place, verb: str, name: str) -> None:
    folder = untried.home / name
    folder.rmdir()

    words = refused(untried, verb)

    assert words.startswith(
        f"attachd: folders.{name} names {folder}, which does not exist. Create it (mkdir {folder}), "
    )
    assert len(words.splitlines()) == 1


@pytest.mark.parametrize("verb", ["run", "once"])
def test_a_token_and_folders_that_are_missing_are_told_together(untried: Place, verb: str) -> None:
    (untried.home / "token").unlink()
    (untried.home / "inbox").rmdir()
    (untried.home / "done").rmdir()

    words = refused(untried, verb)

    assert [line.partition(": ")[2].partition(" ")[0] for line in words.splitlines()][1:] == [
        "folders.inbox",
        "folders.done",
    ]
    assert "jira.auth.token names a file that cannot be read: No such file" in words
    assert not untried.state.exists()


def test_check_finds_every_missing_folder_and_goes_on(untried: Place) -> None:
    untried.done.rmdir()
    untried.failed.rmdir()
    before = everything(untried.home)

    ended = untried.run("check", "--offline")

    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    failed = [line for line in ended.stdout.splitlines() if line.startswith("failed ")]
    assert [line.split()[1] for line in failed] == ["folders.done:", "folders.failed:"]
    assert f"ok       folders.inbox: {untried.inbox}" in ended.stdout
    after = everything(untried.home)
    assert after.keys() == before.keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sned"], "sned"),
        (["run", "--adopt"], "--adopt"),
        (["once", "--wait", "soon"], "--wait"),
        (["once", "--wait", "-1"], "--wait"),
        (["status", "-c"], "-c"),
        (["run", "file.txt"], "file.txt"),
        (["demo", "--port", "70000"], "--port"),
    ],
)
def test_a_wrong_verb_or_option_is_a_usage_error(tmp_path: Path, words: list[str], said: str) -> None:
    environ = os.environ | {"HOME": str(tmp_path), "COLUMNS": "200"}

    ended = subprocess.run([ATTACHD, *words], env=environ, capture_output=True, text=True, timeout=60, cwd=tmp_path)

    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert said in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_an_instance_are_a_contradiction(untried: Place) -> None:
    assert "--instance cannot be combined with -c." in refused(untried, "run", "--instance", "x", code=2)


def test_the_version_is_told() -> None:
    ended = subprocess.run([ATTACHD, "--version"], capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("attachd ")


# --- Two on one inbox -------------------------------------------------------------------------------------------


def test_a_second_one_says_who_holds_the_state_folder(place: Place) -> None:
    with running(place) as daemon:
        for verb in ("run", "once"):
            ended = place.run(verb)

            assert ended.returncode == 75, ended.stderr
            assert ended.stdout == ""
            assert ended.stderr.startswith(f"attachd: another attachd (process {daemon.pid} on ")
            assert f" uses the state folder {place.state}. Stop it first." in ended.stderr


def test_a_second_one_with_a_state_folder_of_its_own_says_who_holds_the_inbox(place: Place, jira: Jira) -> None:
    other = place.home / "other.toml"
    other.write_text(place.config.read_text().replace('state = "state"', 'state = "other-state"'))
    with running(place) as daemon:
        wait_until((place.inbox / ".attachd" / "lock").exists)
        marker = (place.inbox / ".attachd" / "id").read_bytes()

        ended = subprocess.run([ATTACHD, "once", "-c", other], capture_output=True, text=True, timeout=60)

        assert ended.returncode == 75, ended.stderr
        assert ended.stdout == ""
        assert ended.stderr.startswith(f"attachd: another attachd (process {daemon.pid} on ")
        assert f"with the state folder {place.state}" in ended.stderr
        assert (place.inbox / ".attachd" / "id").read_bytes() == marker
        assert not (place.home / "other-state").exists()
        place.drop("TEST-1/still.txt", b"still")
        wait_until(lambda: place.files(place.done) == {b"TEST-1/still.txt": b"still"})
    assert [a["filename"] for a in jira.attachments()] == ["still.txt"]


# --- The journal ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", [*VERBS, "status"])
def test_a_journal_of_a_later_version_is_left_alone(place: Place, verb: str) -> None:
    assert place.run("once").returncode == 0
    with contextlib.closing(sqlite3.connect(place.state / "journal.db")) as journal:
        journal.execute("PRAGMA user_version = 99")
    before = (place.state / "journal.db").read_bytes()

    ended = place.run(verb)

    assert ended.returncode == 78, ended.stdout + ended.stderr
    assert ended.stderr.startswith(f"attachd: {place.state}/journal.db is of version 99, written by a later attachd;")
    assert len(ended.stderr.splitlines()) == 1
    assert (place.state / "journal.db").read_bytes() == before


def test_another_address_takes_along_what_was_never_stored_and_resume_the_rest(place: Place, jira: Jira) -> None:
    place.configure(jira.url, "[doubt]\nlooks_seconds = [0.1, 0.2]\n[upload]\nreply_seconds = 1.0\n")
    place.drop("TEST-1/begun.txt", b"begun")
    jira.tell("faults", {"kind": "reset", "point": "reply", "where": "upload", "times": 1})
    jira.tell("faults", {"kind": "status", "status": 503, "where": "listing", "times": -1})
    assert place.run("once", "--wait", "5").returncode == 4
    forgive(jira)
    place.drop("TEST-2/never.txt", b"never")
    place.configure(jira.url.replace("127.0.0.1", "localhost"), "[doubt]\nlooks_seconds = [0.1, 0.2]\n")

    ended = place.run("once", "--wait", "5")
    told = place.run("status").stdout
    checked = place.run("check", "--offline").stdout

    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert {a["filename"] for a in jira.attachments()} == {"begun.txt", "never.txt"}
    assert place.is_emptied() is False
    for text in (told, checked):
        assert "attachd resume --adopt-site" in text
    assert place.run("resume", "--adopt-site").returncode == 0
    assert place.run("once").returncode == 0
    assert sorted(a["filename"] for a in jira.attachments()) == ["begun.txt", "never.txt"]


# --- status -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["status"], ["status", "--json"]])
def test_status_without_a_journal_says_so_and_makes_none(untried: Place, words: list[str]) -> None:
    said = refused(untried, *words, code=1)

    assert said == f"attachd: {untried.state} has no journal yet. `attachd run` or `attachd once` creates it.\n"


def test_status_tells_how_it_stands_with_the_daemon_up_and_down(place: Place) -> None:
    place.drop("TEST-1/first.txt", b"first")
    place.drop("no key/stray.txt", b"stray")
    with running(place) as daemon:
        wait_until(lambda: status(place)["files"]["attached"] == 1)
        up = status(place)
        told_up = place.run("status").stdout
    down = status(place)
    told_down = place.run("status").stdout

    assert up["running"]["pid"] == daemon.pid
    assert f"running (process {daemon.pid} on " in told_up
    assert down["running"] is None
    assert "attachd    not running" in told_down
    assert {name: value for name, value in up.items() if name != "running"} == {
        name: value for name, value in down.items() if name != "running"
    }
    assert [each["folder"] for each in down["unrouted"]] == ["no key"]
    for words in (told_up, told_down):
        assert f"config     {place.config}" in words
        assert f"state      {place.state}" in words
        assert "no issue   no key (1 file): 'no key' is not an issue key;" in words
        assert "first.txt  attachment " in words


# --- What is known and absent -----------------------------------------------------------------------------------


def test_a_known_inbox_that_is_absent_at_the_start_is_waited_for(place: Place, jira: Jira) -> None:
    assert place.run("once").returncode == 0
    place.drop("TEST-1/later.txt", b"later")
    unmounted = place.inbox.rename(place.home / "unmounted")
    with running(place):
        assert status(place)["inbox_there"] is False
        assert "(not there)" in place.run("status").stdout
        assert not place.inbox.exists()
        assert jira.attachments() == []

        unmounted.rename(place.inbox)

        wait_until(lambda: place.files(place.done) == {b"TEST-1/later.txt": b"later"})
        assert status(place)["inbox_there"] is True
    assert [a["filename"] for a in jira.attachments()] == ["later.txt"]


def test_an_inbox_that_is_not_ours_is_told_with_what_to_do(place: Place, jira: Jira) -> None:
    """Of another journal, without its marker, held by another service: nothing is sent, and `status` and `why` say so."""
    assert place.run("once").returncode == 0
    marker = place.inbox / ".attachd" / "id"
    known = marker.read_text()
    place.drop("TEST-1/a.txt", b"a")

    marker.write_text('{"inbox": "ffffffffffffffff", "state": "/x"}')
    another = status(place)
    marker.unlink()
    without = status(place)

    assert (another["inbox_there"], without["inbox_there"]) == (False, False)
    assert "is not the inbox that the journal knows" in another["inbox_reason"]
    for found in (another, without):
        assert "--adopt-inbox" in found["inbox_reason"]
    assert without["inbox_reason"] in place.run("status").stdout

    marker.write_text(known)
    away = place.inbox.rename(place.home / "away")
    with running(place), open(away / ".attachd" / "lock", "r+b") as held:
        fcntl.fcntl(held, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        held.truncate()
        held.write(b'{"host": "far", "pid": 17, "state": "/elsewhere"}')
        held.flush()
        away.rename(place.inbox)

        assert status(place)["inbox_reason"].startswith("another attachd (process 17 on far")
        assert "another attachd (process" in place.run("why", "TEST-1/a.txt").stdout
        assert place.run("check", "--offline").returncode == 1
        assert jira.attachments() == []
        held.close()
        wait_until(lambda: place.files(place.done) == {b"TEST-1/a.txt": b"a"})
    assert len(jira.attachments()) == 1


def test_once_does_not_wait_for_an_inbox_that_is_absent_but_says_so(place: Place) -> None:
    assert place.run("once").returncode == 0
    place.inbox.rename(place.home / "unmounted")

    ended = place.run("once")

    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert f"ended early: the inbox {place.inbox} cannot be opened" in ended.stdout
    assert not place.inbox.exists()


def test_once_names_a_folder_that_it_cannot_look_at(place: Place) -> None:
    place.drop("TEST-1/.attachdignore", b"[z-a]*\n")
    place.drop("TEST-1/a.txt", b"a")

    ended = place.run("once")

    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert "not listed: TEST-1: .attachdignore has no pattern in line 1" in ended.stdout


@pytest.mark.parametrize("name", ["done", "failed"])
def test_a_known_folder_that_is_absent_at_the_start_is_no_mistake_and_not_made(place: Place, name: str) -> None:
    assert place.run("once").returncode == 0
    folder = place.home / name
    folder.rename(place.home / "unmounted")

    ended = place.run("once")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not folder.exists()


MODULES = {"httpx.py", "attachd.py", "sqlite3.py", "sitecustomize.py", "usercustomize.py"}
SETTINGS = {"config.toml", ".env", "pyvenv.cfg", ".netrc"}


def test_nothing_that_was_planted_beside_it_is_loaded_or_read(place: Place, jira: Jira) -> None:
    """A person who may write to the inbox, or to where an administrator gives a command, gives no code and no settings."""
    folder = place.inbox / "TEST-1"
    folder.mkdir()
    for name in MODULES:
        for where in (place.inbox, folder):
            (where / name).write_text("import os\nos._exit(99)\n")
    for name in SETTINGS:
        (folder / name).write_text("[folders]\ninbox = 5\n")

    ended = place.run("once", cwd=folder)

    assert ended.returncode == 4, ended.stdout + ended.stderr  # the files in no folder wait
    attached = {each["filename"] for each in jira.attachments()}
    assert attached == MODULES | {"config.toml", "pyvenv.cfg"}


def test_a_configuration_that_everybody_can_change_is_refused(place: Place, jira: Jira) -> None:
    place.drop("TEST-1/a.txt", b"a")
    place.config.chmod(0o646)

    ended = place.run("once")

    assert ended.returncode == 78
    assert ended.stderr == (
        f"attachd: {place.config} can be changed by every user of this machine (mode 0646). chmod o-w {place.config}\n"
    )
    assert jira.attachments() == []
