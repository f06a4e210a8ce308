"""Both Jiras that tests deliver to, in memory and on a socket, answer every request of attachd alike.

What they answer is Atlassian's description (``jira-openapi.json``) and what was seen of Data Center. Each test runs against
both, so that neither can drift away from the other: most tests of delivery use the quick one.
"""

from __future__ import annotations

import base64
import datetime
import email.utils
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from attachd.standin import Standin
from memory_jira import SITE, FakeClock, MemoryJira

OPENAPI = json.loads((Path(__file__).parents[1] / "jira-openapi.json").read_text())
USER = "robot@example.com"
NOT_THERE = "Issue does not exist or you do not have permission to see it."


@dataclass
class Site:
    """One of the two Jiras. It has TEST-1 and TEST-2, and no TEST-9."""

    client: httpx.Client
    cloud: bool
    #: Exchange one thing that a site's administrator decides: see ``_memory`` and ``_socket``.
    set: Callable[[str, Any], None]

    def get(self, path: str) -> httpx.Response:
        return self.client.get(path)

    def post(self, *files: tuple[str, bytes], issue: str = "TEST-1") -> httpx.Response:
        return self.client.post(f"issue/{issue}/attachments", files=[("file", file) for file in files])

    def listing(self, issue: str = "TEST-1") -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = self.get(f"issue/{issue}?fields=attachment").json()["fields"]["attachment"]
        return shown

    def refused(self, answer: httpx.Response, status: int) -> str:
        """Check that Jira itself refuses, in its usual shape, and give its words."""
        assert answer.status_code == status, answer.text
        assert list(answer.json()) == ["errorMessages", "errors"]
        return " ".join(answer.json()["errorMessages"])


def _client(cloud: bool, url: str, token: str, transport: httpx.BaseTransport | None) -> httpx.Client:
    return httpx.Client(
        transport=transport,
        base_url=f"{url}/rest/api/{3 if cloud else 2}/",
        auth=(USER, token),
        headers={"X-Atlassian-Token": "no-check", "User-Agent": "test"},
        timeout=20,
        trust_env=False,
    )


def _memory(cloud: bool) -> Iterator[Site]:
    jira = MemoryJira(FakeClock(), "Cloud" if cloud else "Server")
    jira.missing.add("TEST-9")

    def change(what: str, value: Any) -> None:
        match what:
            case "token":
                jira.token = "Basic " + base64.b64encode(f"{USER}:{value}".encode()).decode()
            case "read only":
                jira.forbidden.add(value)
            case "moved":
                jira.moved[value[0]] = value[1]
            case _:
                setattr(jira, {"size": "limit", "number": "most"}.get(what, what), value)

    with _client(cloud, SITE, "not-a-secret", jira) as client:
        yield Site(client, cloud, change)


def _socket(cloud: bool, folder: Path) -> Iterator[Site]:
    deployment, clock = "Cloud" if cloud else "Server", FakeClock()
    options: dict[str, Any] = {"issues": ["TEST-1", "TEST-2"], "page": False, "user": USER, "clock": clock.now}
    with Standin(folder, deployment=deployment, **options) as jira:

        def change(what: str, value: Any) -> None:
            match what:
                case "read only":
                    jira.store.read_only.add(value)
                case "moved":
                    jira.store.move_issue(*value)
                case "readable":
                    jira.store.secure_schemes = {"basic"} if value else set()
                case _:
                    names = {"size": "upload_limit", "number": "attachment_limit", "enabled": "attachments_enabled",
                             "hide_field": "hide_attachment_field"}  # fmt: skip
                    setattr(jira.store, names.get(what, what), value)

        with _client(cloud, jira.url, jira.store.token, None) as client:
            yield Site(client, cloud, change)


