"""Whatever is not as it should be, everybody who shows how it stands says it: each kind, at each place."""

from __future__ import annotations

import datetime
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from attachd.cli import run
from attachd.delivery import journal_disk
from attachd.journal import database, outbox, pauses
from attachd.journal.pauses import Pause
from attachd.model import Cure, Scope, Unserved
from attachd.report import disk, health, share_texts, share_writer, status, status_text, why, why_lookup
from attachd.report.health import Kind
from attachd.setup import check
from attachd.web.app import Page
from memory_jira import SITE, Fault, World, world

OTHER = "https://jira.other.example.com"


@dataclass(frozen=True)
class Case:
    """How it comes about; what everybody says who may name names, what anybody may read, and the severity."""

    make: Callable[[World, pytest.MonkeyPatch], None]
    says: str
    brief: str
    severity: str = "degraded"
    holds: bool = True


def _paused(scope: Scope, subject: str = "", cure: Cure = Cure.PROBE) -> Callable[[World, pytest.MonkeyPatch], None]:
    def make(w: World, _: pytest.MonkeyPatch) -> None:
        now = w.clock.now()
        held = Pause(scope, subject, f"kind-{scope}", f"reason of {scope}", cure, now, now + 600, 600.0, 1)
        with w.runtime.journal.transaction() as connection:
            pauses.put(connection, held)

    return make


