"""A fake renameat2 for pyfakefs, which ctypes goes past, held against the real one by a shared contract."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyfakefs import fake_os
from pyfakefs.fake_filesystem import FakeFilesystem

from attachd.fs import folders, recognition, tripwire
from attachd.fs import rename as fs_rename


def rename_noreplace(from_folder: int, name: bytes, to_folder: int, new: bytes) -> None:
    """Behave as ``rename.rename_noreplace``, but for the moment between the look and the rename."""
    if os.fstat(from_folder).st_dev != os.fstat(to_folder).st_dev:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    if recognition.status_of(to_folder, new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
    os.rename(name, new, src_dir_fd=from_folder, dst_dir_fd=to_folder)


def fake_file_system(fs: FakeFilesystem, monkeypatch: pytest.MonkeyPatch) -> FakeFilesystem:
    """Teach the fake file system names of bytes below a directory descriptor, and renames that do not replace."""
    below = fake_os.FakeOsModule._path_with_dir_fd

    def decoded(module: fake_os.FakeOsModule, path: Any, *args: Any, **kwargs: Any) -> Any:
        return below(module, os.fsdecode(path) if isinstance(path, bytes) else path, *args, **kwargs)

    monkeypatch.setattr(fake_os.FakeOsModule, "_path_with_dir_fd", decoded)
    monkeypatch.setattr(fs_rename, "rename_noreplace", rename_noreplace)
    # Under the number of a fake descriptor the kernel would watch whatever real file has it.
    quiet = SimpleNamespace(tripped=False, written=False, rearm=lambda: None)
    monkeypatch.setattr(tripwire, "stretched", lambda _descriptor: nullcontext(quiet))
    return fs


@pytest.fixture(params=["real", "fake"])
def root(request: pytest.FixtureRequest) -> Iterator[Path]:
    if request.param == "real":
        yield request.getfixturevalue("tmp_path")
        return
    fs = request.getfixturevalue("fs")
    fake_file_system(fs, request.getfixturevalue("monkeypatch"))
    fs.create_dir("/root")
    yield Path("/root")


def rename(root: Path, name: bytes, new: bytes) -> None:
    with folders.folder(root, b"") as here, folders.folder(root, b"to", create=True) as there:
        fs_rename.rename_noreplace(here, name, there, new)


def test_it_renames(root: Path) -> None:
    (root / "file").write_text("content")

    rename(root, b"file", b"new")

    assert (root / "to/new").read_text() == "content"
    assert not (root / "file").exists()


@pytest.mark.parametrize("thing", ["file", "folder", "symlink"])
def test_it_replaces_nothing(root: Path, thing: str) -> None:
    (root / "to").mkdir()
    (root / "file").write_text("content")
    target = root / "to/new"
    if thing == "file":
        target.touch()
    elif thing == "folder":
        target.mkdir()
    else:
        target.symlink_to("nowhere")

    with pytest.raises(FileExistsError):
        rename(root, b"file", b"new")

    assert (root / "file").read_text() == "content"


def test_it_says_what_is_missing(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rename(root, b"file", b"new")


def test_a_kernel_without_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fs_rename, "_LIBC", object())

    with pytest.raises(OSError, match="not implemented"):
        rename(tmp_path, b"file", b"new")
