"""A file that cannot be moved stays, and a sentence says what an administrator has to change."""

from __future__ import annotations

import codecs
import errno
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from attachd.fs import move, permissions, rename
from attachd.fs.move import Group, Outcome, Stuck
from attachd.fs.recognition import Identity
from fs.test_move import SOURCE, Folders, across

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    folders = Folders(tmp_path / "inbox", tmp_path / "done")
    folders.done.chmod(0o777)
    return folders


def stuck_as_nobody(folders: Folders, identity: Identity) -> str:
    """Move as a user without rights; return why it could not be done, and check that nothing happened."""
    reason = as_nobody(folders.inbox.parent, lambda: reason_of(identity))
    assert len(folders.waiting) == 1
    assert folders.filed == {}
    return reason


def reason_of(identity: Identity) -> str:
    outcome = move.move(Path("inbox"), SOURCE, Path("done"), SOURCE, identity, Group())
    return outcome.reason if isinstance(outcome, Stuck) else outcome.name


def as_nobody(start: Path, action: Callable[[], str]) -> str:
    """Act in a child, from a folder that nobody could walk to (the rest of the way is root's own)."""
    codecs.lookup("ascii")  # The child could not import it from a Python in root's home.
    read, write = os.pipe()
    if not (child := os.fork()):
        try:
            os.chdir(start)
            start.chmod(0o755)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(write, action().encode())
            os._exit(0)
        finally:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    os.close(write)
    with open(read, encoding="utf-8") as answer:
        text = answer.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return text


def test_a_folder_that_others_may_not_change(folders: Folders) -> None:
    identity = folders.drop()
    (folders.inbox / "TEST-1").chmod(0o755)

    assert stuck_as_nobody(folders, identity) == (
        "the folder inbox/TEST-1 (owner root, mode drwxr-xr-x) may not be changed by attachd, which runs as nobody: "
        "give its group the right to write (chmod g+rwx)"
    )


def test_a_folder_with_the_sticky_bit(folders: Folders) -> None:
    identity = folders.drop()
    (folders.inbox / "TEST-1").chmod(0o1777)

    assert stuck_as_nobody(folders, identity) == (
        "the folder inbox/TEST-1 (owner root, mode drwxrwxrwt) has the sticky bit: only root, who owns the file (owner "
        "root, mode -rw-r--r--), may take it out; remove the bit (chmod -t)"
    )


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_nothing_is_copied_from_a_folder_that_would_keep_it(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    monkeypatch.setattr(rename, "rename_noreplace", across)
    identity = folders.drop()
    (folders.inbox / "TEST-1").chmod(mode)

    assert "the folder inbox/TEST-1 (owner root" in stuck_as_nobody(folders, identity)


def test_a_folder_that_others_may_not_open(folders: Folders) -> None:
    identity = folders.drop()
    (folders.inbox / "TEST-1").chmod(0o700)

    assert stuck_as_nobody(folders, identity) == (
        "the folder inbox/TEST-1 may not be opened by attachd, which runs as nobody"
    )


def test_a_done_folder_that_others_may_not_change(folders: Folders) -> None:
    identity = folders.drop()
    (folders.inbox / "TEST-1").chmod(0o777)
    folders.done.chmod(0o755)

    assert stuck_as_nobody(folders, identity).startswith(
        "the folder done (owner root, mode drwxr-xr-x) may not be changed"
    )


def test_a_file_that_must_be_read_to_be_known(folders: Folders) -> None:
    identity = replace(folders.drop(), inode=None)
    (folders.inbox / "TEST-1").chmod(0o777)
    (folders.inbox / "TEST-1/report.pdf").chmod(0o600)

    assert stuck_as_nobody(folders, identity) == (
        "the file (owner root, mode -rw-------) may not be read by attachd, which runs as nobody (chmod g+r)"
    )


def test_who_may_change_the_folder_may_move_the_files_of_others(folders: Folders) -> None:
    identity = folders.drop()
    (folders.inbox / "TEST-1").chmod(0o777)
    (folders.inbox / "TEST-1/report.pdf").chmod(0o600)

    assert as_nobody(folders.inbox.parent, lambda: reason_of(identity)) == "MOVED"


def test_but_not_to_another_device_without_reading_them(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rename, "rename_noreplace", across)
    identity = folders.drop()
    (folders.inbox / "TEST-1").chmod(0o777)
    (folders.inbox / "TEST-1/report.pdf").chmod(0o600)

    assert stuck_as_nobody(folders, identity) == (
        "the file (owner root, mode -rw-------) may not be read by attachd, which runs as nobody (chmod g+r)"
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EPERM, "it may be immutable"),
        (errno.EBUSY, "it may be immutable"),
        (errno.EAGAIN, "another program holds the file"),
        (errno.ENAMETOOLONG, "does not take a name as long as TEST-1/report.pdf"),
    ],
)
def test_what_no_mode_explains(folders: Folders, monkeypatch: pytest.MonkeyPatch, code: int, words: str) -> None:
    identity = folders.drop()

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(rename, "rename_noreplace", refuse)
        stuck = folders.move(identity)

    assert isinstance(stuck, Stuck)
    assert words in stuck.reason
    assert folders.move(identity) is Outcome.MOVED


def test_a_disk_that_is_read_only_is_no_matter_of_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadOnly:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(os, "fstatvfs", lambda _: ReadOnly)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Read-only"):
            permissions.bar(folder, b"report.pdf", tmp_path, b"")
    finally:
        os.close(folder)


def test_a_user_without_a_name_is_shown_by_number(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "inbox", tmp_path / "done")
    identity = folders.drop()
    os.chown(folders.inbox / "TEST-1", 54321, 54321)

    assert "(owner user 54321, mode drwxr-xr-x)" in stuck_as_nobody(folders, identity)
