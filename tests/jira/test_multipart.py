"""The body of an upload: exact bytes of a true length, and never a closing boundary behind a file that changed."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attachd.jira import filenames, multipart
from attachd.jira.multipart import BUFFERED_BYTES, READ_BYTES, Body, Changed, Cut, Part
from attachd.standin.upload import Intake

#: Long before any test: whatever writes to a file changes this time.
MTIME_NS = 1_000_000_000 * 10**9
LARGE = bytes(range(256)) * (BUFFERED_BYTES // 256) + b"end"
#: In how many pieces that is sent.
PIECES = -(-len(LARGE) // READ_BYTES)
Make = Callable[..., Part]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Make]:
    """Make files as parts; their descriptors are closed at the end."""
    descriptors: list[int] = []

    def make(name: str = "a.txt", content: bytes = b"content") -> Part:
        path = tmp_path / f"file-{len(descriptors)}"
        path.write_bytes(content)
        os.utime(path, ns=(MTIME_NS, MTIME_NS))
        descriptors.append(os.open(path, os.O_RDWR))
        return claimed(descriptors[-1], name)

    yield make
    for descriptor in descriptors:
        os.close(descriptor)


def claimed(descriptor: int, name: str) -> Part:
    status = os.fstat(descriptor)
    return Part(descriptor, name, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def part_head(boundary: str, name: str, kind: str) -> bytes:
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'
    ).encode()


# --- Exact bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contents", [(b"",), (b"one",), (b"one", b"", b"\r\n--three--\r\n"), (LARGE,), (b"x", LARGE)])
def test_the_body_byte_by_byte(made: Make, contents: Sequence[bytes]) -> None:
    body = Body([made(f"{number}.txt", content) for number, content in enumerate(contents)])

    heads = [part_head(body.boundary, f"{number}.txt", "text/plain") for number in range(len(contents))]
    expected = b"\r\n".join(head + content for head, content in zip(heads, contents, strict=True))
    expected += f"\r\n--{body.boundary}--\r\n".encode()
    assert b"".join(body) == expected
    assert body.length == body.sent == len(expected)
    assert body.content_type == f"multipart/form-data; boundary={body.boundary}"
    assert body.checksums == tuple(map(sha256, contents))


def test_no_two_bodies_share_a_boundary(made: Make) -> None:
    part = made()

    assert len({Body([part]).boundary for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("report.pdf", "application/pdf"),
        ("photo.JPG", "image/jpeg"),
        ("no extension", "application/octet-stream"),
        ("odd.unheardof", "application/octet-stream"),
        (".txt", "application/octet-stream"),
        # What is compressed is not what it will be when it is unpacked.
        ("report.csv.gz", "application/gzip"),
        ("all.tar.gz", "application/gzip"),
        ("all.tgz", "application/gzip"),
        ("all.tar.bz2", "application/x-bzip2"),
        ("all.tar.xz", "application/x-xz"),
        ("page.html.br", "application/octet-stream"),
    ],
)
def test_the_content_type_is_guessed_from_the_name(made: Make, name: str, kind: str) -> None:
    body = Body([made(name)])

    assert b"".join(body).startswith(part_head(body.boundary, name, kind))


NAMES = [
    b"report.pdf", "Übersicht März.pdf".encode(), "日本語の報告書.pdf".encode(), "👩‍🔧.png".encode(),
    b'quo"te.txt', b"back\\slash", b"semi;colon=1; name=x.txt", b"percent%22%0D%0A.txt", b"=?utf-8?Q?=41?=", b"a'b.txt",
    b"line\r\nbreak: x.txt", b"\xff\xfe.txt", b"  spaced  ", b"..", b"data:text,x", b"x" * 255, "ü".encode() * 127,
]  # fmt: skip


def arrives(folder: Path, body: Body) -> list[tuple[str, bytes]]:
    """Take a body in as the stand-in does, which reads names as Commons FileUpload does."""
    intake = Intake(folder, body.content_type, header_limit=512, size_limit=1 << 30, file_limit=60)
    try:
        chunks = b"".join(body)
        intake.feed(chunks)
        assert intake.closed
        assert len(chunks) == body.length
        return [(part.filename, part.path.read_bytes()) for part in intake.parts]
    finally:
        intake.discard()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_arrives_as_it_was_sent(made: Make, tmp_path: Path, name: bytes) -> None:
    stored = filenames.stored_name(name)

    assert arrives(tmp_path, Body([made(stored, b"1"), made("b.txt", b"22")])) == [(stored, b"1"), ("b.txt", b"22")]


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=255), st.binary(max_size=50)), min_size=1, max_size=4))
def test_whatever_the_names_and_contents(files: list[tuple[bytes, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder), files) as parts:
        found = arrives(Path(folder), Body(parts))

    assert found == [(filenames.stored_name(name), content) for name, content in files]


@contextmanager
def opened(folder: Path, files: Sequence[tuple[bytes, bytes]]) -> Iterator[list[Part]]:
    parts: list[Part] = []
    try:
        for number, (name, content) in enumerate(files):
            path = folder / str(number)
            path.write_bytes(content)
            parts.append(claimed(os.open(path, os.O_RDONLY), filenames.stored_name(name)))
        yield parts
    finally:
        for part in parts:
            os.close(part.descriptor)


# --- One buffer, or a stream ----------------------------------------------------------------------------------------


def frame(parts: int = 1) -> int:
    """How many bytes of a body with names of five characters are not content."""
    one = len(part_head("0" * 32, "a.txt", "text/plain"))
    return parts * one + (parts - 1) * len("\r\n") + len("\r\n--\r\n--") + 32


@pytest.mark.parametrize(("excess", "buffered"), [(0, True), (1, False)])
def test_a_body_up_to_4_mib_is_one_buffer(made: Make, excess: int, buffered: bool) -> None:
    body = Body([made(content=LARGE[: BUFFERED_BYTES - frame() + excess])])

    assert body.length == BUFFERED_BYTES + excess
    assert body.buffered is buffered
    assert len(body.checksums) == buffered
    assert (len(list(body)) == 1) is buffered


def test_small_files_that_are_large_together_are_streamed(made: Make) -> None:
    body = Body([made("a.txt", LARGE[: 1 << 21]), made("b.txt", LARGE[: 1 << 21])])

    assert not body.buffered
    assert len(b"".join(body)) == (1 << 22) + frame(2)


def test_no_more_than_a_piece_of_a_large_file_is_in_memory(made: Make) -> None:
    body = Body([made(content=LARGE)])

    assert max(map(len, body)) == READ_BYTES


def test_one_buffer_is_exhausted_with_the_first_write(made: Make) -> None:
    body = Body([made()])
    assert (body.begun, body.exhausted, body.sent) == (False, False, 0)

    chunks = iter(body)
    next(chunks)

    assert (body.begun, body.exhausted, body.sent) == (True, True, 0)
    assert list(chunks) == []
    assert body.sent == body.length


def test_a_stream_is_exhausted_with_its_closing_boundary_and_not_before(made: Make) -> None:
    body = Body([made("a.txt", LARGE), made("b.txt", b"small")])
    assert (body.begun, body.exhausted) == (False, False)

    chunks = [(chunk, body.exhausted) for chunk in body]

    assert [exhausted for _, exhausted in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1][0] == f"\r\n--{body.boundary}--\r\n".encode()
    assert b"".join(chunk for chunk, _ in chunks[:-1]).count(f"--{body.boundary}--".encode()) == 0


def test_the_progress_is_what_was_taken(made: Make) -> None:
    body = Body([made(content=LARGE)])
    seen, taken = [], 0

    for chunk in body:
        seen.append(body.sent == taken)
        taken += len(chunk)

    assert all(seen)
    assert body.sent == taken


def test_a_body_is_made_anew_from_byte_0_each_time(made: Make) -> None:
    for content in (b"small", LARGE):
        body = Body([made(content=content)])
        partly = iter(body)
        next(partly)

        first, second = b"".join(body), b"".join(body)

        assert first == second
        assert len(first) == body.length == body.sent
        assert body.exhausted


def test_a_stream_that_begins_anew_is_not_exhausted(made: Make) -> None:
    body = Body([made(content=LARGE)])
    assert len(b"".join(body)) == body.length

    next(iter(body))

    assert (body.exhausted, body.begun, body.sent) == (False, True, 0)


def test_the_position_of_the_descriptor_does_not_matter(made: Make) -> None:
    for content in (b"small", LARGE):
        part = made(content=content)
        os.lseek(part.descriptor, 3, os.SEEK_SET)

        assert content in b"".join(Body([part]))


# --- Before the closing boundary ------------------------------------------------------------------------------------


def test_before_the_closing_boundary_all_checksums_are_given_once(made: Make) -> None:
    told: list[tuple[bytes, ...]] = []
    body = Body([made("a.txt", LARGE), made("b.txt", b"small")], lambda sums: told.append(tuple(sums)))
    chunks = iter(body)

    before = [next(chunks)]
    while not told:
        before.append(next(chunks))

    assert told == [(sha256(LARGE), sha256(b"small"))] == [body.checksums]
    # The chunk that was made behind the call is the closing boundary, and the only one.
    assert before[-1] == f"\r\n--{body.boundary}--\r\n".encode()
    assert list(chunks) == []
    assert len(told) == 1


def test_when_the_checksums_are_given_the_closing_boundary_has_not_left(made: Make) -> None:
    seen: list[tuple[bool, int]] = []
    body = Body([made(content=LARGE)], lambda _: seen.append((body.exhausted, body.sent)))

    end = list(body)[-1]

    assert seen == [(False, body.length - len(end))]


class Full(Exception):
    """Something of the journal's."""


