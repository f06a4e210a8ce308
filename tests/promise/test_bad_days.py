"""What is promised of many files and of a bad day, shown: floods, a token that expires, folders that no issue has.

Jira is the stand-in over a socket, whose limits obey the clock that the tests move; the one flood of 10,000 files is in
the small world of ``world.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from attachd.model import State
from attachd.service import worker
from memory_jira import world
from socket_jira import Wired, called, wired

FILES = 2000
NO_QUOTA = {"issue_files_per_hour": 0}


def flood(w: Wired, folder: str, files: int) -> None:
    for number in range(files):
        w.drop(f"{folder}/{number:05}.txt", b"%d" % number)


def work_until(w: Wired, seconds: float, step: float, most: int) -> bool:
    """Scan once, then work as time passes; False if something is left after so many seconds, or *most* uploads."""
    w.scan()
    for _ in range(round(seconds / step)):
        while w.step():
            if len(w.uploads()) > most:
                return False
        if not w.runtime.journal.rows("SELECT 1 FROM file WHERE finished_at IS NULL LIMIT 1"):
            return True
        w.clock.advance(step)
    return False


def once_each(w: Wired, issue: str, files: int) -> None:
    """Every file of a flood is on the issue, once, and in its folder of ``done``."""
    assert Counter(w.contents(issue)) == Counter(b"%d" % number for number in range(files))
    assert Counter(row.state for row in w.of(issue)) == {State.DONE: files}
    assert len(w.files(w.done)) == files


# --- Floods ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Wired]:
    """A Cloud that enforces its limits."""
    with wired(tmp_path, limits=NO_QUOTA) as made:
        made.jira.store.limits = True
        yield made


def test_2000_small_files_take_at_most_40_requests_and_meet_no_limit(strict: Wired) -> None:
    flood(strict, "TEST-1", FILES)

    assert work_until(strict, 600.0, 0.5, most=40)

    assert {upload.status for upload in strict.uploads()} == {200}
    once_each(strict, "TEST-1", FILES)


def test_2000_small_files_arrive_once_each_where_jira_counts_files(strict: Wired) -> None:
    """100 files in 30 s make ten minutes; an hour is enough for what has to be found out first.

    They still share requests: 20 files in one are granted, so that 100 requests could do, and 200 are plenty.
    """
    strict.jira.store.count_files_as_writes = True
    flood(strict, "TEST-1", FILES)

    assert work_until(strict, 3600.0, 2.0, most=200)

    assert len(strict.uploads()) > 40
    once_each(strict, "TEST-1", FILES)


def test_10000_files_in_one_folder_delay_a_file_of_another_by_one_request_at_most(tmp_path: Path) -> None:
    with world(tmp_path, limits=NO_QUOTA) as w:
        for number in range(10_000):
            w.drop(f"TEST-1/{number:05}.txt", b"%d" % number)
        w.scan()
        w.step()
        w.drop("ZZZ-9/one.txt", b"one")
        w.scan()
        before = len(w.jira.uploads)

        while w.row("ZZZ-9/one.txt").state is State.READY:
            assert w.step()

        assert len(w.jira.uploads) - before <= 2
        assert w.jira.names("ZZZ-9") == ["one.txt"]


# --- A token that expires -------------------------------------------------------------------------------------------

WORKERS = 4


def crew_works(w: Wired) -> None:
    """As many workers as ``upload.parallel`` do, side by side, what there is to do now."""

    def until_idle(client: object) -> None:
        while worker.step(w.runtime, client):  # type: ignore[arg-type]
            pass

    with ExitStack() as stack, ThreadPoolExecutor(WORKERS) as crew:
        clients = [stack.enter_context(closing(w.connect())) for _ in range(WORKERS)]
        list(crew.map(until_idle, clients))


@pytest.mark.parametrize("site", ["Cloud", "Server"])
def test_an_expired_token_moves_nothing_and_a_new_one_lets_everything_flow(tmp_path: Path, site: str) -> None:
    with wired(tmp_path, deployment=site, upload={"parallel": WORKERS}) as w:
        w.jira.store.auto_issues = True
        w.meet()
        w.jira.store.token = "new"
        for number in range(500):
            w.drop(f"TEST-{number % 50 + 1}/{number}.txt", b"%d" % number)
        w.scan()
        crew_works(w)
        assert 1 <= len(w.uploads()) <= WORKERS
        w.count_anew()

        for _ in range(60):
            w.clock.advance(10.0)
            crew_works(w)

        assert (len(w.uploads()), w.files(w.done), w.files(w.failed)) == (0, {}, {})
        assert len(w.files(w.inbox)) == 500
        assert len(w.seen()) < 10
        assert {called(request) for request in w.seen()} <= {"myself", "serverInfo"}
        w.write_token("new")
        for _ in range(60):
            w.clock.advance(10.0)
            crew_works(w)
        assert (len(w.files(w.done)), w.paused()) == (500, "")
        assert sorted(it.path.read_bytes() for it in w.jira.store.all_attachments()) == sorted(
            b"%d" % number for number in range(500)
        )


# --- Folders that no issue has --------------------------------------------------------------------------------------


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Wired]:
    """A good token, and nothing delivered yet."""
    with wired(tmp_path) as made:
        made.meet()
        yield made


def accepted(w: Wired, path: str) -> bool:
    """Whether a good file is delivered at once."""
    w.clock.advance(1.0)
    w.drop(path, b"good")
    w.deliver()
    return w.row(path).state is State.DONE


def test_a_mistyped_folder_is_refused_at_once_where_an_issue_bears_witness(quiet: Wired) -> None:
    assert accepted(quiet, "TEST-1/witness.txt")
    for key in ("TSET-1", "TEST-99", "TEST-100", "XX-5"):
        quiet.drop(f"{key}/a.txt", b"a")

    quiet.deliver()

    assert [quiet.stand(key) for key in ("TSET-1", "TEST-99", "TEST-100", "XX-5")] == ["failed"] * 4
    assert quiet.paused() == ""
    assert accepted(quiet, "TEST-1/next.txt")


def test_a_mistyped_folder_of_many_files_costs_one_upload(quiet: Wired) -> None:
    assert accepted(quiet, "TEST-1/witness.txt")
    flood(quiet, "TEST-99", 50)
    quiet.count_anew()

    quiet.settle(hours=1)

    assert quiet.stand("TEST-99") == " ".join(["failed"] * 50)
    assert len(quiet.uploads()) == 1


@pytest.mark.parametrize("keys", [["TSET-1"], ["TSET-1", "TEST-99"]])
def test_mistyped_folders_without_a_witness_are_refused_after_the_hold(quiet: Wired, keys: list[str]) -> None:
    for key in keys:
        quiet.drop(f"{key}/a.txt", b"a")
    quiet.deliver()
    assert [quiet.stand(key) for key in keys] == ["held"] * len(keys)
    assert quiet.paused() == ""

    quiet.clock.advance(121.0)
    quiet.deliver()

    assert [quiet.stand(key) for key in keys] == ["failed"] * len(keys)


def test_three_mistyped_folders_without_a_witness_are_held_for_the_operator_and_stop_nothing(quiet: Wired) -> None:
    keys = ["TSET-1", "TEST-99", "XX-5"]
    for key in keys:
        quiet.drop(f"{key}/a.txt", b"a")
    quiet.settle(hours=3)
    assert [quiet.stand(key) for key in keys] == ["held"] * 3
    assert len(quiet.uploads()) == 3
    assert quiet.paused() == ""

    assert accepted(quiet, "TEST-1/good.txt")
    quiet.deliver()

    assert [quiet.stand(key) for key in keys] == ["failed"] * 3


# --- A role that is lost --------------------------------------------------------------------------------------------


def pass_hours(w: Wired, hours: float) -> None:
    for _ in range(round(hours * 6)):
        w.clock.advance(600.0)
        w.deliver()


def test_a_role_lost_on_the_only_project_moves_nothing_for_a_day_and_is_then_believed(quiet: Wired) -> None:
    issues = ["TEST-1", "TEST-2", "TEST-3"]
    assert accepted(quiet, "TEST-1/before.txt")
    before = quiet.files(quiet.done)
    quiet.jira.store.read_only = {"TEST"}
    for issue in issues:
        quiet.drop(f"{issue}/a.txt", b"a")
        quiet.drop(f"{issue}/b.txt", b"bb")
    quiet.deliver()

    pass_hours(quiet, 23.5)
    assert (quiet.files(quiet.failed), quiet.files(quiet.done)) == ({}, before)
    assert "project:TEST:forbidden" in quiet.paused()
    pass_hours(quiet, 8)

    assert {row.state for issue in issues for row in quiet.of(issue) if row.path.endswith((b"a.txt", b"b.txt"))} == {
        State.FAILED
    }


def test_a_role_that_comes_back_within_the_day_loses_nothing(quiet: Wired) -> None:
    quiet.jira.store.read_only = {"TEST"}
    for issue in ("TEST-1", "TEST-2", "TEST-3"):
        quiet.drop(f"{issue}/a.txt", b"a")
    pass_hours(quiet, 20)
    quiet.jira.store.read_only = set()

    pass_hours(quiet, 4)

    assert [quiet.stand(issue) for issue in ("TEST-1", "TEST-2", "TEST-3")] == ["attached"] * 3
    assert quiet.paused() == ""
