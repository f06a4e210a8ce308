"""What a start refuses, `check` has refused before."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from attachd.clock import Clock
from attachd.errors import Mistake
from attachd.jira import connection as jira_connection
from attachd.service import start
from attachd.setup import check
from memory_jira import SITE, World, world


def _state_is_a_file(w: World) -> None:
    w.end()
    (w.home / "elsewhere").write_text("no folder")
    w.tables["folders"] = {"inbox": str(w.inbox), "state": str(w.home / "elsewhere")}


def _state_below_a_file(w: World) -> None:
    w.end()
    (w.home / "elsewhere").write_text("no folder")
    w.tables["folders"] = {"inbox": str(w.inbox), "state": str(w.home / "elsewhere" / "state")}


def _journal_is_a_folder(w: World) -> None:
    _anew(w)
    (w.home / "state" / "journal.db").mkdir(parents=True)


def _lock_is_a_link(w: World) -> None:
    _anew(w)
    (w.home / "state").mkdir()
    (w.home / "state" / "lock").symlink_to(w.home / "token")


def _journal_is_damaged(w: World) -> None:
    _anew(w)
    (w.home / "state").mkdir()
    (w.home / "state" / "journal.db").write_bytes(b"no journal at all" * 500)


def _journal_is_of_a_later_version(w: World) -> None:
    with w.runtime.journal.transaction() as connection:
        connection.execute("PRAGMA user_version = 99")
    w.end()


def _marker_s_folder_is_a_file(w: World) -> None:
    _anew(w)
    (w.inbox / ".attachd").write_text("x")


def _marker_s_folder_is_a_link(w: World) -> None:
    _anew(w)
    (w.inbox / ".attachd").symlink_to(w.done)


def _no_certificates(w: World) -> None:
    (w.home / "ca.pem").write_text("no certificate")
    auth = {"user": "robot@example.com", "token": {"file": str(w.home / "token")}}
    w.tables["jira"] = {"url": SITE, "auth": auth, "ca_file": str(w.home / "ca.pem")}
    w.end()


def _missing_done(w: World) -> None:
    _anew(w)
    w.done.rmdir()


def _anew(w: World) -> None:
    """As if nobody had worked there yet."""
    w.end()
    for above, folders, files in os.walk(w.home / "state", topdown=False):
        for name in files:
            os.unlink(Path(above, name))
        for name in folders:
            os.rmdir(Path(above, name))
    (w.home / "state").rmdir()
    for name in ("id", "lock"):
        with suppress(FileNotFoundError):
            (w.inbox / ".attachd" / name).unlink()
    (w.inbox / ".attachd").rmdir()


REFUSED = [
    _state_is_a_file,
    _state_below_a_file,
    _journal_is_a_folder,
    _lock_is_a_link,
    _journal_is_damaged,
    _journal_is_of_a_later_version,
    _marker_s_folder_is_a_file,
    _marker_s_folder_is_a_link,
    _no_certificates,
    _missing_done,
]


def _checked(w: World) -> bool:
    """Whether `check` says that it would not work."""
    config = w.configuration()
    assert config.folders.state is not None
    try:
        found = check.inspect(config, config.folders.state, {}, offline=True)
    except Mistake:
        return False
    return not any(finding.result == "failed" for finding in found)


def _start(w: World) -> None:
    """What a service does before its threads begin."""
    held = start.start(w.configuration(), clock=Clock(), environ={})
    try:
        jira_connection.tls_context(held.runtime.config)
    finally:
        held.release()


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__.strip("_"))
def test_check_refuses_what_a_start_refuses(tmp_path: Path, spoil: Callable[[World], None]) -> None:
    with world(tmp_path) as w:
        spoil(w)
        checked = _checked(w)

        with pytest.raises(Mistake):
            _start(w)
        assert not checked


def test_and_passes_what_a_start_passes(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        w.end()

        assert _checked(w)


def test_check_passes_what_a_start_puts_right(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        _anew(w)
        (w.inbox / ".attachd" / "lock").mkdir(parents=True)

        assert _checked(w)
        w.restart()
        assert w.runtime.guard.sight.there