@pytest.mark.parametrize("error", [Full(), OSError(28, "No space left on device"), Changed("no")])
def test_what_is_raised_there_stops_the_body(made: Make, error: Exception) -> None:
    def refuse(_: Sequence[bytes]) -> None:
        raise error

    taken, caught = drained(body := Body([made(content=LARGE)], refuse))

    assert caught is error
    assert not body.exhausted
    assert closing(body) not in taken
    assert taken.endswith(LARGE)


def test_one_buffer_needs_no_such_call(made: Make) -> None:
    told: list[Sequence[bytes]] = []

    body = Body([made()], told.append)

    assert body.checksums == (sha256(b"content"),)
    assert len(b"".join(body)) == body.length
    assert told == []


def drained(body: Body, meanwhile: Callable[[int], object] = lambda _: None) -> tuple[bytes, Exception | None]:
    """Take a body as far as it comes, doing something after each chunk; what ended it, too."""
    taken: list[bytes] = []
    try:
        for chunk in body:
            taken.append(chunk)
            meanwhile(len(taken))
    except Exception as error:  # noqa: BLE001  that is what is tested
        return b"".join(taken), error
    return b"".join(taken), None


def closing(body: Body) -> bytes:
    return f"--{body.boundary}--".encode()


# --- A file that changes --------------------------------------------------------------------------------------------


