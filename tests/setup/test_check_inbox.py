"""What ``check`` says of events, leases, locks, and of those who drop files."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from attachd.intake import coverage, mounts
from attachd.intake.inotify import Watch
from attachd.intake.mounts import Mount
from attachd.service import start
from attachd.setup import check_filesystem, check_inbox
from attachd.share import inbox_marker, locks, paths
from setup.test_check_jira import settings

NOBODY, DROPPERS = 65534, 4242


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox" / inbox_marker.FOLDER).mkdir(parents=True)
    return tmp_path / "inbox"


def test_a_local_inbox_has_events_and_leases_and_is_left_as_it_was(inbox: Path) -> None:
    assert list(check_filesystem.events(inbox)) == [(str(inbox), "")]
    assert check_filesystem.leases(inbox) == ""
    assert [path.name for path in inbox.rglob("*")] == [inbox_marker.FOLDER]


def test_a_share_is_named_with_what_follows(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "below", lambda _: [Mount(b"/srv", "nfs4")])

    ((mount, reason),) = check_filesystem.events(inbox)

    assert mount == str(inbox)
    assert reason == "nfs4: of what other machines do there, no event tells; attachd scans it every 5 s"
    assert (
        check_filesystem.leases(inbox)
        == "cannot tell on a network file system whether a program is still writing a file"
    )


def test_a_file_system_without_events_is_found_out(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "ECHO_SECONDS", 0.0)
    monkeypatch.setattr(Watch, "on_event", lambda self, event: None)

    ((_, reason),) = check_filesystem.events(inbox)

    assert "did not come back" in reason


@contextmanager
def nobody(inbox: Path, mode: int = 0o755) -> Iterator[None]:
    """Be another user than root, in the droppers' group; the inbox is theirs, and of this *mode*."""
    for path in (inbox, *inbox.parents):
        if path.stat().st_uid == 0 and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    os.chown(inbox, NOBODY, DROPPERS)
    inbox.chmod(mode)
    groups = os.getgroups()
    os.setgroups([DROPPERS])
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setgroups(groups)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")
def test_without_the_right_to_it_other_users_files_are_not_told_of(inbox: Path) -> None:
    with nobody(inbox):
        said = check_filesystem.leases(inbox)

    assert said == "cannot tell whether other users are still writing their files (CAP_LEASE is missing)"


# --- Locks --------------------------------------------------------------------------------------------------------


