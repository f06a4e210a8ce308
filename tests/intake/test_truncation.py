"""Ends of formats: whole files, as real tools make them, never raise an alarm; what a broken transfer leaves does."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attachd import text
from attachd.config import Settle
from attachd.intake import gates, truncation
from attachd.intake.gates import Ready, Wait
from attachd.journal.admission import Moment
from attachd.model import State
from attachd.report import status, status_text
from memory_jira import World, world
from report.test_why import row

PDF = (
    b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + b"x" * 3000 + b"\nxref\n0 1\n"
    b"0000000000 65535 f \ntrailer\n<< /Size 1 >>\nstartxref\n9\n%%EOF\n"
)


def png() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0)
    pixels = zlib.compress(os.urandom(33 * 32))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg(*, preview: bool = True, words: bytes = b"") -> bytes:
    """Segments and entropy-coded data as an encoder writes them: no marker within but restarts."""

    def segment(marker: int, content: bytes) -> bytes:
        return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content

    inner = b"\xff\xd8" + segment(0xDA, b"\1\1\0\0\0\0") + b"preview" + b"\xff\xd9"
    exif = segment(0xE1, b"Exif\0\0" + (inner if preview else b"") + words)
    scan = segment(0xDA, b"\1\1\0\0\x3f\0") + bytes(b for b in os.urandom(5000) if b != 0xFF) + b"\xff\x00\xff\xd0"
    return b"\xff\xd8" + exif + b"\xff" + segment(0xDB, bytes(65)) + scan + b"data\xff\xd9"


def archive(comment: bytes = b"", **content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as zipped:
        for name, each in (content or {"a": os.urandom(2000), "b": b"x" * 2000}).items():
            zipped.writestr(name, each)
        zipped.comment = comment
    return made.getvalue()


def many_files() -> bytes:
    """So many that the record of 64 bit is needed."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as zipped:
        for number in range(65_540):
            zipped.writestr(zipfile.ZipInfo(str(number)), b"")
    return made.getvalue()


def zip_64() -> bytes:
    """The end of a ZIP archive with all fields full, as programs that write to a pipe make it."""
    local = struct.pack("<4s5H3I2H", b"PK\x03\x04", 45, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 45, 45, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    at = len(local)
    end = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(entry), at)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at + len(entry), 1)
    return (
        local
        + entry
        + end
        + locator
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    )


WHOLE: dict[str, Callable[[], bytes]] = {
    "PDF": lambda: PDF,
    "PDF without a line end": lambda: PDF.rstrip(),
    "PDF with padding": lambda: PDF + bytes(30_000),
    "PDF with a printer's last words": lambda: PDF + b"\x1b%-12345X@PJL EOJ\r\n\x1b%-12345X",
    "PNG": png,
    "PNG with something behind": lambda: png() + b"appended" * 100,
    "JPEG": jpeg,
    "JPEG without a preview": lambda: jpeg(preview=False),
    "JPEG with padding": lambda: jpeg() + bytes(512),
    "JPEG with a second image": lambda: jpeg(words=b"MPF\0") + jpeg(),
    "JPEG with a film": lambda: jpeg(words=b'GCamera:MotionPhoto="1"') + b"\0\0\0\x18ftypmp42" + b"film" * 50_000,
    "JPEG with its maker's trailer": lambda: jpeg() + b"SEFH" + b"film" * 50_000 + b"SEFT",
    "ZIP": archive,
    "ZIP without files": lambda: archive()[:0] + struct.pack("<4s4H2IH", b"PK\x05\x06", *[0] * 7),
    "ZIP with a comment": lambda: archive(comment=b"PK\x05\x06" + b"c" * 60_000),
    "ZIP in a ZIP": lambda: archive(inner=archive()),
    "ZIP of 65,540 files": many_files,
    "ZIP of 64 bit": zip_64,
    "gzip": lambda: gzip.compress(os.urandom(20_000)),
    "gzip of nothing": lambda: gzip.compress(b""),
    "gzip of much": lambda: gzip.compress(bytes(5_000_000)),
    "gzip of several members": lambda: gzip.compress(b"one" * 999) + gzip.compress(b"two") + gzip.compress(b""),
    "gzip with padding": lambda: gzip.compress(b"content") + bytes(10_000),
    "gzip with something behind": lambda: gzip.compress(b"content") + b"garbage",
    "gzip whose first member fills the buffer": lambda: _filled() + gzip.compress(b"two"),
    "text": lambda: b"%PDF is not a magic, nor is PK",
    "nothing": lambda: b"",
    "one byte": lambda: b"\x89",
}