def grow(part: Part) -> None:
    os.pwrite(part.descriptor, b"more", part.size)


def grow_by_the_boundary(part: Part) -> None:
    os.pwrite(part.descriptor, b"x" * len("\r\n--\r\n--") + b"x" * 32, part.size)


def shrink(part: Part) -> None:
    os.truncate(part.descriptor, part.size - 1)


def empty(part: Part) -> None:
    os.truncate(part.descriptor, 0)


def touch(part: Part) -> None:
    os.utime(part.descriptor)


def overwrite(part: Part) -> None:
    os.pwrite(part.descriptor, b"X", part.size - 2)


CHANGES = [grow, grow_by_the_boundary, shrink, empty, touch, overwrite]


def overwrite_unseen(part: Part, position: int) -> None:
    """Write and put the file's time back, as some copying programs do."""
    os.pwrite(part.descriptor, b"X", position)
    # The kernel's clock for files ticks every few milliseconds; a file that has settled is older than that.
    while os.fstat(part.descriptor).st_ctime_ns == part.ctime_ns:
        os.utime(part.descriptor, ns=(part.mtime_ns, part.mtime_ns))
    os.utime(part.descriptor, ns=(part.mtime_ns, part.mtime_ns))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("moment", [1, 2, PIECES, PIECES + 3])
