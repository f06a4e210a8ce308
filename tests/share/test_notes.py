"""The note beside a failed file: it says why, replaces nothing, and is recognised wherever it goes."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyfakefs.fake_filesystem import FakeFilesystem

from attachd.fs import free_names
from attachd.share import notes
from fs.test_rename_fake import fake_file_system

FAILED = Path("/failed")


def note(ident: str, file: str = "report.pdf") -> bytes:
    return notes.render(
        ident=ident,
        file=file,
        issue="TEST-1",
        when="2026-11-22 10:31 UTC",
        reason="Jira refused the file",
        words="The file is too large.\nAsk your administrator.",
        remedy="Make it smaller.",
    )


@pytest.fixture
def failed(fs: FakeFilesystem, monkeypatch: pytest.MonkeyPatch) -> FakeFilesystem:
    """Give a failed file."""
    fake_file_system(fs, monkeypatch)
    fs.create_file(FAILED / "TEST-1/report.pdf")
    return fs


def test_a_note_is_readable_on_windows() -> None:
    text = note("17", "日本語.pdf").decode()

    assert text.splitlines() == [
        "attachd note 17 - why 日本語.pdf was not attached",
        "",
        "File:   日本語.pdf",
        "Issue:  TEST-1",
        "When:   2026-11-22 10:31 UTC",
        "Reason: Jira refused the file.",
        "",
        "Jira says:",
        "  The file is too large.",
        "  Ask your administrator.",
        "",
        "What to do: Make it smaller.",
        "",
        "To try again, move the file back into the folder TEST-1 in the inbox, or into the folder of another issue.",
        "This note then disappears.",
    ]
    assert text.count("\n") == text.count("\r\n") == len(text.splitlines())


def test_a_note_without_jiras_words_has_no_room_for_them() -> None:
    text = notes.render(ident="1", file="a", issue="B-1", when="now", reason="r", words="\n", remedy="m")

    assert b"Jira says" not in text


def test_no_name_can_forge_a_line() -> None:
    text = notes.render(
        ident="1", file="a\nattachd note 2 - why\r\u2028b\ud800", issue="B-1", when="", reason="", words="", remedy=""
    )

    assert text.decode().splitlines()[0] == "attachd note 1 - why a attachd note 2 - why  b was not attached"


@pytest.mark.parametrize(
    ("name", "noted"),
    [
        (b"report.pdf", b"report.pdf.why.txt"),
        (b"\xff\n", b"\xff\n.why.txt"),
        (b"a" * 255, b"a" * 247 + b".why.txt"),
        ("ü".encode() * 127, "ü".encode() * 123 + b".why.txt"),
        (b"a" * 247, b"a" * 247 + b".why.txt"),
    ],
)
def test_a_note_is_named_after_its_file(name: bytes, noted: bytes) -> None:
    assert notes.note_name(name) == noted
    assert len(noted) <= 255


@pytest.mark.parametrize(
    ("name", "ident"),
    [
        (b"report.pdf.why.txt", "17"),
        (b"report.pdf.why (2).txt", "17"),
        (b"report.pdf.WHY.TXT", "17"),
        (b"\xff\n.why.txt", "17"),
        (b"report.pdf.why.txt.pdf", None),
        (b"report.pdf.why.txt\n", None),
        (b"report.pdf.why(2).txt", None),
        (b"why.txt", None),
    ],
)
def test_a_note_is_recognised_by_its_name(name: bytes, ident: str | None) -> None:
    assert notes.is_note(name, note("17")[: notes.FIRST_BYTES]) == ident


@pytest.mark.parametrize(
    ("content", "ident"),
    [
        (b"attachd note 17 - why report.pdf", "17"),
        (b"\xef\xbb\xbfattachd note a-b_9 - why x", "a-b_9"),
        (b"attachd note  - why x", None),
        (b"attachd note 17", None),
        (b"\nattachd note 17 - why x", None),
        (b"Attached note 17 - why x", None),
        (b"", None),
    ],
)
def test_and_by_its_first_line(content: bytes, ident: str | None) -> None:
    assert notes.is_note(b"x.why.txt", content) == ident


def test_a_note_is_written_beside_its_file(failed: FakeFilesystem) -> None:
    written = notes.write(FAILED, b"TEST-1/report.pdf", note("17"), "17")

    assert written == b"TEST-1/report.pdf.why.txt"
    assert (FAILED / "TEST-1/report.pdf.why.txt").read_bytes() == note("17")
    assert sorted(os.listdir(FAILED / "TEST-1")) == ["report.pdf", "report.pdf.why.txt"]


def test_a_note_is_written_once(failed: FakeFilesystem) -> None:
    first = notes.write(FAILED, b"TEST-1/report.pdf", note("17"), "17")
    again = notes.write(FAILED, b"TEST-1/report.pdf", note("17") + b"more", "17")

    assert first == again
    assert (FAILED / "TEST-1/report.pdf.why.txt").read_bytes() == note("17")
    assert sorted(os.listdir(FAILED / "TEST-1")) == ["report.pdf", "report.pdf.why.txt"]


def test_a_note_replaces_nothing(failed: FakeFilesystem) -> None:
    failed.create_file(FAILED / "TEST-1/report.pdf.why.txt", contents="mine")
    failed.create_dir(FAILED / "TEST-1/report.pdf.why (2).txt")
    failed.create_symlink(FAILED / "TEST-1/report.pdf.why (3).txt", "/nowhere")
    assert notes.write(FAILED, b"TEST-1/report.pdf", note("16"), "16") == b"TEST-1/report.pdf.why (4).txt"

    written = [notes.write(FAILED, b"TEST-1/report.pdf", note("17"), "17") for _ in range(2)]

    assert written == [b"TEST-1/report.pdf.why (5).txt"] * 2
    assert (FAILED / "TEST-1/report.pdf.why.txt").read_text() == "mine"
    assert (FAILED / "TEST-1/report.pdf.why (4).txt").read_bytes() == note("16")


def test_what_a_crash_left_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _die)
        patch.setattr(os, "unlink", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            notes.write(tmp_path, b"report.pdf", note("17")[:40], "17")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [note("17")[:40]]

    notes.write(tmp_path, b"report.pdf", note("17"), "17")

    assert os.listdir(tmp_path) == ["report.pdf.why.txt"]
    assert (tmp_path / "report.pdf.why.txt").read_bytes() == note("17")


@pytest.mark.parametrize("count", [1, 19])
def test_what_somebody_put_under_the_hidden_name_stays(tmp_path: Path, count: int) -> None:
    hidden = [*itertools.islice(free_names.numbered(free_names.hidden(b"note", b"17")), count)]
    for name in hidden:
        (tmp_path / os.fsdecode(name)).write_bytes(b"mine")

    notes.write(tmp_path, b"report.pdf", note("17"), "17")

    assert sorted(os.listdir(tmp_path)) == sorted([*map(os.fsdecode, hidden), "report.pdf.why.txt"])
    assert {(tmp_path / os.fsdecode(name)).read_bytes() for name in hidden} == {b"mine"}


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_full_disk_leaves_no_half_note(failed: FakeFilesystem) -> None:
    failed.set_disk_usage(100)

    with pytest.raises(OSError, match="No space") as caught:
        notes.write(FAILED, b"TEST-1/report.pdf", note("17"), "17")

    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(FAILED / "TEST-1") == ["report.pdf"]


def test_where_the_folder_is_gone_no_note_is_written(failed: FakeFilesystem) -> None:
    assert notes.write(FAILED, b"TEST-2/report.pdf", note("17"), "17") is None
    assert notes.write(FAILED, b"TEST-1/report.pdf/x", note("17"), "17") is None
    assert not (FAILED / "TEST-2").exists()


def test_a_missing_root_is_not_taken_for_a_missing_folder(failed: FakeFilesystem) -> None:
    with pytest.raises(FileNotFoundError):
        notes.write(Path("/unmounted"), b"TEST-2/report.pdf", note("17"), "17")


def test_a_note_is_removed_only_while_it_is_still_that_note(failed: FakeFilesystem) -> None:
    written = notes.write(FAILED, b"TEST-1/report.pdf", note("17"), "17")
    failed.create_file(FAILED / "TEST-1/other.why.txt", contents="mine")
    failed.create_symlink(FAILED / "TEST-1/link.why.txt", FAILED / "TEST-1/report.pdf.why.txt")

    assert written is not None
    assert not notes.remove(FAILED, written, "16")
    assert not notes.remove(FAILED, b"TEST-1/other.why.txt", "17")
    assert not notes.remove(FAILED, b"TEST-1/link.why.txt", "17")
    assert not notes.remove(FAILED, b"TEST-2/report.pdf.why.txt", "17")
    assert notes.remove(FAILED, written, "17")
    assert not notes.remove(FAILED, written, "17")
    assert sorted(os.listdir(FAILED / "TEST-1")) == ["link.why.txt", "other.why.txt", "report.pdf"]


@pytest.mark.parametrize(
    "name",
    [
        b"a b.pdf",
        "Ü\u0308.pdf".encode(),
        "日本語".encode(),
        b"\"'`$(x).pdf",
        b"new\nline.pdf",
        b"\xff\xfe.pdf",
        b"x" * 255,
    ],
)
def test_every_name_gets_its_note_on_a_real_file_system(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "TEST-1").mkdir()

    written = [notes.write(tmp_path, b"TEST-1/" + name, note(ident), ident) for ident in ("1", "2", "1", "2")]

    assert len(set(written)) == 2
    assert None not in written
    assert len(os.listdir(tmp_path / "TEST-1")) == 2
    assert all(notes.remove(tmp_path, path or b"", ident) for path, ident in zip(written, "12", strict=False))


def test_a_fifo_in_the_way_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.pdf.why.txt")

    assert notes.write(tmp_path, b"report.pdf", note("17"), "17") == b"report.pdf.why (2).txt"
    assert not notes.remove(tmp_path, b"report.pdf.why.txt", "17")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_where_the_folder_may_not_be_written_no_note_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    code = (
        "import os, pathlib, sys\n"
        "from attachd.share import notes\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "sys.exit(notes.write(pathlib.Path('.'), b'report.pdf', b'x', '1') is not None)"
    )

    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_many_long_names_that_are_cut_to_one_get_a_note_each_in_few_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "TEST-1").mkdir()
    beside = [b"TEST-1/" + b"x" * 250 + b"%d" % number for number in range(10, 80)]
    written = [notes.write(tmp_path, each, note(f"F{at}"), f"F{at}") for at, each in enumerate(beside)]
    looks = 0
    ident_of = notes._ident_of

    def count(folder: int, name: bytes) -> str | None:
        nonlocal looks
        looks += 1
        return ident_of(folder, name)

    monkeypatch.setattr(notes, "_ident_of", count)
    last = notes.write(tmp_path, beside[-1], note("F69"), "F69")

    assert len(set(written)) == 70
    assert last == written[-1]  # written just before a crash, and known again
    assert len(list((tmp_path / "TEST-1").iterdir())) == 70
    assert looks <= 2 * free_names.IN_ORDER + 2
