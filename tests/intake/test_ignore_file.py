"""``.attachdignore``: what people who drop files want left alone; and that nothing is taken where it cannot be read."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attachd.intake import ignore as intake_ignore
from attachd.intake import ignore_file
from attachd.intake.ignore_file import Broken, Patterns, Unread
from attachd.journal import counts
from attachd.model import State, Word
from attachd.report import status, status_text
from attachd.report.why import Ignored, Rule, Undecided
from intake.test_gates import told
from memory_jira import World, world
from report.test_why_lookup import one


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def left(w: World) -> set[str]:
    return {name for name in w.files(w.inbox) if not name.endswith(".attachdignore")}


# --- What a file says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"*.log\n!\n", "has no pattern in line 2 ('!')"),
        (b"\n\n\\", "has no pattern in line 3 ('\\\\')"),
        (b"[\x02-\x01]", r"has no pattern in line 1 ('[\x02-\x01]': its range \x02-\x01 runs backwards)"),
        (b"*.log\r\n[z-a].txt\r\n", "has no pattern in line 2 ('[z-a].txt': its range z-a runs backwards)"),
        (b"a[", "has no pattern in line 1 ('a[': its [ is never closed)"),
        (b"a\0", "has no pattern in line 1 ('a\\x00': it has a NUL character; save the file as UTF-8 text)"),
        (b"[" + b"a" * 500, "has no pattern in line 1 ('[" + "a" * 58 + "…': its [ is never closed)"),
        (b"a" * 1025, "has more than 1024 characters in line 1"),
        (b"a\n" * 1001, "has more than 1000 patterns"),
        (
            "\n".join(f"[{chr(65 + i % 26)}{i}]" for i in range(101)).encode(),
            "has more than 100 different sets of characters such as [a-z]",
        ),
    ],
)
def test_a_bad_line_is_named(content: bytes, reason: str) -> None:
    assert ignore_file.parse(content) == Broken(reason)


@pytest.mark.parametrize(
    ("content", "name", "verdict"),
    [
        (b"# a comment\r\n\r\n*.log\r\n!keep.log\r\n", b"a.log", (True, "*.log")),
        (b"# a comment\r\n\r\n*.log\r\n!keep.log\r\n", b"keep.log", (False, "!keep.log")),
        (b"\xef\xbb\xbf/a.txt", b"a.txt", (True, "/a.txt")),
        (b"\xef\xbb\xbf/a.txt", b"b/a.txt", None),
        (b"*.\xff", b"a.\xff", (True, "*.\udcff")),
        ("prüf*".encode(), "pru\u0308f.txt".encode(), (True, "prüf*")),
        (b"", b"a", None),
    ],
)
def test_the_last_line_that_fits_decides(content: bytes, name: bytes, verdict: object) -> None:
    patterns = ignore_file.parse(content)

    assert isinstance(patterns, Patterns)
    assert patterns.verdict(name, folder=False) == verdict


def test_what_a_file_may_hold_at_most_is_taken() -> None:
    content = b"\n".join(b"*%d" % number for number in range(1000))
    sets = "".join(f"[{chr(0x4E00 + i)}-{chr(0x4F00 + i)}]\n" for i in range(100)).encode()

    assert isinstance(ignore_file.parse(content + b"\n# a comment\n"), Patterns)
    assert isinstance(ignore_file.parse(sets * 4), Patterns)
    assert isinstance(ignore_file.parse(b"a" * 1024 + b"\n" + b"#" * 1000), Patterns)


@settings(deadline=None)
@given(
    st.one_of(st.binary(max_size=200), st.text("[]!^-:*?\\/ #az\r\n\0", max_size=60).map(str.encode)),
    st.binary(max_size=60),
)
def test_whatever_a_file_holds_it_is_understood_or_named(content: bytes, name: bytes) -> None:
    patterns = ignore_file.parse(content)

    if isinstance(patterns, Patterns):
        assert patterns.verdict(name, folder=False) in (
            None,
            *((hidden, line) for hidden in (True, False) for line in lines(content)),
        )
    else:
        assert patterns.reason.isprintable()


def lines(content: bytes) -> list[str]:
    whole = unicodedata.normalize("NFC", content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape"))
    return [line.removesuffix("\r") for line in whole.split("\n")]


# --- In the inbox -----------------------------------------------------------------------------------------------


def test_it_holds_from_its_folder_downwards_and_nested_ones_add_to_it(w: World) -> None:
    w.drop("TEST-1/.attachdignore", b"*.log\n/raw/\n/top.txt\n")
    w.drop("TEST-1/a/.attachdignore", b"*.txt\n!keep.log\n")
    for name in (
        "x.log",
        "top.txt",
        "raw/x.bin",
        "a/x.log",
        "a/keep.log",
        "a/x.txt",
        "a/b/x.txt",
        "a/top.bin",
        "b/x.txt",
    ):
        w.drop(f"TEST-1/{name}", name.encode())
    w.drop("TEST-2/x.log")
    w.deliver()

    assert left(w) == {f"TEST-1/{n}" for n in ("x.log", "top.txt", "raw/x.bin", "a/x.log", "a/x.txt", "a/b/x.txt")}
    assert sorted(w.jira.names("TEST-1")) == ["a-keep.log", "a-top.bin", "b-x.txt"]
    assert w.jira.names("TEST-2") == ["x.log"]
    assert (w.inbox / "TEST-1/.attachdignore").exists()


def test_nothing_is_re_included_in_a_hidden_folder_nor_what_the_configuration_hides(tmp_path: Path) -> None:
    with world(tmp_path, settle={"ignore": ["*.bak"]}) as w:
        w.drop("TEST-1/.attachdignore", b"/raw/\n!*.bak\n!*.part\n")
        w.drop("TEST-1/raw/.attachdignore", b"!x.txt")
        for name in ("raw/x.txt", "a.bak", "a.part"):
            w.drop(f"TEST-1/{name}")
        w.deliver()

        assert w.rows() == []


def test_one_in_the_inbox_itself_or_in_no_issues_folder_means_nothing(w: World) -> None:
    for folder in (".", "no key"):
        w.drop(f"{folder}/.attachdignore", b"*")
    w.drop("TEST-1/a.txt")
    w.drop("no key/a.txt")
    w.deliver()

    assert w.row("TEST-1/a.txt").state is State.DONE
    assert w.runtime.journal.value("SELECT files FROM unrouted WHERE folder = ?", (b"no key",)) == 1


def test_a_waiting_file_that_is_ignored_by_now_is_withdrawn(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.drop("TEST-1/b/a.txt")
    w.scan()
    w.drop("TEST-1/.attachdignore", b"a.txt")
    w.deliver()

    assert w.states() == ["WITHDRAWN", "WITHDRAWN"]
    assert len(w.files(w.inbox)) == 3


def test_a_change_counts_from_the_next_look_on(w: World) -> None:
    ignore = w.drop("TEST-1/.attachdignore", b"*.txt")
    w.drop("TEST-1/a.txt")
    w.deliver()
    assert w.rows() == []
    ignore.write_bytes(b"*.txx")  # of the same length
    w.deliver()

    assert w.states() == ["DONE"]


def test_why_names_pattern_and_file(w: World) -> None:
    w.drop("TEST-1/a/.attachdignore", b"*.log\nraw\n")
    w.drop("TEST-1/a/x.log")
    w.drop("TEST-1/a/raw/y.txt")
    w.drop("TEST-1/a/z.txt")
    file = b"TEST-1/a/.attachdignore"

    assert one(w, "inbox/TEST-1/a/x.log") == Ignored("*.log", Rule.LISTED, b"", file)
    assert one(w, "inbox/TEST-1/a/raw/y.txt") == Ignored("raw", Rule.LISTED, b"raw", file)
    assert one(w, "inbox/TEST-1/a/raw") == Ignored("raw", Rule.LISTED, b"", file)
    assert (
        told(w, "TEST-1/a/x.log").sentence
        == "TEST-1/a/x.log is ignored: its name matches *.log in TEST-1/a/.attachdignore."
    )
    assert "has not seen" in told(w, "TEST-1/a/z.txt").sentence


def test_what_is_left_alone_is_counted(w: World) -> None:
    """Whatever pattern it is; attachd's own files are not."""
    w.drop("TEST-1/.attachdignore", b"*.log\nraw\n")
    for name in ("TEST-1/a.log", "TEST-1/raw/b", "TEST-1/c.tmp", "TEST-1/d.txt", "TEST-2/Thumbs.db", "no key/e.tmp"):
        w.drop(name)
    w.scan()
    assert counts.ignored(w.runtime.journal) == 4
    (w.inbox / "TEST-1/a.log").unlink()
    w.scanner.scan({b"TEST-1"})
    assert counts.ignored(w.runtime.journal) == 3
    (w.inbox / "TEST-2/Thumbs.db").unlink()
    w.scan()

    found = status.collect(w.runtime.config, w.home / "state", w.runtime.journal, w.clock.now(), look=False)
    assert found["ignored"] == 2
    for name in ("raw/b", "c.tmp"):
        (w.inbox / "TEST-1" / name).unlink()
    (w.inbox / "TEST-1/raw").rmdir()
    w.restart()
    w.scan()
    assert counts.ignored(w.runtime.journal) == 0
    assert "ignored    2 names match an ignore pattern; `attachd why FOLDER` says which" in status_text.lines(
        found, w.clock.now()
    )


