"""The stand-in Jira answers as the real one is documented to, keeps what it stored, and starts and stops cleanly."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from attachd.standin import Standin

Open = Callable[..., Standin]
OPENAPI = json.loads((Path(__file__).parents[1] / "jira-openapi.json").read_text())
AUTH = ("demo@example.com", "standin-token")
MIB = 1 << 20


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Start stand-ins, and see that nothing of them is left."""
    threads = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(Standin(tmp_path / "jira", **options))
    # Not equal: a thread that an earlier test has left to end by itself may have ended meanwhile.
    assert set(threading.enumerate()) <= threads


@pytest.fixture
def jira(opened: Open) -> Standin:
    """A Cloud site with one issue."""
    return opened(issues=["TEST-1"])


@pytest.fixture
def client(jira: Standin) -> Iterator[httpx.Client]:
    """A client that does everything right."""
    with calling(jira) as client:
        yield client


def calling(jira: Standin, auth: Any = AUTH, version: int = 3, **options: Any) -> httpx.Client:
    headers = {"X-Atlassian-Token": "no-check", "User-Agent": "test"}
    return httpx.Client(
        base_url=f"{jira.url}/rest/api/{version}/",
        auth=auth,
        headers=headers,
        timeout=10,
        **{"verify": False} | options,
    )


def post(client: httpx.Client, *files: tuple[str, bytes], key: str = "TEST-1", **options: Any) -> httpx.Response:
    parts = [("file", file) for file in files or [("a.txt", b"hello")]]
    return client.post(f"issue/{key}/attachments", files=parts, **options)


def raw_post(client: httpx.Client, head: bytes, content: bytes = b"x") -> httpx.Response:
    """Upload one part whose headers are *head*."""
    body = b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return client.post("issue/TEST-1/attachments", content=body, headers=headers)


def fits(schema: str | dict[str, Any], value: Any) -> None:
    """Hold a value against Atlassian's own description."""
    wanted = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    jsonschema.Draft202012Validator(wanted | {"components": OPENAPI["components"]}).validate(value)


def refused(answer: httpx.Response, status: int) -> str:
    """Check that Jira itself refuses, in its usual shape, and give its words."""
    assert answer.status_code == status, answer.text
    fits("ErrorCollection", answer.json())
    return " ".join(answer.json()["errorMessages"])


# --- uploads --------------------------------------------------------------------------------------------------------


def test_an_upload_is_stored_and_described_as_documented(jira: Standin, client: httpx.Client) -> None:
    answer = post(client, ("a.txt", b"hello"), ("b.png", b"\x89PNG"))

    assert answer.status_code == 200
    fits({"type": "array", "items": {"$ref": "#/components/schemas/Attachment"}}, answer.json())
    first, second = answer.json()
    assert (first["filename"], first["size"], first["mimeType"]) == ("a.txt", 5, "text/plain")
    assert "thumbnail" in second
    stored = jira.store.attachments("TEST-1")
    assert [(it.id, it.filename, it.issue) for it in stored] == [
        (first["id"], "a.txt", "TEST-1"),
        (second["id"], "b.png", "TEST-1"),
    ]
    assert stored[0].sha256 == hashlib.sha256(b"hello").hexdigest()
    assert stored[0].path.read_bytes() == b"hello"
    assert stored[0].author == first["author"]["accountId"]
    assert abs(stored[0].created / 1000 - time.time()) < 60


def test_every_request_is_logged_before_its_answer_is_seen(jira: Standin, client: httpx.Client) -> None:
    answer = post(client, ("a", b"1"), ("b", b"2"))
    client.get("myself")

    upload, look = jira.requests
    assert (upload.method, upload.issue, upload.files, upload.status) == ("POST", "TEST-1", 2, 200)
    assert upload.path == "/rest/api/3/issue/TEST-1/attachments"
    assert upload.bytes_received == int(answer.request.headers["content-length"])
    assert upload.committed == [one["id"] for one in answer.json()]
    assert upload.complete
    assert upload.ended
    assert (look.issue, look.status, look.fault, look.committed) == (None, 200, None, [])
    assert upload.at < look.at < time.monotonic()


