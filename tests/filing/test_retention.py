"""Retention: by age, what Jira has just been found to hold, and never anything else."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from attachd.filing import retention as filing_retention
from attachd.fs import removal
from attachd.fs.recognition import Found, Identity
from attachd.journal import retention
from attachd.journal.retention import Walk
from attachd.model import State
from attachd.service import worker
from attachd.setup import check, check_disk
from attachd.standin import Fault
from socket_jira import Wired, wired

DAY = 86_400.0


@pytest.fixture(autouse=True)
def _all_that_is_logged() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    return made


@pytest.fixture
def w(home: Path) -> Iterator[Wired]:
    with wired(home, retention={"done_days": 30, "failed_days": 30, "history_days": 60}) as made:
        yield made


def attached(w: Wired, *paths: str) -> None:
    for path in paths:
        w.drop(path, path.encode())
    w.deliver()
    assert {row.state for row in w.rows()} == {State.DONE}


def refused(w: Wired, path: str, content: bytes = b"no") -> None:
    body = '{"errorMessages": ["No."], "errors": {}}'
    w.jira.faults.add(Fault("status", status=400, body=body, content_type="application/json"))
    w.drop(path, content)
    w.deliver()
    assert (w.failed / path).exists()


def later(w: Wired, days: float, steps: int = 12) -> list[str]:
    """So many days later: what was logged while there was something to do."""
    w.clock.advance(days * DAY)
    with capture_logs() as lines:
        for _ in range(steps):
            w.clock.advance(filing_retention.REST_SECONDS)
            w.step()
    return [line["event"] for line in lines]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_old_and_in_jira_goes_and_what_is_younger_stays(w: Wired) -> None:
    attached(w, "TEST-1/old.txt")
    w.clock.advance(20 * DAY)
    attached(w, "TEST-1/young.txt")

    logged = later(w, 11)

    assert names(w.done) == ["TEST-1/young.txt"]
    assert logged.count("file.deleted") == 1
    row = w.row("TEST-1/old.txt")
    assert (row.state, row.target) == (State.DONE, None)
    assert row.reason == "deleted from done after 31 days, because Jira has it"


def test_what_jira_does_not_have_any_more_is_kept_and_said(w: Wired) -> None:
    attached(w, "TEST-1/a.txt", "TEST-1/b.txt")
    w.jira.store.delete(w.row("TEST-1/a.txt").attachment or "")

    logged = later(w, 31)

    assert names(w.done) == ["TEST-1/a.txt"]
    assert sorted(event for event in logged if event.startswith("file.")) == ["file.deleted", "file.kept"]


def test_what_was_kept_is_looked_at_again_a_month_later(w: Wired) -> None:
    attached(w, "TEST-1/a.txt")
    w.jira.store.invisible.add("TEST-1")
    assert "file.kept" in later(w, 31)
    w.jira.store.invisible.clear()
    assert "file.deleted" not in later(w, 1)

    assert "file.deleted" in later(w, 30)

    assert names(w.done) == []


@pytest.mark.parametrize(
    "fault",
    [Fault("status", status=503, where="attachment", times=-1), Fault("html200", where="attachment", times=-1),
     Fault("proxy413", where="attachment", times=-1), Fault("reset", where="attachment", times=-1),
     Fault("status", status=404, body="nothing here", where="attachment", times=-1)],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)  # fmt: skip
def test_where_jira_does_not_answer_nothing_is_deleted_and_nothing_called_missing(w: Wired, fault: Fault) -> None:
    attached(w, "TEST-1/a.txt")
    w.jira.faults.add(fault)

    logged = later(w, 31, steps=3)

    assert names(w.done) == ["TEST-1/a.txt"]
    assert "file.kept" not in logged
    w.jira.faults.clear()
    assert "file.deleted" in later(w, 1)


@pytest.mark.parametrize("change", ["rewritten", "replaced"])
def test_what_is_no_longer_what_was_sent_stays(w: Wired, change: str) -> None:
    attached(w, "TEST-1/a.txt")
    path = w.done / "TEST-1" / "a.txt"
    times = path.stat().st_mtime_ns
    content = path.read_bytes()[::-1] if change == "rewritten" else b"longer than it was before"
    path.write_bytes(content)
    os.utime(path, ns=(times, times))

    later(w, 31)

    assert path.read_bytes() == content
    assert w.row("TEST-1/a.txt").target == b"TEST-1/a.txt"


def test_what_a_program_has_open_for_writing_stays_until_it_has_closed_it(w: Wired) -> None:
    attached(w, "TEST-1/a.txt")
    path = w.done / "TEST-1" / "a.txt"
    times = path.stat().st_mtime_ns
    with path.open("r+b", buffering=0) as program:
        assert "file.deleted" not in later(w, 31)
        program.write(path.read_bytes()[::-1])
        os.utime(path, ns=(times, times))

    later(w, 1)
    assert names(w.done) == ["TEST-1/a.txt"]


def test_and_goes_with_the_next_look_if_nothing_was_written(w: Wired) -> None:
    attached(w, "TEST-1/a.txt")
    with (w.done / "TEST-1" / "a.txt").open("r+b"):
        later(w, 31)
        assert names(w.done) == ["TEST-1/a.txt"]

    assert "file.deleted" in later(w, 31)


def test_a_younger_file_of_the_same_name_and_content_has_its_own_time(w: Wired) -> None:
    w.drop("TEST-1/report.txt", b"the same each day")
    w.deliver()
    (w.done / "TEST-1" / "report.txt").unlink()
    w.clock.advance(29 * DAY)
    w.drop("TEST-1/report.txt", b"the same each day")
    w.deliver()

    later(w, 2)
    assert names(w.done) == ["TEST-1/report.txt"]

    assert "file.deleted" in later(w, 29)


@pytest.mark.parametrize("meanwhile", ["it runs", "it is started again", "the machine is"])
def test_a_clock_that_was_set_ahead_makes_nothing_old(w: Wired, meanwhile: str) -> None:
    attached(w, "TEST-1/a.txt")
    refused(w, "TEST-1/no.txt")
    w.clock.time += 4000 * DAY
    if meanwhile == "the machine is":
        w.clock.reboot()
    if meanwhile != "it runs":
        w.restart()

    assert "file.deleted" not in later(w, 1)
    assert len(w.rows()) == 2

    w.clock.time -= 4000 * DAY
    assert "file.deleted" in later(w, 30)


@pytest.mark.parametrize("which", ["done", "failed"])
def test_a_folder_that_is_not_mounted_proves_nothing(w: Wired, which: str) -> None:
    attached(w, "TEST-1/a.txt")
    refused(w, "TEST-1/no.txt")
    folder: Path = getattr(w, which)
    away = folder.rename(w.home / "away")
    folder.mkdir()

    later(w, 100)

    assert {row.path for row in w.rows()} >= ({b"TEST-1/a.txt"} if which == "done" else {b"TEST-1/no.txt"})
    folder.rmdir()
    away.rename(folder)
    if which == "done":
        assert "file.deleted" in later(w, 31)


def test_while_the_inbox_is_away_nothing_is_done(w: Wired) -> None:
    attached(w, "TEST-1/a.txt")
    (w.inbox / ".attachd" / "id").unlink()
    w.runtime.guard.look()

    later(w, 100)

    assert names(w.done) == ["TEST-1/a.txt"]
    assert len(w.rows()) == 1
    assert worker.idle_seconds(w.runtime) > 1.0, "the worker does not sleep"


@pytest.mark.parametrize("trouble", ["hidden", "locked"])
def test_one_file_holds_up_no_other(w: Wired, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    attached(w, "TEST-1/a.txt", "TEST-2/b.txt")
    if trouble == "hidden":
        body = '{"errorMessages": ["You may not see it."], "errors": {}}'
        w.jira.faults.add(
            Fault("status", status=403, body=body, content_type="application/json", where="attachment", times=1)
        )
    else:
        real = removal.clear

        def clear(root: Path, target: bytes, identity: Identity) -> Found:
            if target == b"TEST-1/a.txt":
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(root, target, identity)

        monkeypatch.setattr(removal, "clear", clear)

    logged = later(w, 31)

    assert names(w.done) == ["TEST-1/a.txt"]
    assert ("file.kept" if trouble == "hidden" else "file.not_deleted") in logged


def test_data_center_says_no_id_of_an_attachment_that_is_asked_for(home: Path) -> None:
    with wired(home, deployment="Server", retention={"done_days": 30}) as w:
        attached(w, "TEST-1/a.txt")
        body = '{"self": "x", "filename": "a.txt", "size": 12, "author": {"name": "demo"}}'
        w.jira.faults.add(Fault("status", status=200, body=body, content_type="application/json", where="attachment"))

        assert "file.deleted" in later(w, 31)


def test_a_dry_run_says_it_once_and_deletes_nothing(home: Path) -> None:
    with wired(home, retention={"done_days": 30, "history_days": 31, "dry_run": True}) as w:
        attached(w, "TEST-1/a.txt")

        logged = later(w, 40)

        assert logged.count("file.would_be_deleted") == 1
        assert names(w.done) == ["TEST-1/a.txt"]
        assert len(w.rows()) == 1
        w.tables["retention"]["dry_run"] = False
        w.restart()
        w.scan()
        assert "file.deleted" in later(w, 0)


def test_without_days_jira_is_not_asked(home: Path) -> None:
    with wired(home) as w:
        attached(w, "TEST-1/a.txt")
        w.count_anew()

        later(w, 4000)

        assert w.requests() == ""
        assert names(w.done) == ["TEST-1/a.txt"]


def test_a_failed_file_goes_only_when_its_content_is_on_the_issue_by_now(w: Wired) -> None:
    refused(w, "TEST-1/by-hand.txt", b"given by hand")
    refused(w, "TEST-1/never.txt", b"given by nobody")
    w.jira.store.attach("TEST-1", "another name.txt", b"given by hand")

    later(w, 31)

    assert names(w.failed) == ["TEST-1/never.txt", "TEST-1/never.txt.why.txt"]


def test_unfinished_files_are_nobodys_to_delete(w: Wired) -> None:
    w.jira.faults.add(Fault("status", status=503, times=-1))
    w.drop("TEST-1/waits.txt", b"waits")
    w.deliver()

    later(w, 4000, steps=3)

    assert names(w.inbox / "TEST-1") == ["waits.txt"]
    assert len(w.unfinished()) == 1


def test_the_history_is_forgotten_but_for_what_is_still_needed(w: Wired) -> None:
    attached(w, "TEST-1/a.txt", "TEST-1/kept.txt")
    refused(w, "TEST-1/no.txt")
    w.jira.store.delete(w.row("TEST-1/kept.txt").attachment or "")

    later(w, 31)
    logged = later(w, 30)

    assert {row.path for row in w.rows()} == {b"TEST-1/kept.txt", b"TEST-1/no.txt"}
    assert "history.forgotten" in logged


@pytest.mark.parametrize("at", ["before the name is gone", "after the name is gone"])
def test_killed_while_it_deletes_it_goes_on(w: Wired, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    attached(w, "TEST-1/a.txt")

    class Killed(BaseException):
        pass

    real = removal.settle

    def settle(*arguments: object, filed: bool, **more: object) -> None:
        if filed and not (w.done / "TEST-1" / "a.txt").exists() and at.startswith("before"):
            raise Killed
        real(*arguments, filed=filed, **more)  # type: ignore[arg-type]
        if not (w.done / "TEST-1" / "a.txt").exists():
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(removal, "settle", settle)
        with pytest.raises(Killed):
            later(w, 31)
    w.restart()
    w.deliver()

    later(w, 1)

    assert names(w.done) == []
    assert w.row("TEST-1/a.txt").state is State.DONE


def test_a_walk_passes_over_many_that_have_no_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_CHUNK", 3)
    with wired(home) as w:
        attached(w, *(f"TEST-1/{number}.txt" for number in range(10)))
        walk = Walk("retention.done", State.DONE, w.clock.now() + 1)
        with w.runtime.journal.transaction() as connection:
            connection.execute("UPDATE file SET target = NULL, root = NULL WHERE id <> 9")

            came_to = [retention.find(connection, walk, w.clock.now()) for _ in range(3)]
            assert came_to[-1].row is not None
            retention.passed(connection, walk, came_to[-1].row)

            assert [(each.row and each.row.id, each.more) for each in came_to] == [
                (None, True),
                (None, True),
                (9, True),
            ]
            assert retention.find(connection, walk, w.clock.now()) == retention.Next(None, more=False)


# --- check ------------------------------------------------------------------------------------------------------------


def told(w: Wired) -> dict[str, str]:
    found = check.inspect(w.runtime.config, w.home / "state", {}, offline=True)
    return {each.what: f"{each.result}: {each.detail}" for each in found if each.what in ("growth", "retention")}


def test_check_says_how_fast_done_grows_and_what_is_older_than_its_time(
    w: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "Clock", lambda: w.clock)
    attached(w, "TEST-1/a.txt")
    assert set(told(w)) == {"retention"}, "of the first day nothing can be said"
    w.clock.advance(7 * DAY)
    w.drop("TEST-1/b.bin", bytes(7 * 1024 * 1024 - 12))
    w.deliver()

    said = told(w)

    assert said["growth"].startswith("ok: done grows by 2 files (7.0 MiB) a week; ")
    assert said["retention"] == "ok: 0 files (0 bytes) in failed are older than 30 days"
    w.clock.advance(25 * DAY)
    with w.runtime.journal.transaction_for_reading() as connection:
        assert retention.overdue(connection, State.DONE, w.clock.now() - 30 * DAY) == (1, 12)


def test_check_warns_before_the_disk_is_full(w: Wired) -> None:
    free = os.statvfs(w.done).f_bavail * os.statvfs(w.done).f_frsize

    found = check_disk.growth(retention.Growth(28.0, 28, free * 2), w.done)

    assert found.result == "warning"
    assert "enough for 14 days" in found.detail
    assert "retention.done_days" in found.remedy


# --- What Jira really holds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deployment", ["Cloud", "Server"])
def test_other_bytes_of_the_same_id_and_size_are_no_reason_to_delete(home: Path, deployment: str) -> None:
    with wired(home, deployment=deployment, retention={"done_days": 30}) as w:
        attached(w, "TEST-1/a.txt", "TEST-1/b.txt")
        (it,) = (it for it in w.on("TEST-1") if it.filename == "a.txt")
        it.path.unlink()
        it.path.write_bytes(b"x" * it.size)

        logged = later(w, 31)

        assert names(w.done) == ["TEST-1/a.txt"]
        assert ("file.kept" in logged, "file.deleted" in logged) == (True, True)


def test_where_contents_are_closed_to_us_nothing_is_deleted_and_that_is_said_once(home: Path) -> None:
    with wired(home, deployment="Server", retention={"done_days": 30, "failed_days": 30}) as w:
        w.jira.store.secure_schemes = set()
        attached(w, "TEST-1/a.txt", "TEST-1/b.txt")
        refused(w, "TEST-1/failed.txt")

        logged = later(w, 31, steps=30)

        assert names(w.done) == ["TEST-1/a.txt", "TEST-1/b.txt"]
        assert [event for event in logged if event.startswith("deletion.") or "deleted" in event] == [
            "deletion.blocked"
        ]
        w.restart()
        w.scan()
        assert "deletion.blocked" not in later(w, 1)
        found = [
            each for each in check_disk.find(w.runtime.config, w.home / "state", w.clock) if each.what == "retention"
        ]
        assert "warning" in {each.result for each in found}
        assert "deletes nothing" in found[0].detail
        w.jira.store.secure_schemes = {"basic"}
        assert "file.deleted" in later(w, 2)
        assert names(w.done) == []


@pytest.mark.parametrize("fault", [Fault("status", status=503), Fault("status", status=429), Fault("reset")])
def test_a_content_that_cannot_be_read_now_deletes_nothing(w: Wired, fault: Fault) -> None:
    attached(w, "TEST-1/a.txt")
    w.jira.faults.add(replace(fault, where="content", times=-1))

    logged = later(w, 31)

    assert names(w.done) == ["TEST-1/a.txt"]
    assert not {"file.kept", "file.deleted", "deletion.blocked"} & set(logged)
    w.jira.faults.clear()
    assert "file.deleted" in later(w, 1)


def test_what_was_read_for_a_doubt_is_read_again_before_anything_is_deleted(w: Wired) -> None:
    w.jira.faults.add(Fault("reset"))
    w.drop("TEST-1/a.txt", b"bytes")
    w.settle(hours=1)
    assert w.stand() == "attached"
    (it,) = w.on("TEST-1")
    it.path.unlink()
    it.path.write_bytes(b"other")

    later(w, 31)

    assert names(w.done) == ["TEST-1/a.txt"]
