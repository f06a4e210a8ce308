"""Folders are reached without following a symlink, and names that are free are found."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfakefs.fake_filesystem import FakeFilesystem

from attachd.fs import folders, free_names
from attachd.fs.folders import Dirty
from fs.test_rename_fake import fake_file_system


def test_a_folder_is_opened_component_by_component(tmp_path: Path) -> None:
    (tmp_path / "TEST-1/a").mkdir(parents=True)

    with folders.folder(tmp_path, b"TEST-1/a") as here:
        assert os.path.samestat(os.fstat(here), (tmp_path / "TEST-1/a").stat())


def test_the_root_itself_may_be_reached_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    with folders.folder(tmp_path / "link", b"TEST-1", create=True):
        assert (tmp_path / "real/TEST-1").is_dir()


@pytest.mark.parametrize("relative", [b"..", b"TEST-1/../..", b"/etc", b"a\0b"])
def test_a_path_that_could_lead_out_is_refused(tmp_path: Path, relative: bytes) -> None:
    with pytest.raises(OSError, match="not a path below"), folders.folder(tmp_path, relative, create=True):
        pass

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("goal", ["elsewhere", "nowhere", "file"])
def test_a_symlink_is_not_followed(tmp_path: Path, goal: str, create: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/TEST-1").symlink_to(tmp_path / goal)

    with pytest.raises(OSError) as caught, folders.folder(tmp_path / "root", b"TEST-1/a", create=create):  # noqa: PT011
        pass

    assert caught.value.errno in folders.NOWHERE
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_missing_folders_are_made_with_the_umask_and_inherit_the_group(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    before = os.umask(0o007)
    try:
        with folders.folder(tmp_path, b"TEST-1/a", create=True):
            mode = (tmp_path / "TEST-1/a").stat().st_mode
    finally:
        os.umask(before)

    assert stat.S_IMODE(mode) == 0o2770


def test_a_missing_root_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), folders.folder(tmp_path / "unmounted", b"TEST-1", create=True):
        pass
    with pytest.raises(FileNotFoundError), folders.folder_if_there(tmp_path / "unmounted", b"TEST-1"):
        pass
    with pytest.raises(FileNotFoundError):
        free_names.choose(tmp_path / "unmounted", b"TEST-1/report.pdf")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = len(os.listdir("/proc/self/fd"))

    with folders.folder(tmp_path, b"a/b/c", create=True):
        pass
    with pytest.raises(NotADirectoryError), folders.folder(tmp_path, b"file/b"):
        pass
    dirty = Dirty()
    with folders.folder(tmp_path, b"a/b/c", passing=dirty.touch):
        pass
    del dirty

    assert len(os.listdir("/proc/self/fd")) <= before


def test_each_folder_is_synchronised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronised: list[int] = []
    dirty = Dirty()
    for number in (1, 2, 1, 2, 1):
        with folders.folder(tmp_path, b"TEST-%d" % number, create=True) as here:
            dirty.touch(here)

    monkeypatch.setattr(os, "fsync", lambda folder: synchronised.append(os.fstat(folder).st_ino))
    dirty.sync()
    dirty.sync()

    assert sorted(synchronised) == sorted((tmp_path / f"TEST-{number}").stat().st_ino for number in (1, 2))


def test_many_folders_do_not_use_up_the_descriptors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synchronised: list[int] = []
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(folders, "synchronise", synchronised.append)
    dirty = Dirty()
    for number in range(200):
        with folders.folder(tmp_path, b"TEST-%d" % number, create=True) as here:
            dirty.touch(here)

        assert len(os.listdir("/proc/self/fd")) < before + 70
    synchronised.clear()
    dirty.sync()

    assert len(synchronised) == 200 % 64


def test_a_folder_that_cannot_be_synchronised_is_said_and_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dirty, before = Dirty(), len(os.listdir("/proc/self/fd"))
    with folders.folder(tmp_path, b"") as here:
        dirty.touch(here)

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            dirty.sync()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_file_system_that_synchronises_no_folders_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(_: int) -> None:
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "fsync", unable)

    folders.synchronise(0)


# --- Free names -------------------------------------------------------------------------------------------------

DONE = Path("/done")


@pytest.mark.parametrize(
    ("there", "wanted", "chosen"),
    [
        ([], "TEST-1/report.pdf", "TEST-1/report.pdf"),
        (["TEST-1/other.pdf"], "TEST-1/report.pdf", "TEST-1/report.pdf"),
        (["TEST-1/report.pdf"], "TEST-1/report.pdf", "TEST-1/report (2).pdf"),
        (["TEST-1/report.pdf", "TEST-1/report (2).pdf"], "TEST-1/report.pdf", "TEST-1/report (3).pdf"),
        (["TEST-1/report.pdf", "TEST-1/report (3).pdf"], "TEST-1/report.pdf", "TEST-1/report (2).pdf"),
        (["TEST-1/report.pdf/"], "TEST-1/report.pdf", "TEST-1/report (2).pdf"),
        (["TEST-1/report.pdf@"], "TEST-1/report.pdf", "TEST-1/report (2).pdf"),
        (["TEST-1/README"], "TEST-1/README", "TEST-1/README (2)"),
        (["TEST-1/.profile"], "TEST-1/.profile", "TEST-1/.profile (2)"),
        (["TEST-1/a.tar.gz"], "TEST-1/a.tar.gz", "TEST-1/a.tar (2).gz"),
        (["TEST-1/a/"], "TEST-1/a/b.log", "TEST-1/a/b.log"),
        (["TEST-1/a"], "TEST-1/a/b.log", "TEST-1/a (2)/b.log"),
        (["TEST-1/a.b"], "TEST-1/a.b/c", "TEST-1/a.b (2)/c"),
        (["TEST-1/a@"], "TEST-1/a/b.log", "TEST-1/a (2)/b.log"),
        (["TEST-1/a", "TEST-1/a (2)/b.log"], "TEST-1/a/b.log", "TEST-1/a (2)/b (2).log"),
        (["TEST-1/a", "TEST-1/a (2)"], "TEST-1/a/b/c", "TEST-1/a (3)/b/c"),
        (["TEST-1"], "TEST-1/report.pdf", "TEST-1 (2)/report.pdf"),
    ],
)
def test_the_first_free_name_is_chosen(
    fs: FakeFilesystem, monkeypatch: pytest.MonkeyPatch, there: list[str], wanted: str, chosen: str
) -> None:
    """A name with ``/`` at its end is a folder here, one with ``@`` a dangling symlink."""
    fake_file_system(fs, monkeypatch)
    fs.create_dir(DONE)
    for name in there:
        path = DONE / name.rstrip("/@")
        if name.endswith("/"):
            fs.create_dir(path)
        elif name.endswith("@"):
            fs.create_symlink(path, "/nowhere")
        else:
            fs.create_file(path)

    assert free_names.choose(DONE, wanted.encode()) == chosen.encode()


LONG = "x" * 300


@pytest.mark.parametrize(
    ("name", "names"),
    [
        (b"a" * 255, [b"a" * 255, b"a" * 251 + b" (2)"]),
        (b"a" * 300, [b"a" * 255, b"a" * 251 + b" (2)"]),
        (b"a" * 251 + b".pdf", [b"a" * 251 + b".pdf", b"a" * 247 + b" (2).pdf"]),
        (b"a." + b"b" * 300, [b"a." + b"b" * 253, b"a." + b"b" * 249 + b" (2)"]),
        ("ü".encode() * 125 + b".pdf", ["ü".encode() * 125 + b".pdf", "ü".encode() * 123 + b" (2).pdf"]),
        ("報".encode() * 84, ["報".encode() * 84, "報".encode() * 83 + b" (2)"]),
        ("😀".encode() * 64, ["😀".encode() * 63, "😀".encode() * 62 + b" (2)"]),
        (b"\xbf" * 300, [b"\xbf" * 255, b"\xbf" * 251 + b" (2)"]),
    ],
)
def test_a_long_name_is_cut_between_characters(name: bytes, names: list[bytes]) -> None:
    numbered = free_names.numbered(name)

    assert [next(numbered), next(numbered)] == names


@given(
    st.one_of(
        st.binary(min_size=1, max_size=400),
        st.text(min_size=1, max_size=300).map(lambda t: t.encode("utf-8", "replace")),
    )
)
def test_every_number_fits_and_differs(name: bytes) -> None:
    numbered = free_names.numbered(name)
    names = [next(numbered) for _ in range(12)]

    assert len(set(names)) == 12
    assert all(0 < len(one) <= 255 for one in names)
    assert names[0] == name or len(name) > 255


def test_a_name_of_bytes_that_are_no_text_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "TEST-1").mkdir()
    with open(os.fsencode(tmp_path) + b"/TEST-1/\xff\n.pdf", "wb"):
        pass

    assert free_names.choose(tmp_path, b"TEST-1/\xff\n.pdf") == b"TEST-1/\xff\n (2).pdf"


def test_a_held_folder_that_is_in_use_makes_no_room_for_others(tmp_path: Path) -> None:
    """Its number would be given to the next one that is opened, and what is moved would go elsewhere."""
    for number in range(3 * folders.Held.MOST):
        (tmp_path / f"TEST-{number}").mkdir()
    inode = (tmp_path / "TEST-0").stat().st_ino
    with folders.Held() as held:
        for number in range(3 * folders.Held.MOST):
            used = held.folder(tmp_path, b"TEST-0")
            other = held.folder(tmp_path, b"TEST-%d" % number)

            assert os.fstat(used).st_ino == inode
            assert os.fstat(other).st_ino == (tmp_path / f"TEST-{number}").stat().st_ino
        descriptors = set(os.listdir("/proc/self/fd"))
    assert len(descriptors - set(os.listdir("/proc/self/fd"))) >= folders.Held.MOST - 1


def test_a_synchronisation_in_between_that_failed_is_no_matter_of_the_folder_that_came_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the group counts as durable, however the rest goes."""
    broken = True

    def fail(_: int) -> None:
        if broken:
            raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", fail)
    dirty = Dirty()
    for number in range(70):
        (tmp_path / f"TEST-{number}").mkdir()
        with folders.folder(tmp_path, b"TEST-%d" % number) as here:
            assert dirty.touch(here)
    broken = False

    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            dirty.sync()