def _disk(w: World, patch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> str:
        return disk.words(folder, "is full")

    w.runtime.journal.note(sqlite3.OperationalError("database or disk is full"))
    patch.setattr(disk, "trouble", full)
    patch.setattr(disk, "low", full)


def _inbox(w: World, _: pytest.MonkeyPatch) -> None:
    (w.inbox / ".attachd" / "id").unlink()
    w.runtime.guard.look()


def _fuse(w: World, _: pytest.MonkeyPatch) -> None:
    w.jira.missing |= {"NO-1", "NO-2", "NO-3"}
    for issue in ("NO-1", "NO-2", "NO-3"):
        w.drop(f"{issue}/a.txt")
    w.deliver()


def _elsewhere(w: World, _: pytest.MonkeyPatch) -> None:
    w.jira.faults = [Fault(commit="all", breaks=httpx.ReadError)]
    w.drop("TEST-9/doubted.txt")
    w.scan()
    w.step()
    w.step()
    with w.runtime.journal.transaction() as connection:
        connection.execute("UPDATE file SET site = ? WHERE state = 'DOUBTFUL'", (OTHER,))


def _meta(key: str, value: object) -> Callable[[World, pytest.MonkeyPatch], None]:
    def make(w: World, _: pytest.MonkeyPatch) -> None:
        with w.runtime.journal.transaction() as connection:
            database.put(connection, key, json.dumps(value))

    return make


def _unrouted(w: World, _: pytest.MonkeyPatch) -> None:
    w.drop("no key/a.txt")
    w.scan()


def _hang(w: World, _: pytest.MonkeyPatch) -> None:
    w.runtime.beats.beat()
    w.clock.advance(1000.0)
    health.note_live(w.runtime.journal, w.runtime.beats.hangs(), None, w.clock.now())


def _page(w: World, _: pytest.MonkeyPatch) -> None:
    w.runtime.page_trouble = Unserved("127.0.0.1:8123", "its port is taken", "choose another", w.clock.now())
    health.note_live(w.runtime.journal, [], w.runtime.page_trouble, w.clock.now())


def _hook(w: World, _: pytest.MonkeyPatch) -> None:
    outbox.begin(w.runtime.journal, ["webhook"])
    with w.runtime.journal.transaction() as connection:
        outbox.put(connection, "stuck", w.clock.now(), {})
    w.clock.advance(3600.0)


def _token(w: World, _: pytest.MonkeyPatch) -> None:
    day = datetime.datetime.fromtimestamp(w.clock.now()).astimezone().date() + datetime.timedelta(days=3)
    auth = {"user": "robot@example.com", "token": {"file": str(w.home / "token")}, "token_expires": day}
    w.tables["jira"] = {"url": SITE, "auth": auth}
    w.restart()


_unlisted = _meta("troubles", {"TEST-7": "Permission denied"})
_blind = _meta("watch.blind", {"/srv/share": "no events"})

CASES: dict[str, Case] = {
    **{
        f"pause of {scope} {subject}".strip(): Case(
            _paused(scope, subject), "paused by hand" if scope is Scope.OPERATOR else f"reason of {scope}",
            f"paused: {scope}, kind-{scope}",
        )
        for scope, subject in (
            *((each, "") for each in (Scope.SITE, Scope.ACCOUNT, Scope.ENDPOINT, Scope.OPERATOR)),
            *((Scope.ISSUE, "TEST-1"), (Scope.PROJECT, "TEST"), (Scope.OPERATOR, "TEST-1")),
        )
    },
    "fuse": Case(_fuse, "NO-1, NO-2, NO-3", "paused: account, fuse", holds=False),
    Kind.DISK: Case(_disk, "the disk of the state folder", "paused: site, journal-disk"),
    Kind.INBOX: Case(_inbox, "has no attachd marker", "the inbox is not there"),
    Kind.HANG: Case(_hang, "MainThread is stuck", "stopped: hang", holds=False),
    Kind.ELSEWHERE: Case(_elsewhere, f"may have arrived at {OTHER}", "degraded: other-site", holds=False),
    Kind.UNLISTED: Case(_unlisted, "permission denied", "degraded: not-listed", holds=False),
    Kind.UNROUTED: Case(_unrouted, "no key", "warning: no-issue", "warning", holds=False),
    Kind.BLIND: Case(_blind, "/srv/share: no events", "warning: blind", "warning", holds=False),
    Kind.TOKEN: Case(_token, "the token expires in 3 days", "warning: token", "warning", holds=False),
    Kind.PAGE: Case(
        _page, "the web page is not available at 127.0.0.1:8123: its port is taken", "warning: page", "warning", holds=False
    ),
    Kind.HOOK: Case(_hook, "the hook webhook has received nothing", "warning: hook", "warning", holds=False),
}  # fmt: skip
#: What a place may say in other words.
OTHERWISE: Mapping[tuple[str, str], str] = {
    ("pause of operator", "status"): "reason of operator",
    ("pause of operator", "status --json"): "reason of operator",
    ("pause of operator TEST-1", "status line"): "paused by hand: TEST-1",
    ("pause of operator TEST-1", "status"): "reason of operator",
    ("pause of operator TEST-1", "status --json"): "reason of operator",
    (Kind.INBOX, "status line"): "the inbox is not there",
    (Kind.HANG, "page"): "MainThread has been stuck for",
}


def places(w: World) -> dict[str, str]:
    """What is said where."""
    state = w.home / "state"
    engine: Any = SimpleNamespace(runtime=w.runtime, intake=SimpleNamespace(scanned_at=None))
    page = Page(engine, state, SimpleNamespace(form="f"), threading.Event())  # type: ignore[arg-type]
    request: Any = SimpleNamespace(query_params={})
    with closing(database.open_for_reading(state) or w.runtime.journal) as reading:
        found = status.collect(w.runtime.config, state, reading, w.clock.now())
    checked = check.inspect(w.runtime.config, state, {}, offline=True)
    return {
        "status": "\n".join(status_text.lines(found, w.clock.now())),
        "status --json": json.dumps(found["conditions"], ensure_ascii=False) + json.dumps(found["pauses"]),
        "check": "\n".join(f"{each.what} {each.result} {each.detail} {each.remedy}" for each in checked),
        "page": bytes(page.page(request).body).decode(),
        "status line": run._status_line(engine),
        "_STATUS.txt": "\n".join(share_texts.status(share_writer.gather(w.runtime), running=True)),
    }


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    # `check` and `status` look at the same clock as the world.
    monkeypatch.setattr("attachd.setup.check.Clock", lambda: w.clock)
    with world(
        tmp_path,
        folders={"inbox": str(tmp_path / "inbox"), "state": str(tmp_path / "state"), "projects": ["TEST", "NO"]},
    ) as w:
        yield w


@pytest.mark.parametrize("kind", CASES)
def test_every_kind_is_said_everywhere(own: World, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, w = CASES[kind], own
    case.make(w, monkeypatch)

    said = places(w)
    engine: Any = SimpleNamespace(runtime=w.runtime, intake=SimpleNamespace(scanned_at=None))
    page = Page(engine, w.home / "state", SimpleNamespace(form="f"), threading.Event())  # type: ignore[arg-type]
    folder_key: Any = None
    ready = bytes(page.readiness(folder_key).body).decode()
    metrics = bytes(page.metrics(folder_key).body).decode()

    missing = [
        place for place, text in said.items() if OTHERWISE.get((kind, place), case.says).lower() not in text.lower()
    ]
    assert missing == [], said
    assert case.brief in ready.splitlines()
    assert ready.startswith("ready\n" if case.severity == "warning" else "degraded\n")
    metric = case.brief.rpartition(", ")[2].rpartition(": ")[2].replace("the inbox is not there", "inbox")
    assert f'attachd_condition{{kind="{metric}"' in metrics
    if case.brief.startswith("paused"):
        scope = case.brief.split()[1].strip(",")
        assert f'attachd_paused{{reason="{metric}",scope="{scope}"}} 1.0' in metrics


@pytest.mark.parametrize("kind", [kind for kind, case in CASES.items() if case.holds])
@pytest.mark.parametrize("seen", [True, False])
def test_why_says_what_holds_a_file(own: World, kind: str, seen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    w, case = own, CASES[kind]
    if not seen and kind not in (Kind.DISK, Kind.INBOX):
        return
    w.drop("TEST-1/waits.txt")
    if seen:
        w.scan()
    case.make(w, monkeypatch)

    with closing(database.open_for_reading(w.home / "state") or w.runtime.journal) as reading:
        around = why_lookup.circumstances(w.runtime.config, w.home / "state", reading, w.clock)
        ((name, found),) = why_lookup.Locator(w.runtime.config, reading).about(
            os.fsencode(w.inbox / "TEST-1/waits.txt"), b"/"
        )
        answer = why.explain(os.fsdecode(name), found, around)

    says = "TEST-1 has been paused by hand" if kind == "pause of operator TEST-1" else case.says
    assert says in answer.sentence
    assert "has not seen" not in answer.sentence


def test_no_kind_is_forgotten_here() -> None:
    # The journal that cannot be read at all is tried below.
    assert {Kind(each) for each in CASES if each in set(Kind)} == set(Kind) - {Kind.JOURNAL}
    assert set(health.LABELS) == set(Kind)


def test_a_service_that_is_well_says_nothing(own: World) -> None:
    assert health.of_runtime(own.runtime) == []
    engine: Any = SimpleNamespace(runtime=own.runtime, intake=SimpleNamespace(scanned_at=None))
    page = Page(engine, own.home / "state", SimpleNamespace(form="f"), threading.Event())  # type: ignore[arg-type]
    folder_key: Any = None
    assert page.readiness(folder_key).body == b"ready\n"
    assert page.health(folder_key).body == b"ok\n"


def test_a_journal_that_cannot_be_read_is_said_by_who_knows_it(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(own.runtime.reader, "rows", fails)
    (found,) = health.of_runtime(own.runtime)

    assert (found.kind, found.severity) == (Kind.JOURNAL, health.Severity.STOPPED)
    assert "database or disk is full" in found.sentence


# --- The disk of the journal ------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_once_and_its_end_too_also_to_hooks(own: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w = own
    outbox.begin(w.runtime.journal, ["webhook"])
    logged: list[str] = []
    monkeypatch.setattr(journal_disk, "log", SimpleNamespace(
        error=lambda event, **_: logged.append(event), info=lambda event, **_: logged.append(event)))  # fmt: skip
    w.drop("TEST-1/a.txt")
    w.scan()
    usual = w.runtime.journal.transaction

    def full(**_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(w.runtime.journal, "transaction", full)
        for _ in range(5):
            assert not w.step()
        held = [each.kind for each in health.of_runtime(w.runtime)]
        w.clock.advance(w.runtime.config.limits.remind_hours * 3600 + 1)
        w.step()
    assert w.runtime.journal.transaction == usual
    w.work()

    assert held == [Kind.DISK]
    assert logged == ["journal.full", "journal.full", "journal.writable"]
    assert [each.kind for each in health.of_runtime(w.runtime)] == [Kind.HOOK]
    assert w.jira.names("TEST-1") == ["a.txt"]
    told = [each.kind for each in outbox.after(w.runtime.journal, "webhook", 10)]
    assert [kind for kind in told if kind != "attached"] == ["paused", "resumed"]


def test_a_trial_leaves_nothing_and_says_what_the_disk_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.trouble(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []

    def quota(*_: object) -> int:
        raise OSError(122, "Disk quota exceeded")

    monkeypatch.setattr("os.write", quota)
    said = disk.trouble(tmp_path)

    assert "quota" in said
    assert f"{tmp_path}" in said
    assert " free)" in said
    assert list(tmp_path.iterdir()) == []


def test_a_loop_that_waits_while_the_machine_sleeps_has_not_hung(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.runtime.beats.beat()
        w.clock.sleep(2 * 86_400.0)
        assert w.runtime.beats.hangs() == []

        w.clock.advance(1000.0)
        assert [hang.loop for hang in w.runtime.beats.hangs()] == ["MainThread"]