# --- What cannot be used ----------------------------------------------------------------------------------------


def broken(w: World, kind: str) -> str:
    """Put one there that cannot be used, and return what is said of it."""
    ignore = w.drop(
        "TEST-1/a/.attachdignore", b"!\n" if kind == "pattern" else b"x" * 70_000 if kind == "large" else b""
    )
    if kind in ("link", "folder", "fifo"):
        ignore.unlink()
        made = {
            "link": lambda: ignore.symlink_to(w.home / "token"),
            "folder": ignore.mkdir,
            "fifo": lambda: os.mkfifo(ignore),
        }
        made[kind]()
    return {
        "pattern": "has no pattern in line 1 ('!')",
        "large": "is larger than 16384 bytes",
        "link": "is a link",
        "folder": "is no regular file",
        "fifo": "is no regular file",
    }[kind]


@pytest.mark.parametrize("kind", ["pattern", "large", "link", "folder", "fifo"])
def test_where_it_cannot_be_used_nothing_of_that_folder_is_taken(w: World, kind: str) -> None:
    reason = broken(w, kind)
    for name in ("a/x.txt", "a/b/y.txt", "z.txt"):
        w.drop(f"TEST-1/{name}", name.encode())
    report = w.scan()
    w.work()

    assert w.jira.names("TEST-1") == ["z.txt"]
    trouble = f".attachdignore {reason}; nothing of this folder is taken until it is mended"
    assert report.troubles == [(b"TEST-1/a", trouble)]
    assert one(w, "inbox/TEST-1/a/b/y.txt") == Undecided(b"TEST-1/a", f".attachdignore {reason}")
    answer = told(w, "TEST-1/a/x.txt")
    assert answer.word is Word.BLOCKED
    assert answer.sentence.startswith(f"TEST-1/a/x.txt is blocked: TEST-1/a/.attachdignore {reason}.")