@pytest.mark.parametrize("taken", [1, 19, 20, 21, 40, 41, 1_000, 100_000])
def test_a_number_is_found_in_few_looks_however_many_are_taken(taken: int) -> None:
    looked: list[bytes] = []
    names = free_names.Series.of(b"report.pdf")
    there = {names.name(number) for number in range(1, taken + 1)}

    def is_taken(name: bytes) -> bool:
        looked.append(name)
        return name in there

    assert names.free(is_taken) == b"report (%d).pdf" % (taken + 1)
    assert len(looked) <= free_names.IN_ORDER + 2 * taken.bit_length() + 2


@given(st.sets(st.integers(1, 300), max_size=300))
def test_a_free_number_is_free_whatever_is_taken(taken: set[int]) -> None:
    names = free_names.Series.of(b"report.pdf")
    there = {names.name(number) for number in taken}

    assert names.free(there.__contains__) not in there


def test_what_is_promised_is_not_free_beyond_the_first_numbers_either(tmp_path: Path) -> None:
    (tmp_path / "TEST-1").mkdir()
    for number in range(1, 61):
        (tmp_path / "TEST-1" / free_names.Series.of(b"a.txt").name(number).decode()).touch()

    assert free_names.choose(tmp_path, b"TEST-1/a.txt", {b"TEST-1/a (61).txt"}.__contains__) == b"TEST-1/a (62).txt"