def test_equal_names_make_two_attachments(jira: Standin, client: httpx.Client) -> None:
    post(client, ("a", b"1"), ("a", b"2"))

    assert [it.filename for it in jira.store.attachments("TEST-1")] == ["a", "a"]


@pytest.mark.parametrize(
    ("parameter", "stored"),
    [
        ('filename="Größe 日本.txt"', "Größe 日本.txt"),
        ('filename="  padded.txt\t"', "padded.txt"),
        ("filename=bare.txt", "bare.txt"),
        ('filename="a%22b.txt"', "a%22b.txt"),
        ('filename="a\\\\b.txt"', "a\\\\b.txt"),
        ('filename="semi;colon=1.txt"', "semi;colon=1.txt"),
        ('filename="=?utf-8?Q?=C3=BC.txt?="', "ü.txt"),
        ('FILENAME="upper.txt"', "upper.txt"),
    ],
)
def test_names_are_read_as_commons_fileupload_reads_them(
    jira: Standin, client: httpx.Client, parameter: str, stored: str
) -> None:
    answer = raw_post(client, f'Content-Disposition: form-data; name="file"; {parameter}'.encode())

    assert answer.status_code == 200
    assert jira.store.attachments("TEST-1")[0].filename == stored


def test_a_name_that_is_not_utf_8_is_stored_with_replacement_characters(jira: Standin, client: httpx.Client) -> None:
    raw_post(client, b'Content-Disposition: form-data; name="file"; filename="\xff.txt"')

    assert jira.store.attachments("TEST-1")[0].filename == "\ufffd.txt"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ('form-data; name="file"', 500),
        ("form-data; name=\"file\"; filename*=utf-8''x.txt", 500),
        ('form-data; name="other"; filename="x"', 400),
        (f'form-data; name="file"; filename="{"x" * 500}"', 400),
    ],
    ids=["no name", "filename*", "not called file", "headers over 512 bytes"],
)
def test_a_part_that_jira_would_not_take_is_refused(
    jira: Standin, client: httpx.Client, head: str, status: int
) -> None:
    answer = raw_post(client, b"Content-Disposition: " + head.encode())

    assert answer.status_code == status
    assert jira.store.all_attachments() == []
    assert list(jira.store.incoming.iterdir()) == []