def test_a_file_that_changes_while_it_is_sent_is_never_sent_whole(
    made: Make, change: Callable[[Part], None], moment: int
) -> None:
    part = made(content=LARGE)
    body = Body([made("first.txt", b"first"), part])

    taken, error = drained(body, lambda count: change(part) if count == moment else None)

    assert isinstance(error, Changed)
    assert not body.exhausted
    assert closing(body) not in taken
    assert len(taken) < body.length


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_behind_its_own_part_is_not_sent_whole_either(
    made: Make, change: Callable[[Part], None]
) -> None:
    part = made("first.txt", LARGE)
    body = Body([part, made("last.txt", LARGE)])

    taken, error = drained(body, lambda count: change(part) if count == PIECES + 5 else None)

    assert isinstance(error, Changed)
    assert closing(body) not in taken


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("content", [b"content", LARGE])
def test_a_file_that_changed_since_it_was_claimed_is_not_sent(
    made: Make, change: Callable[[Part], None], content: bytes
) -> None:
    part = made(content=content)
    change(part)

    if len(content) < BUFFERED_BYTES:
        with pytest.raises(Changed):
            Body([part])
        return
    taken, error = drained(body := Body([part]))
    assert isinstance(error, Changed)
    assert closing(body) not in taken


@pytest.mark.parametrize("moment", [4, PIECES, PIECES + 3])
def test_a_write_behind_what_was_sent_shows_although_its_time_was_put_back(made: Make, moment: int) -> None:
    part = made(content=LARGE)
    body = Body([made("first.txt", b"first"), part])

    taken, error = drained(body, lambda count: overwrite_unseen(part, 0) if count == moment else None)

    assert isinstance(error, Changed)
    assert closing(body) not in taken


@pytest.mark.parametrize("moment", [1, 2])
def test_what_is_sent_whole_is_what_lies_there(made: Make, moment: int) -> None:
    """A write before its place was read, its time put back: the file is one content, and that is what is sent."""
    part = made(content=LARGE)
    body = Body([part])

    taken, error = drained(body, lambda count: overwrite_unseen(part, part.size - 1) if count == moment else None)

    assert error is None
    assert LARGE[:-1] + b"X" in taken
    assert body.checksums == (sha256(LARGE[:-1] + b"X"),)


def test_what_one_buffer_holds_is_sent_whatever_becomes_of_the_file(made: Make) -> None:
    part = made()
    body = Body([part])
    empty(part)

    assert b"content" in b"".join(body)
    assert body.checksums == (sha256(b"content"),)


@pytest.mark.parametrize("moment", [1, 5])
def test_a_change_of_mode_or_name_is_no_change(made: Make, tmp_path: Path, moment: int) -> None:
    part = made(content=LARGE)
    body = Body([part])

    def change(count: int) -> None:
        if count == moment:
            os.chmod(part.descriptor, 0o640)
            os.rename(tmp_path / "file-0", tmp_path / "moved")

    taken, error = drained(body, change)

    assert error is None
    assert len(taken) == body.length


def test_a_change_of_mode_between_claim_and_sending_is_none_either(made: Make) -> None:
    part = made()
    os.chmod(part.descriptor, 0o640)

    assert b"content" in b"".join(Body([part]))
    assert multipart.checksum(part) == sha256(b"content")