def test_what_was_ready_is_held_back_until_it_is_mended(w: World) -> None:
    for name in ("a/x.txt", "a/y.log", "z.txt"):
        w.drop(f"TEST-1/{name}", name.encode())
    w.scan()
    broken(w, "pattern")
    w.scan()
    before = w.runtime.journal.value("SELECT total_changes()")
    w.scan()
    assert w.runtime.journal.value("SELECT total_changes()") == before
    w.work()
    assert w.jira.names("TEST-1") == ["z.txt"]
    assert w.row("TEST-1/a/x.txt").blocked == ".attachdignore has no pattern in line 1 ('!')"
    w.drop("TEST-1/a/.attachdignore", b"*.log")
    w.deliver()

    assert sorted(w.jira.names("TEST-1")) == ["a-x.txt", "z.txt"]
    assert left(w) == {"TEST-1/a/y.log"}


def test_one_that_is_being_written_is_waited_for(w: World) -> None:
    w.drop("TEST-1/a.log")
    ignore = w.drop("TEST-1/.attachdignore", b"")
    with ignore.open("ab", buffering=0) as writer:
        w.deliver()
        assert w.rows() == []
        writer.write(b"*.log")
    w.deliver()

    assert w.rows() == []


def test_a_folder_that_fails_is_not_thought_empty(w: World) -> None:
    w.drop("TEST-1/a/x.txt")
    w.scan()
    broken(w, "pattern")
    for _ in range(3):
        w.clock.advance(60.0)
        w.scan()

    assert [(row.state, row.missing) for row in w.rows()] == [(State.SEEN, 0)]


def test_files_without_end_are_a_mistake(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_ignore, "MOST_FILES", 2)
    for folder in ("", "a/", "a/b/"):
        w.drop(f"TEST-1/{folder}.attachdignore", b"x")
        w.drop(f"TEST-1/{folder}y.txt")
    w.drop("TEST-2/.attachdignore", b"x")
    w.drop("TEST-2/y.txt")
    w.deliver()

    assert left(w) == {"TEST-1/a/b/y.txt"}