def test_headers_of_512_bytes_are_taken(client: httpx.Client) -> None:
    head = b'Content-Disposition: form-data; name="file"; filename="%s"' % (b"x" * 450)
    head += b"y" * (512 - len(head) - len("\r\n\r\n"))

    assert raw_post(client, head).status_code == 200
    assert raw_post(client, head + b"y").status_code == 400


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nx']
)
def test_a_body_without_its_closing_boundary_is_malformed(jira: Standin, client: httpx.Client, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("issue/TEST-1/attachments", content=body, headers=headers)

    assert "multipart" in refused(answer, 500)
    assert jira.store.all_attachments() == []


def test_a_body_of_another_type_is_malformed(client: httpx.Client) -> None:
    refused(client.post("issue/TEST-1/attachments", content=b"x", headers={"Content-Type": "text/plain"}), 500)


def test_the_closing_boundary_commits_even_if_the_rest_never_comes(jira: Standin) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nx\r\n--b--\r\n'
    token = httpx.BasicAuth(*AUTH)._auth_header
    head = (
        "POST /rest/api/3/issue/TEST-1/attachments HTTP/1.1\r\nHost: x\r\nX-Atlassian-Token: no-check\r\n"
        f"Authorization: {token}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()

    for sent in (len(body) - 3, len(body) - 2, len(body)):
        with socket.create_connection(("127.0.0.1", jira.port)) as wire:
            wire.sendall(head + body[:sent])

    assert jira.log.wait(lambda log: [record.ended for record in log] == [True] * 3, 5)
    outcomes = [(record.status, record.complete, len(record.committed)) for record in jira.requests]
    assert outcomes == [(None, False, 0), (None, False, 1), (None, True, 1)]


def test_where_requests_are_not_atomic_what_arrived_whole_stays(jira: Standin, client: httpx.Client) -> None:
    jira.store.atomic = False
    jira.store.upload_limit = 10

    refused(post(client, ("small", b"1"), ("large", b"x" * 11)), 413)

    assert [it.filename for it in jira.store.all_attachments()] == ["small"]


@pytest.mark.parametrize("headers", [{"X-Atlassian-Token": "nocheck"}, {"User-Agent": "Mozilla/5.0"}])
def test_the_filter_against_forged_requests(jira: Standin, client: httpx.Client, headers: dict[str, str]) -> None:
    answer = post(client, headers=headers)

    assert (answer.status_code, answer.text) == (403, "XSRF check failed")
    assert answer.headers["content-type"].startswith("text/plain")
    assert jira.store.all_attachments() == []


def test_a_chunked_body_draws_411(client: httpx.Client) -> None:
    answer = client.post("issue/TEST-1/attachments", content=iter([b"x"]))

    assert answer.status_code == 411


def test_limits_on_size_and_number(jira: Standin, client: httpx.Client) -> None:
    jira.store.upload_limit = 10
    jira.store.attachment_limit = 61

    assert "10 bytes" in refused(post(client, ("a", b"x" * 11)), 413)
    refused(post(client, *[("a", b"x")] * 61), 413)
    assert post(client, *[("a", b"x" * 10)] * 60).status_code == 200
    refused(post(client, *[("a", b"x")] * 2), 413)
    assert post(client).status_code == 200
    assert len(jira.store.attachments("TEST-1")) == 61


def test_switches_that_close_an_issue(jira: Standin, client: httpx.Client) -> None:
    jira.store.add_issue("OTHER-1")
    jira.store.read_only = {"TEST"}
    assert "permission to create attachments" in refused(post(client), 403)
    assert client.get("issue/TEST-1").status_code == 200
    assert post(client, key="OTHER-1").status_code == 200

    jira.store.read_only, jira.store.invisible = set(), {"TEST-1"}
    refused(post(client), 404)
    refused(client.get("issue/TEST-1"), 404)

    jira.store.invisible, jira.store.attachments_enabled = set(), False
    refused(post(client), 403)
    assert client.get("attachment/meta").json()["enabled"] is False


def test_the_answer_in_other_orders_and_forms(jira: Standin, client: httpx.Client) -> None:
    jira.store.shuffle = jira.store.created_as_millis = True

    answer = post(client, ("a", b"1"), ("b", b"2")).json()

    assert [one["filename"] for one in answer] == ["b", "a"]
    created = {one.filename: one.created for one in jira.store.all_attachments()}
    assert {one["filename"]: one["created"] for one in answer} == created


# --- the other resources --------------------------------------------------------------------------------------------


def test_an_issue_shows_the_fields_that_are_asked_for(jira: Standin, client: httpx.Client) -> None:
    jira.store.add_issue("TEST-1", "Printer jams")
    post(client)

    whole = client.get("issue/test-1").json()
    fits("IssueBean", whole)
    assert (whole["key"], set(whole["fields"])) == ("TEST-1", {"summary", "attachment"})
    assert [one["size"] for one in whole["fields"]["attachment"]] == [5]
    assert set(client.get("issue/TEST-1?fields=attachment").json()["fields"]) == {"attachment"}
    assert client.get("issue/TEST-1?fields=summary").json()["fields"] == {"summary": "Printer jams"}
    assert client.get(f"issue/{whole['id']}").json()["key"] == "TEST-1"
    assert "does not exist" in refused(client.get("issue/TEST-2"), 404)
    jira.store.hide_attachment_field = True
    assert client.get("issue/TEST-1?fields=attachment").json()["fields"] == {}


def test_a_moved_issue_answers_to_both_keys(jira: Standin, client: httpx.Client) -> None:
    post(client)
    jira.store.move_issue("TEST-1", "NEW-7")
    post(client, key="TEST-1")

    assert client.get("issue/TEST-1").json()["key"] == "NEW-7"
    assert [it.issue for it in jira.store.attachments("TEST-1")] == ["NEW-7", "NEW-7"]
    assert len(client.get("issue/new-7?fields=attachment").json()["fields"]["attachment"]) == 2


def test_issues_that_come_together_keep_all_attachments(jira: Standin) -> None:
    jira.store.attach("NEW-7", "b", b"2")
    jira.store.attach("TEST-1", "a", b"1")

    jira.store.move_issue("TEST-1", "NEW-7")

    assert len(jira.store.attachments("TEST-1")) == len(jira.store.attachments("NEW-7")) == 2


def test_any_issue_exists_where_it_is_so_set(opened: Open) -> None:
    jira = opened(auto_issues=True)
    with calling(jira) as client:
        assert client.get("issue/any-12").json()["key"] == "ANY-12"
        for impossible in ("12", "A-0", "A-1x", "-1", "Ä-1"):
            assert client.get(f"issue/{impossible}").status_code == 404
        jira.store.projects = {"ONLY"}
        assert client.get("issue/ONLY-1").status_code == 200
        assert client.get("issue/ELSE-1").status_code == 404


def test_one_attachment_can_be_looked_at_fetched_and_deleted(jira: Standin, client: httpx.Client) -> None:
    (shown,) = post(client, ("bild ü.png", b"\x89PNG")).json()
    path = f"attachment/{shown['id']}"

    fits("AttachmentMetadata", client.get(path).json())
    assert client.get(path).json()["id"] == int(shown["id"])
    assert shown["content"].endswith(f"/rest/api/3/attachment/content/{shown['id']}")
    assert client.get(shown["content"]).status_code == 303
    assert client.get(shown["content"], follow_redirects=True).content == b"\x89PNG"
    direct = client.get(f"attachment/content/{shown['id']}?redirect=false")
    assert direct.content == b"\x89PNG"
    assert direct.headers["content-disposition"].startswith("attachment")
    assert client.delete(path).status_code == 204
    for gone in (client.get(path), client.delete(path), client.get(shown["content"])):
        refused(gone, 404)
    assert jira.store.all_attachments() == []


def test_what_is_said_about_the_account_and_the_site(jira: Standin, client: httpx.Client) -> None:
    fits("AttachmentSettings", client.get("attachment/meta").json())
    fits("User", client.get("myself").json())
    info = client.get("serverInfo").json()
    fits("ServerInformation", info)
    assert (info["baseUrl"], info["deploymentType"]) == (jira.url, "Cloud")
    assert "cloudId" in httpx.get(f"{jira.url}/_edge/tenant_info", verify=False).json()
    unknown = client.get("nonsense")
    assert (unknown.status_code, "errorMessages" in unknown.json()) == (404, False)


def test_permissions_must_be_named_on_cloud(jira: Standin, client: httpx.Client) -> None:
    jira.store.read_only = {"TEST-1"}

    answer = client.get("mypermissions?permissions=BROWSE_PROJECTS,CREATE_ATTACHMENTS&issueKey=TEST-1")

    fits("Permissions", answer.json())
    have = {key: value["havePermission"] for key, value in answer.json()["permissions"].items()}
    assert have == {"BROWSE_PROJECTS": True, "CREATE_ATTACHMENTS": False}
    refused(client.get("mypermissions"), 400)
    refused(client.get("mypermissions?permissions=NONSENSE"), 400)
    refused(client.get("mypermissions?permissions=BROWSE_PROJECTS&issueKey=TEST-9"), 404)
    refused(client.get("mypermissions?permissions=BROWSE_PROJECTS&projectKey=NONE"), 404)
    jira.store.read_only = {"TEST"}
    answer = client.get("mypermissions?permissions=CREATE_ATTACHMENTS&projectKey=TEST")
    assert answer.json()["permissions"]["CREATE_ATTACHMENTS"]["havePermission"] is False


def test_every_answer_has_the_server_s_time_and_the_caller_s_name(jira: Standin, client: httpx.Client) -> None:
    jira.store.clock_skew = 3600

    for answer in (client.get("myself"), client.get("issue/TEST-9"), post(client)):
        said = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
        assert said == pytest.approx(time.time() + 3600, abs=5)
        assert answer.headers["x-aaccountid"] == jira.store.account_id
        assert answer.headers["x-seraph-loginreason"] == "OK"
    assert jira.store.all_attachments()[0].created / 1000 == pytest.approx(time.time() + 3600, abs=5)


# --- credentials ----------------------------------------------------------------------------------------------------


def test_wrong_credentials_look_like_a_missing_issue_on_cloud(jira: Standin) -> None:
    with calling(jira, (AUTH[0], "old")) as client:
        for answer in (post(client), client.get("issue/TEST-1")):
            assert "does not exist or you do not have permission" in refused(answer, 404)
            assert answer.headers["x-seraph-loginreason"] == "AUTHENTICATED_FAILED"
        refused(client.get("myself"), 401)
        assert client.get("serverInfo").status_code == client.get("attachment/meta").status_code == 200

        jira.store.anonymous_fallthrough = False
        refused(post(client), 401)

        jira.store.token = "old"
        assert post(client).status_code == 200
    assert len(jira.store.all_attachments()) == 1


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer standin-token", 200),
        ("Bearer nonsense", 401),
        ("Basic !!!", 401),
        ("Basic w6TDtg==", 401),
        ("Digest x", 401),
        (None, 401),
    ],
)
def test_schemes_of_authentication(jira: Standin, header: str | None, status: int) -> None:
    headers = {"Authorization": header} if header else {}
    assert httpx.get(f"{jira.url}/rest/api/3/myself", headers=headers, verify=False).status_code == status