# --- Stopping, and disks that fail ----------------------------------------------------------------------------------


def test_a_stream_is_cut_when_the_service_stops(made: Make) -> None:
    stopping = False

    def stop(count: int) -> None:
        nonlocal stopping
        stopping = count == 3

    body = Body([made(content=LARGE)], cut=lambda: stopping)
    taken, error = drained(body, stop)

    assert isinstance(error, Cut)
    assert not body.exhausted
    assert closing(body) not in taken
    assert len(taken) < body.length


def test_a_stop_behind_the_last_byte_of_the_file_lets_the_body_end(made: Make) -> None:
    pieces = 1 + PIECES
    taken = 0
    body = Body([made(content=LARGE)], cut=lambda: taken == pieces)

    for _ in body:
        taken += 1

    assert taken == pieces + 1
    assert body.exhausted


@pytest.mark.parametrize("end", ["whole", "cut", "left"])
def test_no_thread_is_left_of_a_stream_however_it_ended(made: Make, end: str) -> None:
    before = set(threading.enumerate())
    pieces = iter(Body([made(content=LARGE)], cut=lambda: end == "cut" and taken > 3))
    taken = 0
    with suppress(Cut):
        for taken, _ in enumerate(pieces, 1):
            if end == "left" and taken == 3:
                break
    threads = set(threading.enumerate()) - before
    del pieces

    assert threads or end == "whole"
    for thread in threads:
        thread.join(10.0)
        assert not thread.is_alive()


def test_a_digest_that_is_cleared_away_in_its_own_thread_holds_nobody_up() -> None:
    """As the garbage collector may have it, with a body that was left in the middle."""
    digest = multipart.Beside()
    digest.update(b"piece")
    assert digest._pool is not None

    digest._pool.submit(digest.__exit__, None, None, None).result(10.0)


def test_where_no_thread_can_be_started_a_stream_is_digested_all_the_same(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    body = Body([made(content=LARGE)])
    monkeypatch.setattr(threading.Thread, "start", full)

    assert len(b"".join(body)) == body.length
    assert body.checksums == (sha256(LARGE),)


def test_one_buffer_is_not_cut(made: Make) -> None:
    body = Body([made()], cut=lambda: True)

    assert len(b"".join(body)) == body.length


def test_an_error_of_the_disk_passes(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    body = Body([made(content=LARGE)])
    failing = OSError(5, "Input/output error")
    read = os.pread

    def pread(descriptor: int, count: int, position: int) -> bytes:
        if position >= 2 * READ_BYTES:
            raise failing
        return read(descriptor, count, position)

    monkeypatch.setattr(os, "pread", pread)
    taken, error = drained(body)

    assert error is failing
    assert not body.exhausted
    assert closing(body) not in taken


def test_an_error_of_the_disk_passes_from_the_constructor_of_one_buffer(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pread(*_: int) -> bytes:
        raise OSError(5, "Input/output error")

    part = made()
    monkeypatch.setattr(os, "pread", pread)

    with pytest.raises(OSError, match="Input/output error"):
        Body([part])


def test_a_disk_that_gives_less_than_was_asked_for(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, position: read(fd, min(count, 100_001), position))

    body = Body([made(content=LARGE)])

    assert LARGE in b"".join(body)
    assert body.checksums == (sha256(LARGE),)


# --- The checksum alone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"content", LARGE])
def test_the_checksum_of_a_file(made: Make, content: bytes) -> None:
    assert multipart.checksum(made(content=content)) == sha256(content)


@pytest.mark.parametrize("change", [grow, shrink, touch, overwrite])
def test_the_checksum_of_a_file_that_changed(made: Make, change: Callable[[Part], None]) -> None:
    part = made()
    change(part)

    with pytest.raises(Changed):
        multipart.checksum(part)
