"""``verify``: what was attached is compared with what Jira holds, with the daemon up and down."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

import pytest

from attachd.filing import verify
from attachd.jira.attachments import Attachment
from installation import Jira, Place
from memory_jira import World, world
from system.test_operator import running, said


@pytest.fixture
def attached(place: Place, jira: Jira) -> dict[str, str]:
    """Four files on two issues; the ids of their attachments by name."""
    for name in ("a.txt", "b.txt"):
        place.drop(f"TEST-1/{name}", name.encode())
        place.drop(f"TEST-2/{name}", name.encode() * 2)
    assert place.run("once").returncode == 0
    return {f"{each['issue']}/{each['filename']}": each["id"] for each in jira.attachments()}


def delete(jira: Jira, attachment: str) -> None:
    signed = base64.b64encode(b"demo@example.com:standin-token").decode()
    address = f"{jira.url}/rest/api/3/attachment/{attachment}"
    request = urllib.request.Request(address, method="DELETE", headers={"Authorization": f"Basic {signed}"})
    urllib.request.urlopen(request, timeout=30).close()


def found(place: Place, *words: str, code: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(said(place, "verify", "--json", *words, code=code))
    return answer


def test_what_is_there_is_the_same_also_by_its_content(place: Place, attached: dict[str, str]) -> None:
    assert said(place, "verify") == "4 files compared: 4 same.\n"
    assert said(place, "verify", "--content") == "4 files compared: 4 same.\n"
    assert said(place, "verify", "--issue", "test-1") == "2 files compared: 2 same.\n"
    assert said(place, "verify", "--issue", "TEST-9") == "No file has been attached to TEST-9 yet.\n"


def test_what_was_deleted_is_told_with_the_daemon_up_and_down(
    place: Place, jira: Jira, attached: dict[str, str]
) -> None:
    delete(jira, attached["TEST-1/a.txt"])

    told = said(place, "verify", code=1)

    assert told.splitlines() == [
        f"deleted  TEST-1  TEST-1/a.txt: attachment {attached['TEST-1/a.txt']} is no longer there",
        "4 files compared: 3 same, 1 deleted.",
    ]
    with running(place):
        again = found(place, code=1)
    assert again["counts"] == {"same": 3, "deleted": 1, "renamed": 0, "differs": 0, "unknown": 0}
    assert [each["file"] for each in again["findings"]] == ["TEST-1/a.txt"]
    assert found(place, "--issue", "TEST-2")["findings"] == []


def test_that_an_issue_is_not_shown_is_no_deletion(place: Place, jira: Jira, attached: dict[str, str]) -> None:
    fault = {"kind": "status", "where": "listing", "status": 404, "times": -1}
    jira.tell("faults", fault)

    told = found(place, code=1)

    assert told["counts"]["unknown"] == 4
    assert "Jira does not show TEST-1" in told["findings"][0]["detail"]


def test_too_many_requests_are_waited_for(place: Place, jira: Jira, attached: dict[str, str]) -> None:
    jira.tell("faults", {"kind": "ratelimit", "where": "listing", "retry_after": "1"})

    assert said(place, "verify") == "4 files compared: 4 same.\n"


def test_a_refused_token_is_a_mistake_and_nothing_is_called_deleted(
    place: Place, jira: Jira, attached: dict[str, str]
) -> None:
    jira.tell("set", {"token": "another"})

    ended = place.run("verify")

    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "`attachd check` says what to do." in ended.stderr


@pytest.mark.parametrize(
    ("name", "size", "result"),
    [("a.txt", 7, "same"), ("b.txt", 7, "renamed"), ("a.txt", 8, "differs"), ("b.txt", 0, "differs")],
)
def test_how_an_attachment_is_compared(tmp_path: Any, name: str, size: int, result: str) -> None:
    w: World
    with world(tmp_path) as w:
        w.drop("TEST-1/a.txt", b"content")
        w.deliver()
        row = w.row("TEST-1/a.txt")

    compared = verify.compare(row, Attachment(row.attachment or "", name, size, None, None))

    assert compared.result == result
    assert bool(compared.detail) == (result != "same")
