"""What Jira says an issue holds: every shape that occurs is read, and what proves nothing is never an empty list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attachd.jira.attachments import (
    Attachment,
    Listing,
    account_id,
    parse_attachment,
    parse_attachments,
    parse_listing,
    parse_time,
)

#: 2022-10-06T07:32:47Z
CREATED = 1_665_041_567.0
ENTRY: dict[str, Any] = {
    "self": "https://jira.example.com/rest/api/3/attachment/10001",
    "id": "10001",
    "filename": "a.txt",
    "author": {"accountId": "712020:robot", "displayName": "Robot"},
    "created": "2022-10-06T07:32:47.000+0000",
    "size": 10,
    "mimeType": "text/plain",
}
READ = Attachment("10001", "a.txt", 10, "712020:robot", CREATED)


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in ENTRY.items() if name not in names}


def issue(*entries: Any, key: Any = "TEST-1") -> dict[str, Any]:
    return {"id": "10", "key": key, "fields": {"attachment": list(entries)}}


# --- One attachment -------------------------------------------------------------------------------------------------


def test_an_attachment() -> None:
    assert parse_attachment(ENTRY) == READ


@pytest.mark.parametrize(("identity", "text"), [("10001", "10001"), (10001, "10001"), ("x-1", "x-1")])
def test_an_id_is_text_or_a_number(identity: Any, text: str) -> None:
    found = parse_attachment(ENTRY | {"id": identity})

    assert found is not None
    assert found.id == text


NO_IDS: list[Any] = [None, "", True, False, 1.5, [], {}, ["1"]]
NO_NAMES: list[Any] = [None, 5, True, [], {}]
NO_SIZES: list[Any] = [None, "10", 10.0, True, [], {}]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [*(("id", x) for x in NO_IDS), *(("filename", x) for x in NO_NAMES), *(("size", x) for x in NO_SIZES)],
)
def test_without_id_name_or_size_it_is_none(name: str, wrong: Any) -> None:
    assert parse_attachment(ENTRY | {name: wrong}) is None


@pytest.mark.parametrize("name", ["id", "filename", "size"])
def test_none_of_these_three_may_be_missing(name: str) -> None:
    assert parse_attachment(without(name)) is None


@pytest.mark.parametrize("entry", [None, [], "10001", 10001, True])
def test_what_is_no_object_is_no_attachment(entry: Any) -> None:
    assert parse_attachment(entry) is None


def test_created_and_author_may_be_missing() -> None:
    assert parse_attachment(without("created", "author")) == Attachment("10001", "a.txt", 10, None, None)
    assert parse_attachment(ENTRY | {"created": None, "author": None}) == Attachment("10001", "a.txt", 10, None, None)


def test_an_empty_name_and_no_bytes_are_said_by_jira_all_the_same() -> None:
    assert parse_attachment(ENTRY | {"filename": "", "size": 0}) == Attachment("10001", "", 0, "712020:robot", CREATED)


def test_half_a_character_is_no_reason_to_lose_an_attachment() -> None:
    """Java cuts names between the halves of a character, and JSON spells the half."""
    found = parse_attachment(json.loads(r'{"id": "1\ud83d", "filename": "a\ud83d.txt", "size": 1}'))

    assert found == Attachment("1?", "a?.txt", 1, None, None)


# --- Who and when ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "found"),
    [
        ({"accountId": "712020:robot", "key": "k", "name": "n"}, "712020:robot"),
        ({"key": "JIRAUSER10100", "name": "robot"}, "JIRAUSER10100"),
        ({"name": "robot"}, "robot"),
        ({"accountId": "", "name": "robot"}, "robot"),
        ({"accountId": None, "key": None, "name": "robot"}, "robot"),
        ({"accountId": 5}, "5"),
        ({"accountId": True, "key": ["x"], "name": {}}, None),
        ({"displayName": "Robot"}, None),
        ({}, None),
        (None, None),
        ("robot", None),
        ([], None),
    ],
)
def test_who_a_user_is(user: Any, found: str | None) -> None:
    assert account_id(user) == found


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2022-10-06T07:32:47.000+0000", CREATED),
        ("2022-10-06T07:32:47.500+00:00", CREATED + 0.5),
        ("2022-10-06T09:32:47.000+0200", CREATED),
        ("2022-10-06T07:32:47Z", CREATED),
        (1_665_041_567_000, CREATED),
        (1_665_041_567_250.0, CREATED + 0.25),
        (0, 0.0),
        ("2022-10-06T07:32:47", None),
        ("2022-10-06", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (True, None),
        ([], None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
    ],
    ids=lambda value: repr(value)[:32],
)
def test_when(value: Any, seconds: float | None) -> None:
    """A time that cannot be read is a missing one, which fits every attempt."""
    assert parse_time(value) == seconds


# --- A listing ------------------------------------------------------------------------------------------------------


def test_a_listing() -> None:
    other = ENTRY | {"id": 10002, "filename": "b.txt"}

    found = parse_listing(issue(ENTRY, other))

    assert found == Listing("TEST-1", (READ, Attachment("10002", "b.txt", 10, "712020:robot", CREATED)), "10")


def test_an_issue_without_attachments() -> None:
    assert parse_listing(issue()) == Listing("TEST-1", (), "10")


def test_the_key_is_the_one_that_jira_answers_with() -> None:
    moved, nameless = parse_listing(issue(key="NEW-7")), parse_listing(issue(key=None))

    assert moved == Listing("NEW-7", (), "10")
    assert nameless == Listing("", (), "10")


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "text",
        {},
        {"key": "TEST-1"},
        {"key": "TEST-1", "fields": None},
        {"key": "TEST-1", "fields": []},
        {"key": "TEST-1", "fields": {}},
        {"key": "TEST-1", "fields": {"attachment": None}},
        {"key": "TEST-1", "fields": {"attachment": {}}},
        {"key": "TEST-1", "fields": {"attachments": []}},
        {"errorMessages": ["No."]},
    ],
    ids=str,
)
def test_what_lists_nothing_is_not_an_empty_list(answer: Any) -> None:
    assert parse_listing(answer) is None


@pytest.mark.parametrize("spoilt", [without("id"), without("filename"), without("size"), None, "x"], ids=str)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_entry_that_cannot_be_read_spoils_all(spoilt: Any, place: int) -> None:
    entries: list[Any] = [ENTRY, ENTRY]
    entries.insert(place, spoilt)

    assert parse_listing(issue(*entries)) is None


def test_an_entry_of_nobody_and_never_spoils_nothing() -> None:
    found = parse_listing(issue(ENTRY, without("author", "created")))

    assert found is not None
    assert len(found.attachments) == 2


# --- The answer to an upload ----------------------------------------------------------------------------------------


def test_the_answer_to_an_upload_is_a_list_or_one_object() -> None:
    assert parse_attachments([ENTRY]) == parse_attachments(ENTRY) == [READ]


@pytest.mark.parametrize("answer", [None, [], {}, [[]], "x", 5, [ENTRY, None], [without("id")], {"errorMessages": []}])
def test_an_answer_that_names_no_attachment(answer: Any) -> None:
    assert parse_attachments(answer) is None


# --- Whatever comes -------------------------------------------------------------------------------------------------


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["\ud83d"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
entries = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("id", "filename", "size", "created", "author"), values) | {"size": st.integers()}
)
issues = st.fixed_dictionaries(
    {},
    optional={"key": values, "fields": st.fixed_dictionaries({"attachment": st.lists(entries | values, max_size=3)})},
)


@settings(deadline=None)
@given(values | issues)
@example(issue(ENTRY | {"created": 10**400}))
@example(issue(ENTRY | {"created": "0001-01-01T00:00:00+2359"}))
@example(issue(ENTRY | {"created": "9999-12-31T23:59:59-2359"}))
def test_no_answer_is_an_error_and_all_text_can_be_kept(answer: Any) -> None:
    found = parse_listing(answer)

    if found is not None:
        found.key.encode()
        assert len(found.attachments) == len(answer["fields"]["attachment"])
        for attachment in found.attachments:
            f"{attachment.id}{attachment.name}{attachment.author}".encode()
            assert attachment.id