def test_all_files_below_a_folder_have_a_limit_together(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_ignore, "MOST_BYTES", 10)
    for folder, size in (("", 4), ("a/", 6), ("b/", 1)):
        w.drop(f"TEST-1/{folder}.attachdignore", b"x" * size)
        w.drop(f"TEST-1/{folder}y.txt")
    w.drop("TEST-2/.attachdignore", b"xxxx")
    w.drop("TEST-2/y.txt")
    w.deliver()

    (held,) = left(w)
    assert told(w, held).word is Word.BLOCKED
    assert told(w, held).sentence == (
        f"{held} is blocked: attachd cannot list {held.removesuffix('/y.txt')}: .attachdignore makes the files "
        "of this name below TEST-1 larger than 10 bytes together; nothing of this folder is taken until it is mended."
    )


def test_files_within_each_other_have_a_limit(w: World) -> None:
    folder = "TEST-1"
    for depth in range(intake_ignore.MOST_ABOVE + 2):
        w.drop(f"{folder}/.attachdignore", b"*.log")
        w.drop(f"{folder}/y.txt")
        folder += f"/{depth}"
    w.deliver()

    assert left(w) == {"TEST-1/0/1/2/3/4/5/6/7/y.txt", "TEST-1/0/1/2/3/4/5/6/7/8/y.txt"}
    sentence = told(w, "TEST-1/0/1/2/3/4/5/6/7/8/y.txt").sentence
    assert "is one of more than 8 in folders within each other" in sentence


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.EMFILE, "attachd has run out of file descriptors"),
        (errno.ENFILE, "this machine has run out of file descriptors"),
        (errno.ENOMEM, "this machine has run out of memory"),
        (errno.EIO, "its disk or share fails"),
        (errno.ESTALE, "its disk or share fails"),
    ],
)
def test_what_the_machine_is_short_of_is_not_the_files_fault(
    w: World, monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    """Nothing is concluded from it, and it goes on by itself."""
    w.drop("TEST-1/x.txt")
    w.drop("TEST-2/y.txt")
    opened = os.open

    def short(path: object, flags: int, *args: object, **options: object) -> int:
        if path == ignore_file.NAME:
            raise OSError(code, os.strerror(code))
        return opened(path, flags, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", short)
        troubles = dict(w.scan().troubles)
        w.work()

    assert set(troubles) == {b"TEST-1", b"TEST-2"}
    assert all(reason.startswith(said) and "attachdignore" not in reason for reason in troubles.values())
    assert w.rows() == []
    w.deliver()
    assert w.states() == ["DONE", "DONE"]


def test_what_is_ready_stays_so_while_the_machine_is_short_of_something(
    w: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    w.drop("TEST-1/x.txt")
    w.scan()
    w.clock.advance(60.0)
    w.scan()
    monkeypatch.setattr(ignore_file, "read", lambda *_, **__: Unread("attachd has run out of file descriptors"))
    w.scan()

    assert [(row.state, row.blocked) for row in w.rows()] == [(State.READY, None)]


def test_control_characters_of_a_line_do_not_reach_the_terminal(w: World) -> None:
    w.drop("TEST-1/.attachdignore", b"a\x1b*\n*.\xff\n")
    w.drop("TEST-1/a\x1b[2J.txt")
    w.drop(os.fsdecode(b"TEST-1/a.\xff"))

    assert r"matches a\x1b* in" in told(w, "TEST-1/a\x1b[2J.txt").sentence
    assert r"matches *.\xff in" in told(w, os.fsdecode(b"TEST-1/a.\xff")).sentence


def test_short_reads_do_not_cut_a_file_off(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w.drop("TEST-1/.attachdignore", b"*.log\n*.txt\n")
    w.drop("TEST-1/y.txt")
    read = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, most: read(descriptor, min(most, 3)))
    w.scan()

    assert w.rows() == []


def test_a_folder_has_patterns_of_its_own(tmp_path: Path) -> None:
    with world(tmp_path, settle={"ignore": ["*.bak"]}, folder=[{"match": "LC-*", "ignore": ["*.raw"]}]) as w:
        for name in ("LC-1/a.bak", "LC-1/a.raw", "TEST-1/a.bak", "TEST-1/a.raw"):
            w.drop(name)
        w.deliver()

        assert left(w) == {"LC-1/a.raw", "TEST-1/a.bak"}
        assert one(w, "inbox/LC-1/a.raw") == Ignored("*.raw", Rule.USERS)
