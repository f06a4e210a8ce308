"""Some file systems find one file under many spellings of its name: another spelling is a new name, and no second file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from attachd.fs import rename
from attachd.intake.identity import spelling
from intake.test_identity import LARGE, nothing_is_filed, once, touched
from memory_jira import Fault, World, world

PATH, SMALL = "TEST-1/ä.txt", b"what was sent"


@pytest.fixture
def w(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    caseless(monkeypatch)
    with world(tmp_path) as made:
        yield made


def caseless(patch: pytest.MonkeyPatch) -> None:
    """As on FAT, NTFS and most SMB servers: a name is kept as it was given, and found in any case."""

    def found(
        function: Callable[..., object], take: Callable[[str | bytes, int], str | bytes]
    ) -> Callable[..., object]:
        def call(name: str | bytes, *arguments: object, dir_fd: int | None = None, **more: object) -> object:
            return function(name if dir_fd is None else take(name, dir_fd), *arguments, dir_fd=dir_fd, **more)

        return call

    def rename_noreplace(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
        really(from_folder, os.fsencode(as_it_is(name, from_folder)), to_folder, new)

    really = rename.rename_noreplace
    for call in ("open", "stat"):
        patch.setattr(os, call, found(getattr(os, call), as_it_is))
    patch.setattr(rename, "rename_noreplace", rename_noreplace)


def as_it_is(name: str | bytes, folder: int) -> str | bytes:
    """Return the spelling of a name that the folder has, if it has one."""
    wanted = os.fsdecode(name)
    names = os.listdir(f"/proc/self/fd/{folder}")
    return name if wanted in names else next((each for each in names if each.lower() == wanted.lower()), name)


def attached_once(w: World, content: bytes = SMALL) -> None:
    assert [s.content for s in w.jira.stored] == [content]
    assert list(w.files(w.done).values()) == [content]
    assert w.files(w.inbox) == {}
    assert w.unfinished() == []


def in_upper_case(w: World) -> None:
    (w.inbox / PATH).rename(w.inbox / "TEST-1/Ä.TXT")


def folder_in_lower_case(w: World) -> None:
    (w.inbox / "TEST-1").rename(w.inbox / "test-1")


def and_touched(w: World) -> None:
    in_upper_case(w)
    touched(w.inbox / "TEST-1/Ä.TXT")


CHANGES = [in_upper_case, folder_in_lower_case, and_touched]


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sent", [False, True], ids=["waits", "attached"])
def test_a_file_whose_name_is_spelt_otherwise_is_attached_once(
    w: World, change: Callable[[World], None], *, sent: bool, dies: bool
) -> None:
    w.drop(PATH, SMALL)
    with nothing_is_filed():
        w.deliver() if sent else w.scan()
        change(w)
        if dies:
            w.restart()
        w.scan()
    w.settle(hours=1)

    attached_once(w)


@pytest.mark.parametrize("change", [in_upper_case, folder_in_lower_case])
def test_spelt_otherwise_while_it_is_sent(w: World, change: Callable[[World], None]) -> None:
    def amid() -> None:
        change(w)
        w.scan()

    w.drop(PATH, LARGE)
    w.jira.amid = once(amid)
    w.settle(hours=1)

    attached_once(w, LARGE)


def test_spelt_otherwise_while_it_is_in_doubt(w: World) -> None:
    w.drop(PATH, SMALL)
    w.jira.faults.append(Fault(breaks=httpx.ReadTimeout, commit="all"))
    w.deliver()
    in_upper_case(w)
    w.settle(hours=1)

    attached_once(w)


@pytest.mark.parametrize("other", ["TEST-1/Ä.TXT", "test-1/ä.txt"])
def test_where_case_counts_each_spelling_is_a_file(tmp_path: Path, other: str) -> None:
    with world(tmp_path) as w:
        w.drop(PATH, SMALL)
        (w.inbox / other).parent.mkdir(exist_ok=True)
        os.link(w.inbox / PATH, w.inbox / other)
        w.settle(hours=1)

        assert [s.content for s in w.jira.stored] == [SMALL, SMALL]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("TEST-1/ä.txt", "test-1/Ä.TXT", True),
        ("TEST-1/\u00e4.txt", "TEST-1/a\u0308.txt", True),  # macOS keeps what it composed otherwise.
        ("TEST-1/a.txt", "TEST-1/b.txt", False),
        ("TEST-1/\udcff.txt", "TEST-1/\udcff.TXT", True),
        ("TEST-1/\udcff.txt", "TEST-1/\udcfe.txt", False),
    ],
)
def test_what_may_be_spellings_of_one_name(one: str, other: str, *, same: bool) -> None:
    assert (spelling(os.fsencode(one)) == spelling(os.fsencode(other))) is same
