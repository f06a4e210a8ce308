"""A file is attached under a name that Jira stores unchanged."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attachd.jira import filenames

LONG = "x" * 300


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        (b"report.pdf", "report.pdf"),
        (b"a/b/report.pdf", "report.pdf"),
        (b"folder/", "folder"),
        ("Übersicht März.pdf".encode(), "Übersicht März.pdf"),
        (unicodedata.normalize("NFD", "Übersicht.pdf").encode(), "Übersicht.pdf"),
        ("日本語の報告書.pdf".encode(), "日本語の報告書.pdf"),
        ("👩‍🔧.png".encode(), "👩‍🔧.png"),
        (b'a"b\\c:d?e*f<g>h|i', "a_b_c_d_e_f_g_h_i"),
        (b"line\r\nbreak\x00\x1b\x7f.txt", "line__break___.txt"),
        ("c1\x85\x9f.txt".encode(), "c1__.txt"),
        ("sep\u2028\u2029.txt".encode(), "sep__.txt"),
        ("invoice\u202efdp.exe".encode(), "invoice_fdp.exe"),
        (b"=?utf-8?Q?=41?=", "=_utf-8_Q_=41_="),
        (b"caf\xe9.txt", "caf%E9.txt"),
        (b"\xff\xfe", "%FF%FE"),
        (b"100%.txt", "100%.txt"),
        (b"  spaced .pdf  ", "spaced .pdf"),
        ("\u00a0\u3000wide.pdf\u200b".encode(), "wide.pdf"),
        (b"<\xcc\xb8.txt", "≮.txt"),
        (b"", "unnamed"),
        (b"   ", "unnamed"),
        (b".", "unnamed"),
        (b"..", "unnamed"),
        (b"...", "unnamed"),
        (b".profile", ".profile"),
        (b"?", "_"),
        (b"a - b's (1) [2] {3} & #4 +5 ;6 =7.txt", "a - b's (1) [2] {3} & #4 +5 ;6 =7.txt"),
    ],
)
def test_is_stored_as(name: bytes, stored: str) -> None:
    assert filenames.stored_name(name) == stored


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        (f"{LONG}.pdf", "x" * 236 + ".pdf"),
        (LONG, "x" * 240),
        ("ü" * 150 + ".pdf", "ü" * 118 + ".pdf"),
        ("報" * 100 + ".png", "報" * 78 + ".png"),
        (f"a.{LONG}", "a." + "x" * 238),
        ("x" * 235 + " " * 20 + ".pdf", "x" * 235 + " .pdf"),
    ],
)
def test_a_long_name_keeps_its_extension(name: str, stored: str) -> None:
    assert filenames.stored_name(name.encode()) == stored


def test_a_letter_is_not_cut_off_from_its_marks() -> None:
    stored = filenames.stored_name(("x" * 239 + "q\u0323\u0307" + LONG).encode())

    assert stored == "x" * 239


def test_no_joiner_is_left_at_the_end() -> None:
    stored = filenames.stored_name(("x" * 232 + "👩\u200d🔧" + LONG).encode())

    assert stored == "x" * 232 + "👩"


def test_a_name_of_nothing_but_marks_is_cut_all_the_same() -> None:
    assert 0 < len(filenames.stored_name(("\u0323" * 200).encode()).encode()) <= 240


NAMES = st.one_of(
    st.binary(max_size=300), st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
)


@given(NAMES)
@example(b"x" * 236 + b" " + "ü.pdf".encode())
@example(("x" * 238 + ". .pdf").encode())
@example(("\ufeff \u200b" * 100).encode())
def test_what_is_stored_stays_as_it_is(name: bytes) -> None:
    stored = filenames.stored_name(name)

    assert filenames.stored_name(stored.encode()) == stored
    assert filenames.comparable(stored) == stored


@given(NAMES)
def test_what_is_stored_is_never_odd(name: bytes) -> None:
    stored = filenames.stored_name(name)

    assert 0 < len(stored.encode()) <= filenames.LONGEST
    assert not set(stored) & set('"\\/:?*<>|')
    assert not any(unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") for char in stored)
    assert stored == stored.strip()
    assert unicodedata.is_normalized("NFC", stored)


@pytest.mark.parametrize(
    "reported",
    ["Übersicht.pdf", "U\u0308bersicht.pdf", " Übersicht.pdf ", "Übersicht.pdf\u3000"],
)
def test_what_jira_reports_is_compared_in_one_form(reported: str) -> None:
    assert filenames.comparable(reported) == filenames.stored_name("Übersicht.pdf".encode())


def test_jira_may_report_what_no_encoding_has() -> None:
    assert filenames.comparable("a\ud800/b?.txt") == "a__b_.txt"


# --- Paths -------------------------------------------------------------------------------------------------------


def stored(*parts: bytes) -> str:
    return filenames.stored_path(parts, b"-".join(parts))


PART = NAMES.map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")[:255] or b"x")
PATH = st.lists(PART, min_size=1, max_size=6)
#: Beginnings and ends that many have in common, so that cutting would make them one.
LONG_PATH = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b", b"\xc3\xa4", b"\xff"]), st.integers(1, 250), st.sampled_from([b"", b".pdf", b".x"])
    ).map(lambda each: (each[0] * each[1])[: 255 - len(each[2])] + each[2]),
    min_size=1,
    max_size=6,
)


@given(PATH)
def test_a_short_path_is_joined_and_nothing_else(parts: list[bytes]) -> None:
    joined = b"-".join(parts)

    if len(filenames.comparable(filenames._text(joined)).encode()) <= filenames.LONGEST:
        assert stored(*parts) == filenames.stored_name(joined)


@given(st.one_of(PATH, LONG_PATH))
def test_what_is_stored_of_a_path_is_never_odd_and_stays_as_it_is(parts: list[bytes]) -> None:
    name = stored(*parts)

    assert 0 < len(name.encode()) <= filenames.LONGEST
    assert filenames.stored_name(name.encode()) == name
    assert filenames.comparable(name) == name
    assert stored(*parts) == name


@given(LONG_PATH, LONG_PATH)
@example([b"f" * 255] * 5 + [b"a.pdf"], [b"f" * 255] * 5 + [b"b.pdf"])
@example([b"f" * 255] * 4 + [b"g", b"a.pdf"], [b"f" * 255] * 4 + [b"h", b"a.pdf"])
@example([b"x" * 255], [b"x" * 254 + b"y"])
@example([b"a" * 200, b"b" * 200], [b"a" * 200 + b"-" + b"b" * 54, b"b" * 145])
def test_different_paths_that_are_cut_get_different_names(one: list[bytes], other: list[bytes]) -> None:
    cut = all(len(b"-".join(parts)) > filenames.LONGEST for parts in (one, other))

    assert not cut or one == other or stored(*one) != stored(*other)


@pytest.mark.parametrize(
    ("parts", "begin", "end"),
    [
        ([b"f" * 255] * 5 + [b"Invoice 2026.pdf"], "f" * 211, "-Invoice 2026.pdf"),
        ([b"folder" * 5, b"x" * 220 + b".tar.gz"], "f-", "-" + "x" * 220 + ".tar.gz"),
        ([b"folder" * 5, b"x" * 230 + b".gz"], "x" * 226 + "-", ".gz"),
        ([b"x" * 251 + b".pdf"], "x" * 225 + "-", ".pdf"),
        (["ü".encode() * 100, "ü".encode() * 100], "ü" * 14, "-" + "ü" * 100),
        ([b"a" * 100, b"\xff" * 80 + b".log"], "%FF" * 75, ".log"),
    ],
)
def test_a_path_that_is_cut_keeps_the_files_own_name(parts: list[bytes], begin: str, end: str) -> None:
    name = stored(*parts)

    assert name.startswith(begin)
    assert name.endswith(end)