def _filled() -> bytes:
    """A member of exactly a buffer's length, so that the next one begins with the next buffer."""
    stored = os.urandom(truncation._CHUNK - 200)
    member = gzip.compress(stored, 0)
    return gzip.compress(stored + os.urandom(truncation._CHUNK - len(member)), 0)


def lacks(tmp_path: Path, content: bytes) -> str | None:
    (tmp_path / "file").write_bytes(content)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        return truncation.lacks(descriptor, len(content))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_file_lacks_nothing(tmp_path: Path, case: str) -> None:
    assert lacks(tmp_path, WHOLE[case]()) is None


CUT = {
    "PDF": (PDF, "a PDF ends with %%EOF"),
    "PNG": (png(), "a PNG image ends with IEND"),
    "JPEG": (jpeg(), "a JPEG image ends with the marker EOI"),
    "ZIP": (archive(), "a ZIP archive ends with the list of its contents"),
    "ZIP in a ZIP": (archive(inner=archive()), "a ZIP archive ends with the list of its contents"),
    "ZIP with a comment": (archive(comment=b"c" * 100), "a ZIP archive ends with the list of its contents"),
    "ZIP of 64 bit": (zip_64(), "a ZIP archive ends with the list of its contents"),
    "gzip": (gzip.compress(os.urandom(5000)), "gzip data can be decompressed to its end where it is whole"),
    "gzip of much": (gzip.compress(bytes(900_000)), "gzip data can be decompressed to its end where it is whole"),
}


