"""SIGHUP and the verb `reload`, as they are installed: the configuration is taken up as a whole or not at all."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from installation import Jira, Place
from waiting import wait_until


@pytest.fixture
def daemon(place: Place, jira: Jira) -> Iterator[subprocess.Popen[bytes]]:
    """The service, whose log is in the file ``log``."""
    with (place.home / "log").open("wb") as log, place.start(stderr=log) as process:
        try:
            wait_until(lambda: "service.started" in logged(place))
            yield process
        finally:
            process.terminate()
            assert process.wait(30) == 0


def logged(place: Place) -> str:
    return (place.home / "log").read_text()


def reloaded(place: Place, code: int = 0) -> str:
    ended = place.run("reload")
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_what_is_ignored_from_now_on_is_left_and_what_is_no_longer_is_taken(
    place: Place, jira: Jira, daemon: subprocess.Popen[bytes]
) -> None:
    place.drop("TEST-1/a.txt", b"a")
    place.drop("TEST-1/a.part", b"half")
    wait_until(lambda: [each["filename"] for each in jira.attachments()] == ["a.txt"])

    place.configure(jira.url, 'ignore = ["*.log", "!*.part"]\n[limits]\nissue_files_per_hour = 7')
    told = reloaded(place)
    place.drop("TEST-1/b.log", b"b")
    place.drop("TEST-1/b.txt", b"b")

    wait_until(lambda: sorted(each["filename"] for each in jira.attachments()) == ["a.part", "a.txt", "b.txt"])
    assert told == "Changed: settle.ignore, limits.issue_files_per_hour.\n"
    assert "config.changed" in logged(place)
    assert (place.inbox / "TEST-1" / "b.log").exists()


def test_files_go_to_the_issue_that_an_alias_means_from_now_on(
    place: Place, jira: Jira, daemon: subprocess.Popen[bytes]
) -> None:
    place.drop("Invoices/a.pdf", b"%PDF %%EOF")
    place.drop("TEST-1/a.txt", b"a")
    wait_until(lambda: len(jira.attachments()) == 1)

    place.configure(jira.url, '[aliases]\n"Invoices" = "TEST-7"')
    reloaded(place)

    wait_until(lambda: [each["issue"] for each in jira.attachments()] == ["TEST-1", "TEST-7"])


def test_a_wrong_one_is_refused_as_a_whole_by_the_verb_and_by_the_service(
    place: Place, jira: Jira, daemon: subprocess.Popen[bytes]
) -> None:
    place.configure(jira.url, 'ignore = ["*.txt"]\nquiet_secs = 5')

    told = reloaded(place, code=78)
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "config.refused" in logged(place))
    place.drop("TEST-1/a.txt", b"a")

    wait_until(lambda: [each["filename"] for each in jira.attachments()] == ["a.txt"])
    assert "settle.quiet_secs" in told
    assert "settle.quiet_secs" in logged(place)


def test_what_needs_a_restart_is_named_and_stays_as_it_was(
    place: Place, jira: Jira, daemon: subprocess.Popen[bytes]
) -> None:
    (place.home / "other").mkdir()
    place.configure(
        jira.url, 'ignore = ["*.bak"]\n[upload]\nparallel = 2', 'inbox = "inbox"\nstate = "state"\ndone = "other"'
    )

    told = reloaded(place)
    place.drop("TEST-1/a.bak", b"a")
    place.drop("TEST-1/a.txt", b"a")

    wait_until(lambda: (place.done / "TEST-1" / "a.txt").exists())
    assert told == ("Changed: settle.ignore.\nNeeds a restart of attachd: folders.done, upload.parallel.\n")
    assert "config.needs_restart" in logged(place)
    assert not list((place.home / "other").iterdir())


def test_the_level_of_the_log_changes_at_once(place: Place, jira: Jira, daemon: subprocess.Popen[bytes]) -> None:
    assert reloaded(place) == "The configuration has not changed.\n"

    place.configure(jira.url, '[log]\nlevel = "debug"')
    reloaded(place)
    place.drop("TEST-1/a.txt", b"a")

    wait_until(lambda: "file.seen" in logged(place))


def test_nothing_is_reloaded_where_nothing_runs(place: Place, jira: Jira) -> None:
    assert place.run("once").returncode == 0

    assert "not running with" in reloaded(place, code=1)


def test_an_upload_goes_on_while_the_configuration_is_read_anew(tmp_path: Path, place: Place, jira: Jira) -> None:
    place.configure(jira.url, "[upload]\nmax_bytes_per_second = 3000000")
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((place.home / "log").open("wb"))
        process = stack.enter_context(place.start(stderr=log))
        try:
            wait_until(lambda: "service.started" in logged(place))
            place.drop("TEST-1/big.bin", bytes(40_000_000))
            wait_until(lambda: "sending" in place.run("status").stdout)
            place.configure(jira.url, "[upload]\nmax_bytes_per_second = 0")
            assert "upload.max_bytes_per_second" in reloaded(place)
            wait_until(lambda: (place.done / "TEST-1" / "big.bin").exists())
        finally:
            process.terminate()
            assert process.wait(30) == 0

    assert [each["filename"] for each in jira.attachments()] == ["big.bin"]


def test_what_was_excluded_is_not_sent_any_more_when_the_verb_has_answered(
    place: Place, jira: Jira, daemon: subprocess.Popen[bytes]
) -> None:
    """Hundreds of files wait in a folder whose alias was wrong; none of them goes there after it was corrected."""
    place.configure(jira.url, '[aliases]\n"Invoices" = "FIN-1"')
    reloaded(place)
    place.run("pause")
    for number in range(800):
        place.drop(f"Invoices/{number}.txt", b"%d" % number)
    wait_until(lambda: "800 waiting" in place.run("status").stdout)

    place.configure(jira.url, '[aliases]\n"Invoices" = "FIN-2"')
    reloaded(place)
    place.run("resume")

    wait_until(lambda: len(jira.attachments()) == 800)
    assert {each["issue"] for each in jira.attachments()} == {"FIN-2"}


def test_once_is_not_disturbed(place: Place, jira: Jira) -> None:
    place.configure(jira.url, "[upload]\nmax_bytes_per_second = 3000000")
    place.drop("TEST-1/big.bin", bytes(20_000_000))
    with subprocess.Popen(place.command("once"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as once:
        wait_until(lambda: "sending" in place.run("status").stdout)
        refused = reloaded(place, code=1)
        assert once.wait(60) == 0

    assert "is not `attachd run`" in refused
    assert [each["filename"] for each in jira.attachments()] == ["big.bin"]
