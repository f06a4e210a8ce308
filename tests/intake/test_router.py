"""Which issue a folder means."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import Mistake
from attachd.intake import router as intake_router
from attachd.intake.router import Routed, Router, Unrouted

PATTERN = "[A-Z][A-Z0-9_]*-[1-9][0-9]*"
PLAIN = Router(PATTERN, [], False, {})


@pytest.mark.parametrize(
    ("folder", "key"),
    [
        ("TEST-123", "TEST-123"),
        ("TEST-1", "TEST-1"),
        ("TEST-1234", "TEST-1234"),
        ("TEST-1234567890", "TEST-1234567890"),
        ("test-1", "TEST-1"),
        ("Test-1", "TEST-1"),
        ("A-1", "A-1"),
        ("D_-1", "D_-1"),
        ("A2B-123", "A2B-123"),
        ("ACAT51-1", "ACAT51-1"),
        ("A20091-15", "A20091-15"),
        ("AB_CD-7", "AB_CD-7"),
        ("ab_cd-7", "AB_CD-7"),
        ("TEST-123 Printer jams", "TEST-123"),
        ("test-123 Printer jams", "TEST-123"),
        ("TEST-123 ", "TEST-123"),
        ("TEST-123   ", "TEST-123"),
        ("TEST-123 (2)", "TEST-123"),
        ("TEST-123 - 4", "TEST-123"),
        ("TEST-123 4", "TEST-123"),
        ("TEST-123 OTHER-9", "TEST-123"),
        ("TEST-123 a\nb", "TEST-123"),
        ("TEST-123 プリンタ", "TEST-123"),
        ("TEST-123-printer", "TEST-123"),
        ("TEST-123_printer", "TEST-123"),
        ("TEST-123-p", "TEST-123"),
        ("TEST-123-Ärger", "TEST-123"),
        ("TEST-123-A\u0308rger", "TEST-123"),
        ("TEST-123-printer-2", "TEST-123"),
        ("TEST-123_a-4", "TEST-123"),
        ("RUN-2026 11-22", "RUN-2026"),
        ("TEST-123 " + "x" * 300, "TEST-123"),
    ],
)
def test_means_an_issue(folder: str, key: str) -> None:
    assert PLAIN.route(folder.encode()) == Routed(key)


@pytest.mark.parametrize(
    "folder",
    [
        "RUN-2026-11-22",
        "TEST-123-4",
        "TEST-123_4",
        "TEST-123-",
        "TEST-123_",
        "TEST-123--printer",
        "TEST-123-_printer",
        "TEST-123.printer",
        "TEST-123printer",
        "TEST-123+",
        "TEST-123\tprinter",
        "TEST-123\n",
        "TEST-123\u00a0printer",
        "TEST-01",
        "TEST-0",
        "TEST-0123",
        "TEST-",
        "TEST",
        "-123",
        "TEST--123",
        "TEST 123",
        "TEST_123",
        "TEST123",
        "TEST–123",
        "1TEST-123",
        "_TEST-123",
        " TEST-123",
        "my TEST-123",
        "(TEST-123)",
        "#TEST-123",
        "TEST-1２3",
        "TEST-１２３",
        "ＴＥＳＴ-123",
        "TEST-١٢٣",
        "ÄTEST-1",
        "TEßT-1",
        "tıtle-1",
        "TEST-123/a",
        "..",
        ".",
        "",
        " ",
        "\n",
        "\x00",
        "x" * 300,
        "New folder",
        "10042",
        "2026",
        "2026-11-22",
    ],
)
def test_means_no_issue(folder: str) -> None:
    routed = PLAIN.route(folder.encode())

    assert isinstance(routed, Unrouted)
    assert "rename the folder to" in routed.reason
    assert "\n" not in routed.reason
    assert len(routed.reason) < 300


def test_undecodable_bytes_mean_no_issue() -> None:
    assert PLAIN.route(b"TEST-1 caf\xe9") == Unrouted(
        r"'TEST-1 caf\xe9' is not written in UTF-8, so it is no issue key; rename the folder to a key such as "
        "TEST-123, or to a key and text such as 'TEST-123 Printer jams'"
    )


def test_a_date_is_no_key_and_the_reason_says_what_is() -> None:
    assert PLAIN.route(b"RUN-2026-11-22") == Unrouted(
        "'RUN-2026-11-22' is not an issue key; rename the folder to a key such as TEST-123, or to a key and text "
        "such as 'TEST-123 Printer jams'"
    )


@pytest.mark.parametrize(
    ("folder", "nearest"),
    [
        ("TEST-01", "TEST-1"),
        ("TEST 123", "TEST-123"),
        ("TEST_123", "TEST-123"),
        ("test123", "TEST-123"),
        ("TEST–123", "TEST-123"),
        (" TEST-123", "TEST-123"),
        ("TEST-１２３", "TEST-123"),
        ("ＴＥＳＴ-123", "TEST-123"),
        ("TEST-123\n", "TEST-123"),
        ("TEST--123", "TEST-123"),
    ],
)
def test_the_nearest_key_is_offered(folder: str, nearest: str) -> None:
    routed = PLAIN.route(folder.encode())

    assert isinstance(routed, Unrouted)
    assert routed.reason.endswith(f"rename the folder to '{nearest}', if that is the issue")


@pytest.mark.parametrize("folder", ["1", "10042", "2026"])
def test_numbers_mean_issues_only_where_switched_on(folder: str) -> None:
    switched_on = Router(PATTERN, [], True, {})
    reason = PLAIN.route(folder.encode())

    assert switched_on.route(folder.encode()) == Routed(folder)
    assert isinstance(reason, Unrouted)
    assert "folders.numeric_ids" in reason.reason


@pytest.mark.parametrize("folder", ["007", "10042 printer", "１２", "1-2", "0", "-1"])
def test_what_is_no_plain_number_stays_unrouted(folder: str) -> None:
    assert isinstance(Router(PATTERN, [], True, {}).route(folder.encode()), Unrouted)


def test_a_number_is_not_let_past_a_limit_to_projects() -> None:
    routed = Router(PATTERN, ["TEST"], True, {}).route(b"10042")

    assert isinstance(routed, Unrouted)
    assert "folders.projects" in routed.reason


LIMITED = Router(PATTERN, ["help", "TEST"], False, {"Invoices": "FIN-12", "Jams": "test-9"})


@pytest.mark.parametrize(("folder", "key"), [("HELP-1", "HELP-1"), ("test-2 x", "TEST-2"), ("Jams", "TEST-9")])
def test_named_projects_are_served(folder: str, key: str) -> None:
    assert LIMITED.route(folder.encode()) == Routed(key)


@pytest.mark.parametrize(
    ("folder", "key"), [("TES-1", "TES-1"), ("TESTING-1", "TESTING-1"), ("Invoices", "FIN-12"), ("abc-1 x", "ABC-1")]
)
def test_other_projects_are_not(folder: str, key: str) -> None:
    assert LIMITED.route(folder.encode()) == Unrouted(
        f"'{folder}' means {key}, but only these projects are served here: HELP, TEST; move the files to the right "
        f"folder, or have {key.split('-', maxsplit=1)[0]} added (folders.projects)"
    )


ALIASES = {
    "Invoices": "FIN-12",
    "Ärger": "test-7",
    "TEST-1": "TEST-2",
    "TEST-123 Printer": "TEST-9",
    "Broken": "not a key",
    "Number": "10042",
}
ALIASED = Router(PATTERN, [], False, ALIASES)


@pytest.mark.parametrize(
    ("folder", "key"),
    [
        ("Invoices", "FIN-12"),
        ("Ärger", "TEST-7"),
        ("A\u0308rger", "TEST-7"),
        ("TEST-1", "TEST-2"),
        ("test-1", "TEST-1"),
        ("TEST-123 Printer", "TEST-9"),
        ("TEST-123 Printers", "TEST-123"),
    ],
)
def test_aliases_come_first_and_match_exactly(folder: str, key: str) -> None:
    assert ALIASED.route(folder.encode()) == Routed(key)


@pytest.mark.parametrize("folder", ["invoices", "INVOICES", "Invoices ", "Invoices 2026", "Broken", "Number"])
def test_what_is_not_quite_an_alias_is_none(folder: str) -> None:
    assert isinstance(ALIASED.route(folder.encode()), Unrouted)


def test_an_alias_may_name_a_number_where_numbers_are_switched_on() -> None:
    assert Router(PATTERN, [], True, ALIASES).route(b"Number") == Routed("10042")


@pytest.mark.parametrize("folder", ["TEST-123", "TEST-123 x", "test-7-x"])
def test_a_pattern_with_anchors_and_groups_serves_as_well(folder: str) -> None:
    assert isinstance(Router(r"^(TEST|HELP)-(\d+)$", [], False, {}).route(folder.encode()), Routed)


def test_digits_of_other_scripts_are_never_digits() -> None:
    assert isinstance(Router(r"[A-Z]+-\d+", [], False, {}).route("TEST-١٢٣".encode()), Unrouted)


def test_a_broken_pattern_is_a_mistake_with_its_key() -> None:
    with pytest.raises(Mistake, match=r"folders\.key_pattern"):
        Router("[A-Z", [], False, {})


@given(st.binary(max_size=60))
def test_every_name_has_an_answer(folder: bytes) -> None:
    assert isinstance(PLAIN.route(folder), Routed | Unrouted)


@given(st.integers(1, 10**9), st.from_regex(r"\A[A-Z][A-Z0-9_]{0,9}\Z"), st.text(max_size=20))
def test_a_key_is_never_split(number: int, project: str, text: str) -> None:
    key = f"{project}-{number}"
    routed = PLAIN.route(f"{key}{text}".encode("utf-8", "replace"))

    assert isinstance(routed, Unrouted) or routed.key == key or routed.key.startswith(key)
    assert PLAIN.route(f"{key} {text}".encode("utf-8", "replace")) == Routed(key)


@pytest.mark.parametrize(
    ("parts", "flat"),
    [([b"b.log"], b"b.log"), ([b"a", b"b.log"], b"a-b.log"), ([b"\xff", b"c d", b"e"], b"\xff-c d-e")],
)
def test_a_nested_file_is_named_in_one(parts: list[bytes], flat: bytes) -> None:
    assert intake_router.flatten(parts) == flat


@pytest.mark.parametrize(
    "folder",
    [
        b"A" + b"_" * 127 + b"0" * 127,
        b"A" + b" " * 127 + b"0" * 127,
        b"A-" * 127,
        b"A-1 " * 63,
        b"A_a" * 85,
        "１".encode() * 85,
    ],
)
def test_no_name_takes_long(folder: bytes) -> None:
    began = time.thread_time()

    assert isinstance(PLAIN.route(folder), Routed | Unrouted)
    assert time.thread_time() - began < 0.5


def test_a_pattern_is_not_given_more_of_a_name_than_a_key_can_have() -> None:
    router = Router(".+", [], True, {})

    assert router.route(b"A" * 128) == Routed("A" * 128)
    assert isinstance(router.route(b"A" * 129), Unrouted)
    assert router.route(b"A" * 120 + b" " + b"A" * 100) == Routed("A" * 120)
    assert isinstance(router.route(b"1" * 129), Unrouted)
