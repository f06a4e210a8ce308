"""A file is written whole: what it replaces, who may read it, and what a crash or an error leaves."""

from __future__ import annotations

import errno
import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attachd.fs import whole_file
from attachd.fs.whole_file import prepared, write_whole

NAME = b"file"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to any group")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Record in which order the file and the folder are synced and the name is given."""
    made = list[str]()

    def recorded(name: str) -> Any:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            made.append(f"{name} folder" if is_folder else name)
            return real(*args, **kwargs)

        return call

    for name in ("write", "fsync", "rename"):
        monkeypatch.setattr(os, name, recorded(name))
    return made


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("replace", [True, False])
def test_the_file_holds_the_content_and_nothing_else_is_left(folder: int, tmp_path: Path, replace: bool) -> None:
    write_whole(folder, NAME, b"new", replace=replace, mode=0o644)

    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_file_is_replaced_where_that_is_wanted(folder: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old and longer")

    write_whole(folder, NAME, b"new", replace=True, mode=0o644)

    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_reader_that_opened_the_old_file_goes_on_reading_it(folder: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with (tmp_path / "file").open("rb") as reader:
        write_whole(folder, NAME, b"new", replace=True, mode=0o644)

        assert reader.read() == b"old"


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_nothing_is_replaced_where_that_is_not_wanted(folder: int, tmp_path: Path, make: Any) -> None:
    make(tmp_path / "file")
    before = os.lstat(tmp_path / "file")

    with pytest.raises(FileExistsError):
        write_whole(folder, NAME, b"new", replace=False, mode=0o644)

    assert os.listdir(tmp_path) == ["file"]
    assert os.lstat(tmp_path / "file") == before


def test_a_symlink_is_replaced_and_not_followed(folder: int, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"somebody's")
    (tmp_path / "file").symlink_to("target")

    write_whole(folder, NAME, b"new", replace=True, mode=0o644)

    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"somebody's"


@pytest.mark.parametrize("exact", [True, False])
def test_the_umask_limits_the_mode_unless_it_is_exact(folder: int, tmp_path: Path, umask: None, exact: bool) -> None:
    write_whole(folder, NAME, b"new", replace=False, mode=0o666, exact=exact)

    assert mode_of(tmp_path / "file") == (0o666 if exact else 0o640)


def test_a_secret_is_at_no_moment_readable_by_others(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[int]()
    real = whole_file.write_all

    def looked(file: int, content: bytes) -> None:
        seen.append(stat.S_IMODE(os.fstat(file).st_mode))
        real(file, content)
        seen.append(stat.S_IMODE(os.fstat(file).st_mode))

    monkeypatch.setattr(whole_file, "write_all", looked)
    write_whole(folder, NAME, b"secret", replace=False, mode=0o600, exact=True)

    assert seen == [0o600, 0o600]
    assert mode_of(tmp_path / "file") == 0o600


@as_root
def test_the_file_belongs_to_the_group_before_it_has_its_name(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = next(each for each in grp.getgrall() if each.gr_gid not in (0, os.getegid()))
    found = list[int]()
    real = os.rename

    def rename(source: bytes, *args: Any, **kwargs: Any) -> None:
        found.append(os.stat(source, dir_fd=folder).st_gid)
        real(source, *args, **kwargs)

    monkeypatch.setattr(os, "rename", rename)
    write_whole(folder, NAME, b"new", replace=True, mode=0o640, exact=True, group=group.gr_name)

    assert found == [group.gr_gid]
    assert (tmp_path / "file").stat().st_gid == group.gr_gid


def test_the_content_is_durable_before_the_name_and_the_name_at_the_end(folder: int, calls: list[str]) -> None:
    write_whole(folder, NAME, b"new", replace=True, mode=0o644)

    assert calls == ["write", "fsync", "rename", "fsync folder"]


def test_what_need_not_be_durable_waits_for_no_disk(folder: int, calls: list[str]) -> None:
    write_whole(folder, NAME, b"new", replace=True, mode=0o644, durable=False)

    assert calls == ["write", "rename"]


def test_a_folder_that_cannot_be_synced_still_takes_the_file(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(folder, NAME, b"new", replace=True, mode=0o644)

    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("call", ["write", "fsync", "fchmod", "rename"])
def test_an_error_leaves_the_old_file_and_nothing_beside_it(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def failing(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(OSError, match="No space"):
        write_whole(folder, NAME, b"new", replace=True, mode=0o644, exact=True)

    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_short_write_goes_on(folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, content: real(file, content[:3]))

    write_whole(folder, NAME, b"0123456789", replace=False, mode=0o644)

    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_the_open_folder_is_meant_whatever_happens_to_its_name(folder: int, tmp_path: Path) -> None:
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    tmp_path.mkdir()

    write_whole(folder, NAME, b"new", replace=False, mode=0o644)

    assert os.listdir(moved) == ["file"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("durable", [True, False])
def test_a_folder_can_be_given_by_its_path(tmp_path: Path, durable: bool) -> None:
    write_whole(tmp_path, NAME, b"new", replace=False, mode=0o644, durable=durable)

    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("below", "kind", "code"), [("none", FileNotFoundError, errno.ENOENT), (".", FileExistsError, errno.EEXIST)]
)
def test_an_error_below_a_path_names_the_file(tmp_path: Path, below: str, kind: type[OSError], code: int) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(kind) as raised:
        write_whole(tmp_path / below, NAME, b"new", replace=False, mode=0o644)

    assert (raised.value.errno, raised.value.filename) == (code, str(tmp_path / below / "file"))
    assert str(raised.value).endswith(f"{os.strerror(code)}: '{tmp_path / below / 'file'}'")


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("elsewhere")])
def test_a_hidden_name_that_is_taken_is_left_alone(folder: int, tmp_path: Path, make: Any) -> None:
    make(tmp_path / "hidden")
    before = os.lstat(tmp_path / "hidden")

    with pytest.raises(FileExistsError), prepared(folder, b"hidden", b"new", mode=0o644):
        pytest.fail("it was taken")

    assert os.listdir(tmp_path) == ["hidden"]
    assert os.lstat(tmp_path / "hidden") == before


def test_a_prepared_file_is_gone_unless_it_was_renamed(folder: int, tmp_path: Path) -> None:
    with prepared(folder, b"hidden", b"new", mode=0o644):
        assert (tmp_path / "hidden").read_bytes() == b"new"

    assert os.listdir(tmp_path) == []