# --- Data Center ----------------------------------------------------------------------------------------------------


def test_data_center_knows_no_third_version_and_says_401(opened: Open) -> None:
    jira = opened(issues=["TEST-1"], deployment="Server", base_path="/jira/", user="demo")
    with calling(jira, ("demo", "standin-token"), 2) as client:
        assert jira.url.endswith("/jira")
        (shown,) = post(client, ("ü?.txt", b"x")).json()
        assert (shown["author"]["name"], "accountId" in shown["author"]) == ("demo", False)
        assert client.get(shown["content"]).content == b"x"
        answer = client.get("myself")
        assert (answer.json()["name"], answer.headers["x-ausername"]) == ("demo", "demo")
        assert client.get("serverInfo").json()["deploymentType"] == "Server"
        assert client.get("serverInfo").json()["baseUrl"] == jira.url
        assert client.get("mypermissions").json()["permissions"]["CREATE_ATTACHMENTS"]["havePermission"]
        assert client.get("attachment/meta").json()["uploadLimit"] == 10 * MIB
        jira.store.upload_limit = 1
        assert "1 bytes" in refused(post(client, ("a", b"12")), 404)
    with calling(jira, ("demo", "standin-token"), 3) as client:
        assert client.get("myself").status_code == 404
    with calling(jira, None, 2) as client:
        client.headers["Authorization"] = "Bearer standin-token"
        assert client.get("myself").status_code == 200
        assert client.get(shown["content"]).status_code == 302
    with calling(jira, ("demo", "wrong"), 2) as client:
        for answer in (client.get("myself"), client.get("issue/TEST-1"), post(client)):
            refused(answer, 401)
            assert answer.headers["x-ausername"] == "anonymous"


