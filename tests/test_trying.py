"""What ``check`` says of events and leases."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attachd.filing import guard
from attachd.intake import canary, mounts
from attachd.intake.mounts import Mount
from attachd.intake.watching import Watch
from attachd.service import trying

NOBODY = 65534


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "inbox" / guard.FOLDER).mkdir(parents=True)
    return tmp_path / "inbox"


def test_a_local_inbox_has_events_and_leases_and_is_left_as_it_was(inbox: Path) -> None:
    assert list(trying.events(inbox)) == [(str(inbox), "")]
    assert trying.leases(inbox) == ""
    assert [path.name for path in inbox.rglob("*")] == [guard.FOLDER]


def test_a_share_is_named_with_what_follows(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "below", lambda _: [Mount(b"/srv", "nfs4")])

    ((mount, reason),) = trying.events(inbox)

    assert mount == str(inbox)
    assert reason == "nfs4: of what other machines do there, no event tells; it is looked through every 5 s"
    assert trying.leases(inbox) == "on a network file system it cannot be told who writes a file"


def test_a_file_system_without_events_is_found_out(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "ECHO_SECONDS", 0.0)
    monkeypatch.setattr(Watch, "on_event", lambda self, event: None)

    ((_, reason),) = trying.events(inbox)

    assert "did not come back" in reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can play another user")
def test_without_the_right_to_it_other_users_files_are_not_told_of(inbox: Path) -> None:
    for path in (inbox, *inbox.parents):
        if path.stat().st_uid == 0 and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o011)
    os.chown(inbox, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        said = trying.leases(inbox)
    finally:
        os.seteuid(0)

    assert said == "of other users' files it is not told who writes them (no right CAP_LEASE)"