@pytest.fixture(params=["memory-cloud", "memory-server", "socket-cloud", "socket-server"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    kind, _, deployment = request.param.partition("-")
    cloud = deployment == "cloud"
    yield from _memory(cloud) if kind == "memory" else _socket(cloud, tmp_path / "jira")


def fits(schema: dict[str, Any], value: Any) -> None:
    jsonschema.Draft202012Validator(schema | {"components": OPENAPI["components"]}).validate(value)


def seen_of(shown: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(each["filename"], each["size"]) for each in shown]


# --- uploads --------------------------------------------------------------------------------------------------------


def test_an_upload_is_answered_with_its_files_in_their_order(site: Site) -> None:
    answer = site.post(("b.txt", b"22"), ("a.txt", b"1"), ("b.txt", b"333"))

    assert answer.status_code == 200
    assert seen_of(answer.json()) == [("b.txt", 2), ("a.txt", 1), ("b.txt", 3)]
    if site.cloud:
        fits({"type": "array", "items": {"$ref": "#/components/schemas/Attachment"}}, answer.json())
    assert len({each["id"] for each in answer.json()}) == 3
    assert all(each["id"].isdecimal() for each in answer.json())


def test_the_author_is_the_account_that_signed_in(site: Site) -> None:
    (stored,) = site.post(("a.txt", b"1")).json()
    own = site.get("myself").json()

    for field in ("accountId",) if site.cloud else ("name", "key"):
        assert stored["author"][field] == own[field] != ""
    assert ("accountId" in own) == site.cloud


def test_an_attachment_was_created_at_the_server_s_time(site: Site) -> None:
    answer = site.post(("a.txt", b"1"))
    (stored,) = answer.json()

    created = datetime.datetime.strptime(stored["created"], "%Y-%m-%dT%H:%M:%S.%f%z")
    assert abs((created - email.utils.parsedate_to_datetime(answer.headers["date"])).total_seconds()) < 2


def test_an_issue_lists_what_was_stored(site: Site) -> None:
    stored = site.post(("a.txt", b"1"), ("b.txt", b"22")).json()

    answer = site.get("issue/TEST-1?fields=attachment")

    assert answer.json()["key"] == "TEST-1"
    assert answer.json()["id"].isdecimal()
    assert sorted(answer.json()["fields"]["attachment"], key=lambda each: str(each["id"])) == stored
    assert site.listing("TEST-2") == []


def test_a_moved_issue_answers_to_its_old_key_with_the_new_one(site: Site) -> None:
    site.set("moved", ("TEST-1", "NEW-5"))

    assert site.post(("a.txt", b"1")).status_code == 200
    old, new = site.get("issue/TEST-1").json(), site.get("issue/NEW-5").json()
    assert (old["key"], old["id"]) == ("NEW-5", new["id"])
    assert seen_of(site.listing("NEW-5")) == seen_of(site.listing("TEST-1")) == [("a.txt", 1)]


def test_a_listing_can_lack_its_field(site: Site) -> None:
    site.set("hide_field", True)

    assert site.get("issue/TEST-1?fields=attachment").json()["fields"] == {}


# --- refusals -------------------------------------------------------------------------------------------------------


def test_an_issue_that_is_not_there(site: Site) -> None:
    assert site.refused(site.post(("a.txt", b"1"), issue="TEST-9"), 404) == NOT_THERE
    assert site.refused(site.get("issue/TEST-9"), 404) == NOT_THERE


def test_a_wrong_token_hides_issues_on_cloud_and_is_named_on_data_center(site: Site) -> None:
    site.set("token", "another")

    site.refused(site.get("myself"), 401)
    for answer in (site.post(("a.txt", b"1")), site.get("issue/TEST-1")):
        said = site.refused(answer, 404 if site.cloud else 401)
        assert (said == NOT_THERE) == site.cloud
    assert site.get("serverInfo").status_code == 200


def test_an_issue_that_the_account_may_only_read(site: Site) -> None:
    site.set("read only", "TEST-1")

    assert "permission to create attachments" in site.refused(site.post(("a.txt", b"1")), 403)
    assert site.listing() == []


def test_attachments_that_are_switched_off(site: Site) -> None:
    site.set("enabled", False)

    assert site.get("attachment/meta").json()["enabled"] is False
    assert "disabled" in site.refused(site.post(("a.txt", b"1")), 403)


def test_a_file_above_the_limit_keeps_out_its_whole_request(site: Site) -> None:
    site.set("size", 4)

    assert site.get("attachment/meta").json() == {"enabled": True, "uploadLimit": 4}
    said = site.refused(site.post(("a.txt", b"1"), ("b.txt", b"55555")), 413 if site.cloud else 404)
    assert "4 bytes" in said
    assert site.listing() == []
    assert site.post(("b.txt", b"4444")).status_code == 200


def test_an_issue_that_is_full(site: Site) -> None:
    site.set("number", 2)
    site.post(("a.txt", b"1"))

    assert "2 attachments" in site.refused(site.post(("b.txt", b"1"), ("c.txt", b"1")), 413)
    assert seen_of(site.listing()) == [("a.txt", 1)]


# --- one attachment, and its content --------------------------------------------------------------------------------


def test_one_attachment_can_be_looked_at(site: Site) -> None:
    (stored,) = site.post(("a.txt", b"1")).json()

    shown = site.get(f"attachment/{stored['id']}").json()

    # Documented so: a string in a listing, and a number here.
    assert shown == stored | {"id": int(stored["id"])}
    site.refused(site.get("attachment/999999"), 404)


def test_the_content_can_be_read(site: Site) -> None:
    site.set("readable", True)
    (stored,) = site.post(("a.txt", b"the bytes")).json()

    path = f"attachment/content/{stored['id']}?redirect=false" if site.cloud else stored["content"]

    assert site.get(path).content == b"the bytes"


@pytest.mark.parametrize("site", ["memory-server", "socket-server"], indirect=True)
def test_data_center_may_send_who_reads_a_content_to_its_login(site: Site) -> None:
    site.set("readable", False)
    (stored,) = site.post(("a.txt", b"the bytes")).json()

    answer = site.get(stored["content"])

    assert answer.status_code == 302
    assert "login.jsp" in answer.headers["location"]


# --- about itself ---------------------------------------------------------------------------------------------------


def test_the_site_says_what_it_is(site: Site) -> None:
    shown = site.get("serverInfo").json()

    assert shown["deploymentType"] == ("Cloud" if site.cloud else "Server")
    assert shown["baseUrl"]


def test_every_answer_has_the_server_s_time(site: Site) -> None:
    for answer in (site.get("myself"), site.get("issue/TEST-9"), site.post(("a.txt", b"1"))):
        assert email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp() == FakeClock().time
