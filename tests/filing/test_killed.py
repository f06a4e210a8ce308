"""Whenever the process is killed, the file is whole, in one place or on its way, and the next run brings it home."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from attachd.fs import free_names, move
from attachd.fs import rename as fs_rename
from attachd.fs.move import Outcome
from attachd.fs.recognition import Identity
from fs.test_move import SECOND_DEVICE, SOURCE, Folders, Rename, across, real_rename, unable

CONTENT = bytes(range(256)) * 40
EARLIER = b"an earlier file of the same name"
KILLED = 9
STEPS = ("rename", "unlink", "mkdir", "open", "write", "fsync", "fchmod", "utime", "close")


@dataclass
class Case:
    """One way to file, on one kind of file system, with or without trust in inodes afterwards."""

    folders: Folders
    rename: Rename
    trust: bool
    notebook: Path
    identity: Identity

    def file(self) -> Outcome:
        """Do what the service does: move, and choose another name where the first is taken; then make it durable."""
        group = move.Group()
        outcome: Outcome | move.Stuck = Outcome.TAKEN
        while outcome is Outcome.TAKEN:
            outcome = move.move(
                self.folders.inbox,
                SOURCE,
                self.folders.done,
                self.target,
                self.identity,
                group,
                reserved=self.note,
                reservation=self.noted,
            )
            if outcome is Outcome.TAKEN:
                self.choose()
        group.sync()
        assert isinstance(outcome, Outcome)
        return outcome

    def choose(self) -> None:
        self.notebook.with_suffix(".target").write_bytes(free_names.choose(self.folders.done, SOURCE))
        self.notebook.unlink(missing_ok=True)

    def note(self, device: int, inode: int) -> None:
        self.notebook.write_text(f"{device} {inode}")

    @property
    def noted(self) -> tuple[int, int] | None:
        if not self.notebook.exists():
            return None
        device, inode = self.notebook.read_text().split() or ("0", "0")
        return int(device), int(inode)

    @property
    def target(self) -> bytes:
        return self.notebook.with_suffix(".target").read_bytes()


@pytest.fixture(params=["rename", "reserve", "mounts", "reserve mounts", "devices"])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[int, bool], Case]]:
    renames: dict[str, Rename] = {"reserve": unable, "mounts": across, "reserve mounts": only_within}
    with tempfile.TemporaryDirectory(dir=SECOND_DEVICE) as other:
        if request.param == "devices" and os.stat(other).st_dev == tmp_path.stat().st_dev:
            pytest.skip("needs a second device")

        def begin(number: int, trust: bool) -> Case:
            far = Path(other) if request.param == "devices" else tmp_path
            folders = Folders(tmp_path / f"inbox{number}", far / f"done{number}")
            identity = folders.drop(content=CONTENT)
            (folders.done / "TEST-1").mkdir()
            (folders.done / "TEST-1/report.pdf").write_bytes(EARLIER)
            notebook = tmp_path / f"notebook{number}"
            case = Case(folders, renames.get(request.param, real_rename), trust, notebook, identity)
            case.choose()
            return case

        yield begin


def only_within(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
    across_or_nothing = across if not os.path.samestat(os.fstat(from_folder), os.fstat(to_folder)) else unable
    across_or_nothing(from_folder, name, to_folder, new)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("trust", [True, False], ids=["same boot", "restarted"])
def test_a_kill_at_any_step_loses_and_doubles_nothing(
    start: Callable[[int, bool], Case], monkeypatch: pytest.MonkeyPatch, trust: bool, after: bool
) -> None:
    step, killed = 0, True
    while killed:
        case = start(step, trust)
        monkeypatch.setattr(fs_rename, "rename_noreplace", case.rename)
        killed = run_killed(case, step, after=after)

        holds_one_whole_file(case)
        if not case.trust:
            case.identity = replace(case.identity, inode=None)
        run_killed(case, step // 2, after=after)
        assert case.file() is Outcome.MOVED
        is_filed(case)
        step += 1
    assert step > 5


def run_killed(case: Case, step: int, *, after: bool) -> bool:
    """File in a child that dies before or after its Nth step; say whether it did, or came to the end."""
    child = os.fork()
    if not child:
        try:
            kill_at(step, after=after)
            os._exit(0 if case.file() is Outcome.MOVED else 1)
        finally:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


def kill_at(step: int, *, after: bool) -> None:
    """Wrap everything that changes a file system, so that the process ends at the Nth such call."""
    count = iter(range(10_000))

    def mortal(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            doomed = next(count) == step
            if doomed and not after:
                os._exit(KILLED)
            try:
                return function(*args, **kwargs)
            finally:
                if doomed:
                    os._exit(KILLED)

        return wrapped

    for name in STEPS:
        setattr(os, name, mortal(getattr(os, name)))
    fs_rename.rename_noreplace = mortal(fs_rename.rename_noreplace)


def holds_one_whole_file(case: Case) -> None:
    """Under its own name, the target's, or set aside, there is a whole file; and the earlier one is untouched."""
    held = [*case.folders.waiting.values(), *case.folders.filed.values()]
    assert CONTENT in held
    assert case.folders.filed[SOURCE] == EARLIER


def is_filed(case: Case) -> None:
    """The file is there once, whole; an empty reservation that was never recorded may be left, but nothing else."""
    filed = case.folders.filed
    assert case.folders.waiting == {}
    assert filed.pop(SOURCE) == EARLIER
    assert filed.pop(case.target) == CONTENT
    assert set(filed.values()) <= {b""}
    assert len(filed) <= 1
    assert hashlib.sha256(CONTENT).digest() == case.identity.sha256
