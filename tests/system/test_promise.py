"""The promise, kept by the installed command: once, whole, never over another file, and through any number of deaths."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter

import pytest

from installation import Jira, Place
from waiting import wait_until


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_200_files_in_20_folders_are_attached_once_and_filed(place: Place, jira: Jira) -> None:
    dropped = {}
    for issue in range(1, 21):
        for number in range(10):
            content = random.Random(issue * 100 + number).randbytes(500 + 37 * number)
            place.drop(f"TEST-{issue}/file {number}.bin", content)
            dropped[f"TEST-{issue}", f"file {number}.bin"] = sha256(content)

    ended = place.run("once")

    assert ended.returncode == 0, ended.stderr
    assert "200 attached, 0 failed, 0 waiting" in ended.stdout
    attached = jira.attachments()
    assert len(attached) == 200
    assert {(a["issue"], a["filename"]): a["sha256"] for a in attached} == dropped
    assert {name: sha256(content) for name, content in place.files(place.done).items()} == {
        f"{issue}/{name}".encode(): digest for (issue, name), digest in dropped.items()
    }
    assert place.files(place.inbox) == {}


def test_nothing_to_do_is_well(place: Place) -> None:
    ended = place.run("once")

    assert ended.returncode == 0
    assert "0 attached, 0 failed, 0 waiting" in ended.stdout


NAMES = {
    "spaces": b"a  b c.txt",
    "umlauts": "Prüfbericht äöüß.pdf".encode(),
    "japanese": "測定結果.csv".encode(),
    "decomposed": "Pru\u0308fbericht.pdf".encode(),
    "quotes": b"\"double\" 'single'.txt",
    "newline": b"two\nlines.txt",
    "escape": b"\x1b[31mred.txt",
    "backslash": b"a\\b.txt",
    "255 bytes": b"x" * 251 + b".txt",
    "255 bytes of umlauts": ("ä" * 125).encode() + b".text",
    "undecodable": b"caf\xe9.txt",
    "percent": b"100%22.txt",
    "dash": b"-rf.txt",
    "encoded word": b"=?utf-8?q?x?=.txt",
}


def test_every_name_is_attached_and_kept_in_done(place: Place, jira: Jira) -> None:
    for key, name in NAMES.items():
        place.drop(b"TEST-1/" + name, key.encode())

    ended = place.run("once")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert place.files(place.done) == {b"TEST-1/" + name: key.encode() for key, name in NAMES.items()}
    assert Counter(a["sha256"] for a in jira.attachments()) == {sha256(key.encode()): 1 for key in NAMES}
    by_content = {a["sha256"]: a["filename"] for a in jira.attachments()}
    assert by_content[sha256(b"umlauts")] == "Prüfbericht äöüß.pdf"
    assert by_content[sha256(b"decomposed")] == "Prüfbericht.pdf"
    assert by_content[sha256(b"undecodable")] == "caf%E9.txt"
    assert by_content[sha256(b"newline")] == "two_lines.txt"


def test_the_same_name_dropped_again_makes_two_files(place: Place, jira: Jira) -> None:
    place.drop("TEST-1/log.txt", b"first")
    assert place.run("once").returncode == 0
    place.drop("TEST-1/log.txt", b"other")

    assert place.run("once").returncode == 0

    assert place.files(place.done) == {b"TEST-1/log.txt": b"first", b"TEST-1/log (2).txt": b"other"}
    assert [a["filename"] for a in jira.attachments()] == ["log.txt", "log.txt"]


def test_a_refused_file_fails_with_its_reason_and_comes_back(place: Place, jira: Jira) -> None:
    place.drop("TEST-1/big.bin", b"x" * 100)
    place.drop("TEST-1/small.txt", b"x")
    jira.tell("set", {"upload_limit": 50})

    ended = place.run("once")

    assert ended.returncode == 3
    assert "1 attached, 1 failed, 0 waiting" in ended.stdout
    assert set(place.files(place.failed)) == {b"TEST-1/big.bin", b"TEST-1/big.bin.why.txt"}
    note = place.files(place.failed)[b"TEST-1/big.bin.why.txt"].decode()
    assert "file has 100 bytes, and this Jira allows 50" in note
    assert note.count("\n") == note.count("\r\n")

    jira.tell("set", {"upload_limit": 5000})
    (place.failed / "TEST-1/big.bin").rename(place.inbox / "TEST-1/big.bin")
    (place.failed / "TEST-1/big.bin.why.txt").rename(place.inbox / "TEST-1/big.bin.why.txt")

    assert place.run("once").returncode == 0
    assert place.files(place.inbox) == {}
    assert place.files(place.failed) == {}
    assert sorted(a["filename"] for a in jira.attachments()) == ["big.bin", "small.txt"]


#: `attachd once`, on a machine that is so busy that the first verdict is there before the command has looked at its clock.
_BUSY = """
import sys, time
from attachd.cli import main, run

started = run.started

def late(*words, **options):
    engine = started(*words, **options)
    while not engine.runtime.journal.value("SELECT count(*) FROM file WHERE finished_at IS NOT NULL"):
        time.sleep(0.05)
    return engine