@pytest.mark.parametrize("case", CUT)
def test_a_file_that_was_cut_lacks_its_end_wherever_it_was_cut(tmp_path: Path, case: str) -> None:
    whole, sentence = CUT[case]
    end = len(whole.rstrip(b"\n"))

    for cut in {end - 1, end - 2, end - 5, *range(8, end - 5, max(1, end // 60))}:
        assert lacks(tmp_path, whole[:cut]) == sentence, cut


@pytest.mark.parametrize("case", CUT)
def test_a_file_that_was_allocated_and_not_filled_lacks_its_end(tmp_path: Path, case: str) -> None:
    whole, sentence = CUT[case]

    assert lacks(tmp_path, whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)) == sentence


def test_the_second_member_of_gzip_data_is_looked_at_too(tmp_path: Path) -> None:
    one, two = gzip.compress(b"one"), gzip.compress(os.urandom(3000))

    for cut in (1, 2, 3, 10, 1500, len(two) - 1):
        assert lacks(tmp_path, one + two[:cut]), cut


def test_gzip_data_is_tried_up_to_a_size_and_brings_forth_no_more_than_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = gzip.compress(bytes(3_000_000))[:-1]
    monkeypatch.setattr(truncation, "GZIP_INFLATED_BYTES", 1_000_000)
    assert lacks(tmp_path, cut) is None
    monkeypatch.setattr(truncation, "GZIP_INFLATED_BYTES", 10_000_000)
    assert lacks(tmp_path, cut)
    monkeypatch.setattr(truncation, "GZIP_BYTES", len(cut) - 1)
    assert lacks(tmp_path, cut) is None


def test_the_place_in_the_file_is_left_where_it_was(tmp_path: Path) -> None:
    """It is read for its checksum afterwards."""
    (tmp_path / "file").write_bytes(gzip.compress(b"content"))
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        truncation.lacks(descriptor, (tmp_path / "file").stat().st_size)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    finally:
        os.close(descriptor)


# --- What follows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lacking", "unchanged", "expected"),
    [
        (None, 0.0, Ready()),
        ("its end", 0.0, Wait(1600.0, lacks="its end", over=True)),
        ("its end", 599.0, Wait(1001.0, lacks="its end", over=True)),
        ("its end", 600.0, Ready("its end")),
    ],
)
def test_what_a_missing_end_means(lacking: str | None, unchanged: float, expected: Ready | Wait) -> None:
    seen = row(State.SEEN, quiet_boot=1000.0 - unchanged)

    assert gates.of_ending(seen, Settle(), Moment(0.0, 1000.0, 7), lacking) == expected


# --- In the inbox -----------------------------------------------------------------------------------------------


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def test_a_file_without_its_end_waits_and_goes_when_it_is_completed(w: World) -> None:
    path = w.drop("TEST-1/a.bin", PDF[:1000])
    began = w.clock.boot()
    assert w.scan().settles == {b"TEST-1": began + 600.0}
    held = w.row("TEST-1/a.bin")
    assert (held.lacks, held.due, held.reason) == ("a PDF ends with %%EOF", w.clock.now() + 600.0, None)

    w.clock.advance(599.0)
    w.deliver()
    assert w.states() == ["SEEN"]
    path.write_bytes(PDF)
    w.deliver()

    assert [stored.content for stored in w.jira.stored] == [PDF]
    assert w.row("TEST-1/a.bin").lacks is None


def test_a_file_that_stays_without_its_end_is_sent_as_it_is_and_the_remark_stays(w: World) -> None:
    w.drop("TEST-1/a.pdf", PDF[:1000])
    w.scan()
    w.clock.advance(600.0)
    w.deliver()

    done = w.row("TEST-1/a.pdf")
    assert (done.state, done.said) == (State.DONE, "its end is missing (a PDF ends with %%EOF)")


def test_what_holds_it_is_written_once_and_found_out_once(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w.drop("TEST-1/a.gz", gzip.compress(os.urandom(1000))[:-1])
    folder_key: list[int] = []
    real = truncation.lacks
    monkeypatch.setattr(truncation, "lacks", lambda descriptor, size: folder_key.append(size) or real(descriptor, size))
    w.scan()
    before = w.runtime.journal.value("SELECT total_changes()")
    for _ in range(5):
        w.clock.advance(30.0)
        w.scan()

    assert len(folder_key) == 1
    assert w.runtime.journal.value("SELECT total_changes()") == before


def test_status_names_it_with_the_time(w: World) -> None:
    w.drop("TEST-1/a.pdf", PDF[:1000])
    w.scan()

    found = status.collect(w.runtime.config, w.home / "state", w.runtime.journal, w.clock.time)
    told = text.clock(w.clock.time + 600.0, w.clock.time)
    line = f"waiting    TEST-1/a.pdf: its end is missing (a PDF ends with %%EOF) (until {told})"
    assert line in status_text.lines(found, w.clock.time)


def test_the_check_can_be_switched_off(tmp_path: Path) -> None:
    with world(tmp_path, settle={"incomplete_seconds": 0.0}) as w:
        w.drop("TEST-1/a.pdf", PDF[:1000])
        w.deliver()

        assert (w.states(), w.row("TEST-1/a.pdf").lacks) == (["DONE"], None)


def test_dying_while_a_file_waits_changes_nothing(w: World) -> None:
    w.drop("TEST-1/a.pdf", PDF[:1000])
    w.scan()
    w.clock.advance(300.0)
    w.restart()
    w.scan()
    w.clock.advance(599.0)
    w.deliver()
    assert w.states() == ["SEEN"]
    w.clock.advance(1.0)
    w.deliver()

    assert w.states() == ["DONE"]


def test_the_memory_of_answers_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truncation, "_REMEMBERED", 2)
    (tmp_path / "file").write_bytes(b"%PDF-")
    known = truncation.Endings()
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        for number in range(5):
            print_ = row(State.SEEN, mtime_ns=number, size=5, ctime_ns=1, dev=1, ino=1).fingerprint
            assert known.lacks(descriptor, b"file", print_) == "a PDF ends with %%EOF"
    finally:
        os.close(descriptor)

    assert len(known._known) == 2