def test_a_file_system_without_locks_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two services on one inbox could not be kept apart, and would attach everything twice."""
    (tmp_path / "state").mkdir()
    found = settings(tmp_path)
    assert check_inbox.locked(found, tmp_path / "state").result == "ok"
    real = fcntl.fcntl

    def without(descriptor: int, command: int, argument: bytes = b"") -> bytes:
        if command == fcntl.F_OFD_SETLK:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        return real(descriptor, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", without)

    refused = check_inbox.locked(found, tmp_path / "state")

    assert (refused.what, refused.result) == ("locks", "failed")
    assert refused.detail == f"the file system of {tmp_path / 'inbox'} has no locks (No locks available)"
    assert [*(tmp_path / "inbox").iterdir(), *(tmp_path / "state").iterdir()] == []


# --- Who drops ----------------------------------------------------------------------------------------------------


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An ACL as the kernel has it: tags, rights and ids (linux/posix_acl_xattr.h), in this order."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NO_ID = 0xFFFFFFFF
OWNER, GROUP, OTHER = (1, 7, NO_ID), (4, 5, NO_ID), (32, 5, NO_ID)


@pytest.mark.parametrize(
    ("mode", "entries", "may"),
    [
        (0o2775, (), 7),
        (0o2757, (), 5),
        (0o2755, (), 5),
        (0o2775, (OWNER, (2, 7, NOBODY), GROUP, (16, 7, NO_ID), OTHER), 7),
        (0o2755, (OWNER, (2, 7, NOBODY), GROUP, (16, 5, NO_ID), OTHER), 5),
        (0o2775, (OWNER, (2, 7, 1), GROUP, (16, 7, NO_ID), OTHER), 5),
        (0o2775, (OWNER, GROUP, (8, 7, 4711), (16, 7, NO_ID), OTHER), 7),
        (0o2775, (OWNER, GROUP, (8, 7, 1), (16, 7, NO_ID), OTHER), 5),
    ],
)
def test_what_another_user_s_folder_allows(mode: int, entries: tuple[tuple[int, int, int], ...], may: int) -> None:
    given = acl(*entries) if entries else b""

    assert check_filesystem.rights(mode, given, NOBODY, {DROPPERS, 4711}, DROPPERS) == may


def test_who_is_in_no_group_of_a_folder_is_one_of_the_others() -> None:
    given = acl(OWNER, (2, 7, 1), GROUP, (16, 7, NO_ID), (32, 3, NO_ID))

    assert (
        check_filesystem.rights(0o773, given, NOBODY, {4711}, DROPPERS)
        == check_filesystem.rights(0o773, b"", NOBODY, {4711}, -1)
        == 3
    )


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")
def test_folders_of_other_droppers_that_could_not_be_emptied_are_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made under umask 022 they are their makers' alone, unless the inbox has default ACLs (as `attachd install` sets)."""
    found = settings(tmp_path)
    inbox = found.folders.inbox
    with nobody(inbox):
        alone = check_inbox.droppers(found)
    with nobody(inbox, 0o2770):
        without = check_inbox.droppers(found)
    inherited = acl(OWNER, (2, 7, NOBODY), (4, 7, NO_ID), (16, 7, NO_ID), (32, 0, NO_ID))
    try:
        os.setxattr(inbox, "system.posix_acl_default", inherited)
    except OSError as error:
        pytest.skip(f"the file system has no ACLs: {error}")
    with nobody(inbox, 0o2770):
        inheriting = check_inbox.droppers(found)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", _full)
        with nobody(inbox, 0o2770):
            untried = check_inbox.droppers(found)

    assert (untried.result, untried.detail) == ("warning", "cannot test permissions: No space left on device")
    assert alone.result == inheriting.result == "ok"
    assert without.result == "warning"
    assert "may not change folders that they create" in without.detail
    assert without.remedy.startswith(f"setfacl -R -m u:nobody:rwX,d:u:nobody:rwX {inbox} ")
    assert "umask 002" in without.remedy
    assert list(inbox.iterdir()) == []


# --- Folders elsewhere --------------------------------------------------------------------------------------------


def test_folders_on_another_device_are_told_at_the_start(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("wants a second file system")
    found = settings(tmp_path)
    with capture_logs() as lines:
        start.tell_copies(found)
    assert lines == []
    with tempfile.TemporaryDirectory(dir=shm) as far, capture_logs() as lines:
        start.tell_copies(found.model_copy(update={"folders": found.folders.model_copy(update={"done": Path(far)})}))

    (line,) = lines
    assert (line["event"], line["key"], line["log_level"]) == ("folder.elsewhere", "folders.done", "warning")
    assert "copies and compares each file before it removes the original" in line["reason"]


# --- Who holds the inbox ------------------------------------------------------------------------------------------


def test_a_service_is_itself_whatever_its_host_is_called_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks may have been taken under two names, or at its inbox nobody may read the text; attachd says so of another one."""
    (tmp_path / "state").mkdir()
    inbox = settings(tmp_path).folders.inbox
    (inbox / inbox_marker.FOLDER).mkdir()
    own = locks.take(tmp_path / "state" / "lock", tmp_path / "state")
    monkeypatch.setattr("socket.gethostname", lambda: "renamed")
    at_inbox = locks.take(paths.lock_of(inbox), tmp_path / "state")
    assert isinstance(own, locks.Lock)
    assert isinstance(at_inbox, locks.Lock)

    assert paths.holder_of(inbox)
    assert paths.other_holder(inbox, tmp_path / "state") is None
    paths.lock_of(inbox).write_text("")
    assert paths.other_holder(inbox, tmp_path / "state") is None

    paths.lock_of(inbox).write_text('{"host": "far", "pid": 17, "state": "/elsewhere"}')
    other = paths.other_holder(inbox, tmp_path / "state")
    assert other is not None
    assert other.host == "far"
    at_inbox.release()
    assert paths.other_holder(inbox, tmp_path / "state") is None
    own.release()
