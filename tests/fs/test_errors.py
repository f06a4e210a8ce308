"""Which errors pass by themselves, and which somebody has to put right."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from attachd import errors
from memory_jira import world


def failed(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "full"), 75),
        (OSError(errno.EDQUOT, "quota"), 75),
        (OSError(errno.EROFS, "read-only"), 75),
        (OSError(errno.EIO, "broken"), 75),
        (OSError(errno.ESTALE, "away"), 75),
        (OSError(errno.EMFILE, "too many"), 75),
        (PermissionError(errno.EACCES, "denied"), 78),
        (OSError(errno.ENOTDIR, "no folder"), 78),
        (failed(sqlite3.SQLITE_FULL), 75),
        (failed(sqlite3.SQLITE_IOERR | 4 << 8), 75),
        (failed(sqlite3.SQLITE_READONLY), 75),
        (failed(sqlite3.SQLITE_CANTOPEN), 75),
        (failed(sqlite3.SQLITE_CORRUPT), 78),
        (failed(sqlite3.SQLITE_NOTADB), 78),
        (ValueError("a bug"), 78),
    ],
)
def test_what_passes_is_tried_again(tmp_path: Path, error: Exception, code: int) -> None:
    assert errors.exit_code(error, tmp_path) == code


@pytest.mark.parametrize(("readonly", "code"), [(False, 78), (True, 75)])
def test_a_right_that_lacks_is_told_from_a_disk_that_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readonly: bool, code: int
) -> None:
    class Status:
        f_flag = os.ST_RDONLY if readonly else 0

    monkeypatch.setattr(os, "statvfs", lambda _: Status)
    monkeypatch.setattr(os, "access", lambda *_: False)

    assert errors.exit_code(failed(sqlite3.SQLITE_CANTOPEN), tmp_path) == code


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EMFILE, "attachd has run out of file descriptors"),
        (errno.ENFILE, "this machine has run out of file descriptors"),
        (errno.ENOMEM, "this machine has run out of memory"),
    ],
)
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_has_run_out_is_said_as_such_and_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str, what: str
) -> None:
    with world(tmp_path) as w:
        w.drop("TEST-1/x.txt")
        opened, name = os.open, b"TEST-1" if what == "folder" else b"x.txt"

        def short(path: object, flags: int, *args: object, **options: object) -> int:
            if path == name:
                raise OSError(code, os.strerror(code))
            return opened(path, flags, *args, **options)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", short)
            reasons = [reason for _, reason in w.scan().troubles] + [row.blocked for row in w.rows()]
        w.work()

        assert [said in (reason or "") and "chmod" not in (reason or "") for reason in reasons] == [True]
        w.deliver()
        assert w.states() == ["DONE"]