run.started = late
main.main()
"""


def test_a_refusal_counts_however_soon_it_comes(place: Place, jira: Jira) -> None:
    """`once` ended with 0 where its main thread was held up: what was refused until then counted for nothing."""
    jira.tell("set", {"upload_limit": 50})
    place.drop("TEST-1/big.bin", b"x" * 100)

    words = [sys.executable, "-c", _BUSY, *place.command("once", "--json")[1:]]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=100)

    assert ended.returncode == 3, ended.stderr
    assert [each["file"] for each in json.loads(ended.stdout)["failures"]] == ["TEST-1/big.bin"]


def test_the_note_of_a_file_that_was_moved_back_alone_disappears(place: Place, jira: Jira) -> None:
    place.drop("TEST-1/big.bin", b"x" * 100)
    jira.tell("set", {"upload_limit": 50})
    assert place.run("once").returncode == 3
    jira.tell("set", {"upload_limit": 5000})
    (place.failed / "TEST-1/big.bin").rename(place.inbox / "TEST-1/big.bin")

    assert place.run("once").returncode == 0

    assert place.files(place.failed) == {}


#: What the network and the site do meanwhile.
FAULTS: list[dict[str, object]] = [
    {"kind": "reset", "commit": True},
    {"kind": "reset", "point": "last-byte"},
    {"kind": "reset", "point": "body"},
    {"kind": "close", "point": "reply-head"},
    {"kind": "status", "status": 502, "commit": True},
    {"kind": "late", "delay": 0.1, "status": None},
    {"kind": "slow", "delay": 0.3},
    {"kind": "half", "status": None},
]


@pytest.mark.timeout(300)
def test_50_kills_while_files_arrive_lose_nothing_and_attach_nothing_twice(place: Place, jira: Jira) -> None:
    """SIGKILL at a random moment, fifty times, under faults. What was in doubt is looked up, so that looks are quick here."""
    place.configure(jira.url, "[doubt]\nlooks_seconds = [0.2, 0.5]\n[upload]\nreply_seconds = 1.5\n")
    dice = random.Random(20261123)
    dropped: dict[str, str] = {}
    for kill in range(50):
        for number in range(dice.randint(1, 6)):
            content = dice.randbytes(dice.choice([0, 10, 10, 2000, 700_000]))
            content = f"{kill}.{number}.".encode() + content
            issue = f"TEST-{dice.randint(1, 5)}"
            place.drop(f"{issue}/{dice.choice(['log.txt', f'{kill}.bin'])}-{kill}-{number}", content)
            dropped[sha256(content)] = issue
        jira.tell("faults", dice.choice(FAULTS))
        daemon = place.start(stderr=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.wait(dice.uniform(0.25, 1.0))
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()

    jira.clear_faults()
    ended = place.run("once", "--wait", "60")
    for _ in range(5):
        if ended.returncode == 3:  # three broken connections in a row were one file's: it is looked up, and sent again
            assert place.run("retry", "--all").returncode == 0
        if ended.returncode == 4:  # what a fault has paused is tried at once, as an administrator would
            assert place.run("resume").returncode == 0
        if ended.returncode:
            ended = place.run("once", "--wait", "60")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    held = Counter((a["sha256"], a["issue"]) for a in jira.attachments())
    assert {key: count for key, count in held.items() if count != 1} == {}, "attached twice"
    assert dict(held.keys()) == dropped
    assert Counter(sha256(content) for content in place.files(place.done).values()) == Counter(dropped.keys())
    assert place.files(place.inbox) == place.files(place.failed) == {}


def test_a_file_dropped_while_it_runs_is_attached_within_moments(place: Place, jira: Jira) -> None:
    daemon = place.start(stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (place.state / "journal.db").exists())
        place.drop("TEST-9/new.txt", b"new")
        wait_until(lambda: place.files(place.done) == {b"TEST-9/new.txt": b"new"}, 20)
    finally:
        daemon.terminate()
        assert daemon.wait(20) == 0
    assert [a["issue"] for a in jira.attachments()] == ["TEST-9"]


def test_stop_lets_an_upload_end(place: Place, jira: Jira) -> None:
    jira.tell("faults", {"kind": "slow", "delay": 1.5})
    daemon = place.start(stderr=subprocess.DEVNULL)
    place.drop("TEST-1/slow.txt", b"slow")
    wait_until(lambda: any(r["path"].endswith("/attachments") for r in jira.ask("requests")))

    daemon.terminate()

    assert daemon.wait(20) == 0
    assert place.files(place.done) == {b"TEST-1/slow.txt": b"slow"}


def test_a_large_upload_is_cut_before_its_end_when_the_time_to_stop_is_over(place: Place, jira: Jira) -> None:
    """What is cut before its last boundary is not delivered, and needs no look afterwards."""
    place.configure(jira.url, "[limits]\nstop_seconds = 0.5")
    place.drop("TEST-1/huge.bin", os.urandom(1024) * 40_000)
    jira.tell("faults", {"kind": "stall", "point": "body", "bytes": 1_000_000, "delay": 2.0})
    daemon = place.start(stderr=subprocess.DEVNULL)
    wait_until(lambda: any(r["path"].endswith("/attachments") for r in jira.ask("requests")))

    daemon.terminate()
    assert daemon.wait(20) == 0

    assert jira.attachments() == []
    assert place.run("once").returncode == 0
    assert [a["filename"] for a in jira.attachments()] == ["huge.bin"]


def test_a_closed_or_full_stderr_never_fails_an_upload(place: Place, jira: Jira) -> None:
    place.drop("TEST-1/a.txt", b"a")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(place.command("once"), stderr=writer, stdout=subprocess.PIPE, timeout=60)
    finally:
        os.close(writer)

    assert ended.returncode == 0
    assert [a["filename"] for a in jira.attachments()] == ["a.txt"]


def test_the_token_is_found_nowhere(place: Place, jira: Jira) -> None:
    place.configure(jira.url, '[log]\nlevel = "debug"')
    place.drop("TEST-1/a.txt", b"a")
    jira.tell("faults", {"kind": "unauthorized"})

    ended = place.run("once", "--wait", "5")

    told = ended.stdout + ended.stderr
    encoded = "c3RhbmRpbi10b2tlbg"  # base64 of it, without its end
    assert "standin-token" not in told
    assert encoded not in told
    for path in place.state.iterdir():
        assert b"standin-token" not in path.read_bytes()