# --- rate limits ----------------------------------------------------------------------------------------------------


def test_an_issue_takes_so_many_writes_and_then_429(jira: Standin, client: httpx.Client) -> None:
    jira.store.limits = True
    jira.store.add_issue("TEST-2")

    answers = [post(client) for _ in range(21)]

    assert [answer.status_code for answer in answers] == [200] * 20 + [429]
    assert next(i for i, answer in enumerate(answers) if "x-ratelimit-nearlimit" in answer.headers) == 16
    assert answers[-1].headers["ratelimit-reason"] == "jira-per-issue-on-write"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
    assert answers[-1].headers["x-ratelimit-reset"].endswith("Z")
    assert post(client, key="TEST-2").status_code == 200
    assert client.get("issue/TEST-1").status_code == 200
    assert len(jira.store.attachments("TEST-1")) == 20


def test_limits_can_be_shrunk_and_can_count_files(jira: Standin, client: httpx.Client) -> None:
    jira.store.limits = jira.store.count_files_as_writes = True
    jira.store.limit_scale = 0.01

    assert post(client, *[("a", b"1")] * 20).status_code == 200
    assert post(client).status_code == 429
    end = time.monotonic() + 5
    while post(client).status_code == 429:
        assert time.monotonic() < end
    assert post(client, *[("a", b"1")] * 21).status_code == 429


def test_data_center_counts_on_every_answer(opened: Open) -> None:
    jira = opened(issues=["TEST-1"], deployment="Server")
    jira.store.limits, jira.store.bucket_size, jira.store.limit_scale = True, 3, 60
    with calling(jira, AUTH, 2) as client:
        answers = [client.get("myself") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["retry-after"] for answer in answers] == ["0", "0", "6", "6"]
    assert answers[0].headers["x-ratelimit-remaining"] == "2"


# --- being started, stopped, and found again ------------------------------------------------------------------------


def test_an_outage_keeps_port_and_store(jira: Standin, client: httpx.Client) -> None:
    post(client)
    url = jira.url

    jira.stop()
    with pytest.raises(httpx.ConnectError):
        client.get("myself")
    jira.start()

    assert jira.url == url
    assert len(client.get("issue/TEST-1").json()["fields"]["attachment"]) == 1
    jira.restart()
    assert client.get("myself").status_code == 200


def test_a_stop_in_the_midst_of_an_upload_is_quick_and_stores_nothing(jira: Standin) -> None:
    with socket.create_connection(("127.0.0.1", jira.port)) as wire:
        wire.sendall(b"POST /rest/api/3/issue/TEST-1/attachments HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        assert jira.log.wait(lambda log: len(log) == 1, 5)
        begun = time.monotonic()
        jira.stop()
        assert time.monotonic() - begun < 1
        with contextlib.suppress(ConnectionResetError):
            assert wire.recv(1) == b""
    assert jira.requests[0].ended
    assert jira.store.all_attachments() == []


def test_a_stopped_stand_in_that_is_forgotten_leaves_no_open_socket(tmp_path: Path) -> None:
    jira = Standin(tmp_path)
    jira.start()
    jira.stop()

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        del jira
    assert seen == []


def test_another_stand_in_finds_what_the_first_stored(opened: Open) -> None:
    first = opened(issues=["TEST-1"])
    kept, gone = first.store.attach("TEST-1", "a", b"1"), first.store.attach("TEST-1", "b", b"2")
    first.store.delete(gone.id)
    first.store.move_issue("TEST-1", "NEW-2")
    first.close()
    (first.store.folder / "files" / "20009").write_bytes(b"of a process that died before its commit")
    with (first.store.folder / "log.jsonl").open("ab") as log:
        log.write(b'{"event": "commit", "attach')

    second = opened(issues=["TEST-1"])

    assert [(it.id, it.issue, it.sha256) for it in second.store.all_attachments()] == [(kept.id, "NEW-2", kept.sha256)]
    assert second.store.attachments("TEST-1")[0].path.read_bytes() == b"1"
    assert second.store.attach("NEW-2", "c", b"3").id not in (kept.id, gone.id)
    assert len(list((first.store.folder / "files").iterdir())) == 2
    lines = (first.store.folder / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["attachments"][0]["filename"] == "c"


def test_what_cannot_start_leaves_nothing_open(jira: Standin, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="in use"), Standin(tmp_path, jira.port):
        pass
    with pytest.raises(OSError, match="No such file"), Standin(tmp_path, tls=(tmp_path / "none", tmp_path / "none")):
        pass


def test_an_attachment_of_somebody_else(jira: Standin, client: httpx.Client) -> None:
    jira.store.attach("TEST-1", "a.txt", b"hello", author="another", created=1_665_041_567_000)

    (shown,) = client.get("issue/TEST-1?fields=attachment").json()["fields"]["attachment"]

    assert shown["author"]["accountId"] == "another"
    assert shown["created"] == "2022-10-06T07:32:47.000+0000"


def test_a_site_below_a_gateway_s_path(opened: Open) -> None:
    jira = opened(issues=["TEST-1"], base_path="/ex/jira/123")
    with calling(jira) as client:
        assert post(client).json()[0]["self"].startswith(f"{jira.url}/rest/api/3/attachment/")
    assert httpx.get(f"http://127.0.0.1:{jira.port}/rest/api/3/serverInfo", verify=False).status_code == 404
    assert httpx.get(f"http://127.0.0.1:{jira.port}/_edge/tenant_info", verify=False).status_code == 200


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_encrypted(opened: Open, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=127.0.0.1"
    make += f" -addext subjectAltName=IP:127.0.0.1 -out {certificate} -keyout {key}"
    subprocess.run(make.split(), check=True, capture_output=True)
    jira = opened(issues=["TEST-1"], tls=(certificate, key))

    with calling(jira, verify=ssl.create_default_context(cafile=certificate)) as client:
        assert jira.url.startswith("https://")
        assert post(client).status_code == 200
        jira.stop()
        jira.start()
        assert client.get("myself").status_code == 200


# --- as a process of its own ----------------------------------------------------------------------------------------


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A stand-in in its own process, and its address."""
    command = [sys.executable, "-m", "attachd.standin", "--folder", str(tmp_path / "jira"), "--auto-issues"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_process_is_told_everything_over_http(process: tuple[subprocess.Popen[str], str]) -> None:
    child, url = process
    control = httpx.Client(base_url=f"{url}/__standin__/")
    with (
        control,
        httpx.Client(base_url=f"{url}/rest/api/3/", auth=AUTH, headers={"X-Atlassian-Token": "no-check"}) as client,
    ):
        assert control.post("faults", json={"kind": "status", "where": "myself", "status": 503}).status_code == 204
        assert client.get("myself").status_code == 503
        control.post("faults", json={"kind": "status", "where": "myself", "times": -1})
        assert control.delete("faults").status_code == 204
        assert client.get("myself").status_code == 200
        control.post("set", json={"upload_limit": 7, "read_only": ["TEST-9"]})
        assert client.get("attachment/meta").json()["uploadLimit"] == 7
        control.post("issues", json={"key": "TEST-1", "summary": "Words"})
        assert client.get("issue/TEST-1").json()["fields"]["summary"] == "Words"
        post(client, ("a", b"1"))
        assert control.get("attachments").json()[0]["sha256"] == hashlib.sha256(b"1").hexdigest()
        assert [request["status"] for request in control.get("requests").json()] == [503, 200, 200, 200, 200]
        assert control.post("hook", json={"event": "attached"}).status_code == 204
        assert control.get("hook").json() == [{"event": "attached"}]
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as gone:
            gone.sendall(b"POST /__standin__/hook HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            gone.sendall(b"Content-Length: 9\r\n\r\n{")
        for path, nonsense in [("faults", {"kind": "x"}), ("faults", {"kind": "slow", "x": 1}), ("set", {"x": 1})]:
            assert control.post(path, json=nonsense).status_code == 400
        assert control.post("set", content=b"{}").status_code == 415

    child.send_signal(signal.SIGTERM)
    assert child.wait(5) == 0
    assert child.communicate() == ("", "")


def test_memory_stays_flat_while_a_large_file_comes_in(process: tuple[subprocess.Popen[str], str]) -> None:
    child, url = process
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="large"\r\n\r\n'
    tail = b"\r\n--b--\r\n"
    headers = {
        "X-Atlassian-Token": "no-check",
        "Content-Type": "multipart/form-data; boundary=b",
        "Content-Length": str(len(head) + 64 * MIB + len(tail)),
    }

    def body() -> Iterator[bytes]:
        yield head
        for number in range(64):
            yield bytes([number]) * MIB
        yield tail

    def upload() -> httpx.Response:
        target = f"{url}/rest/api/3/issue/TEST-1/attachments"
        return httpx.post(target, content=body(), headers=headers, auth=AUTH, timeout=30)

    with httpx.Client(auth=AUTH, headers={"X-Atlassian-Token": "no-check"}) as client:
        client.post(f"{url}/rest/api/3/issue/TEST-1/attachments", files={"file": ("small", b"x")})
    before = peak(child.pid)
    answer = upload()

    assert answer.json()[0]["size"] == 64 * MIB
    assert peak(child.pid) - before < 8 * MIB
    assert httpx.get(f"{url}/__standin__/attachments", verify=False).json()[1]["sha256"] == digest(
        body(), len(head), len(tail)
    )


def peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def digest(body: Iterator[bytes], head: int, tail: int) -> str:
    whole = hashlib.sha256()
    for chunk in body:
        if len(chunk) not in (head, tail):
            whole.update(chunk)
    return whole.hexdigest()
