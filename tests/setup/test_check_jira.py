"""What check finds on the way to Jira and there: proxy, certificate, rights, and the issues that the folders mean."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attachd import config
from attachd.setup import check, check_jira
from attachd.setup.finding import Finding
from attachd.standin import Standin
from raw_connections import Proxy, Server, answering, calling, make_authority, said


def settings(
    home: Path, url: str = "https://jira.example.com", *, projects: tuple[str, ...] = (), **jira: Any
) -> config.Config:
    for name in ("inbox", "done", "failed"):
        (home / name).mkdir(exist_ok=True)
    auth = {"kind": "basic", "user": "demo@example.com", "token": {"file": "token"}}
    (home / "token").write_text("standin-token\n")
    (home / "token").chmod(0o600)
    folders = {"inbox": "inbox", "state": "state", "projects": list(projects)}
    return config.parse({"folders": folders, "jira": {"url": url, "auth": auth} | jira}, base=home)


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Standin]:
    with Standin(tmp_path / "jira", issues=["TEST-1", "TEST-2", "LAB-1", "LAB-2"]) as site:
        yield site


def told(settings: config.Config, environ: dict[str, str] | None = None) -> dict[str, Finding]:
    """Each finding under what it is about."""
    found = check.inspect(settings, settings.folders.inbox.parent / "state", environ or {}, offline=False)
    return {each.what: each for each in found}


# --- Folders and rights -------------------------------------------------------------------------------------------


def test_folders_are_told_with_what_people_call_their_issues(tmp_path: Path, jira: Standin) -> None:
    """A wrong key is seen by its summary; what the account may not do there is seen before a file is lost to it."""
    jira.store.add_issue("TEST-1", "Printer jams \u202e\n again")
    jira.store.add_issue("LAB-2", "Moved")
    jira.store.move_issue("LAB-2", "OPS-7")
    jira.store.read_only, jira.store.invisible = {"LAB"}, {"TEST-2"}
    found_in = settings(tmp_path, jira.url, projects=("TEST", "LAB", "NONE"))
    for name in ("test-1 the printer", "TEST-2", "LAB-1", "LAB-2", "TEST-9"):
        (tmp_path / "inbox" / name).mkdir()

    found = told(found_in)

    assert found["inbox/test-1 the printer"] == Finding(
        "inbox/test-1 the printer", "ok", "TEST-1 exists: “Printer jams \\u202e\\n again”"
    )
    assert "the account may not attach files to it" in found["inbox/LAB-1"].detail
    assert found["inbox/LAB-2"].detail == "LAB-2 is now OPS-7: “Moved”"
    for name in ("TEST-2", "TEST-9"):
        assert found[f"inbox/{name}"].result == "warning"
        assert "does not exist or you do not have permission" in found[f"inbox/{name}"].detail
    assert found["permissions TEST"] == Finding(
        "permissions TEST", "ok", "the account may attach files to issues of TEST"
    )
    assert found["permissions LAB"].detail == "Jira says that the account may not attach files to issues of LAB"
    assert "Create attachments" in found["permissions LAB"].remedy
    assert "No project could be found with key 'NONE'" in found["permissions NONE"].detail
    assert found["jira.auth"].detail.endswith(" (Stand-in account)")


def test_where_all_projects_are_served_it_is_asked_whether_any_takes_files(tmp_path: Path) -> None:
    with Standin(tmp_path / "jira", deployment="Server", issues=["TEST-1"]) as jira:
        found = told(settings(tmp_path, jira.url), {"https_proxy": "http://user:made-up@proxy.example.com"})

    assert found["permissions"].detail == "the account may attach files to issues of at least one project"
    assert found["tls"] == Finding("tls", "ok", "none, because Jira is on this machine")
    assert found["jira.proxy"] == Finding("jira.proxy", "ok", "none ($https_proxy is ignored)")


@pytest.mark.parametrize(
    "body",
    [b"[]", b'{"permissions": []}', b'{"permissions": {"BROWSE_PROJECTS": {"havePermission": true}}}', b"<html>"],
)
def test_an_answer_that_does_not_tell_is_no_refusal(tmp_path: Path, body: bytes) -> None:
    with Server(answering(said(body))) as server, calling(server.url) as asker:
        (found,) = check_jira.rights(settings(tmp_path, server.url), asker, "3")

    assert found.detail.startswith("Jira does not say what the account may do in any project: ")


@pytest.mark.parametrize("body", [b"[]", b'{"key": 7, "fields": {"summary": " "}}', b'{"key": ""}'])
def test_an_issue_without_a_summary_is_there_all_the_same(tmp_path: Path, body: bytes) -> None:
    found_in = settings(tmp_path)
    (tmp_path / "inbox/TEST-1").mkdir()
    with Server(answering(said(body), said(b"{}"))) as server, calling(server.url) as asker:
        (found,) = check_jira.issues(found_in, asker, "3", told=True)

    assert found == Finding("inbox/TEST-1", "ok", "TEST-1 exists")


# --- The way ------------------------------------------------------------------------------------------------------


def test_a_proxy_of_the_environment_is_named_where_nothing_answers(tmp_path: Path) -> None:
    with Server() as nobody:
        url = nobody.url
    environ = {"HTTPS_PROXY": "http://user:made-up@proxy.example.com:3128"}

    found = told(settings(tmp_path, url), environ)

    assert found["jira.url"].result == "failed"
    assert found["jira.proxy"].result == "warning"
    assert found["jira.proxy"].detail == "none ($HTTPS_PROXY is ignored)"
    assert "made-up" not in str(found)
    through = settings(tmp_path, proxy="http://proxy.example.com:3128")
    assert check_jira.proxy(through, environ, reached=False).detail == "http://proxy.example.com:3128"


def test_who_vouches_for_jira_is_told_also_through_a_proxy(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    with Standin(tmp_path / "jira", tls=authority.server) as jira, Proxy(times=9) as proxy:
        direct = told(settings(tmp_path, jira.url, ca_file=str(authority.ca)))
        through = told(settings(tmp_path, jira.url, ca_file=str(authority.ca), proxy=proxy.url))

    assert direct["tls"].detail.startswith("certificate of server, issued by ca, until 20")
    assert direct["tls"].result == "warning", "it is good for two days"
    assert through["tls"] == direct["tls"]
    assert through["jira.proxy"].detail == proxy.url


def test_where_nothing_is_shown_there_is_nothing_to_tell(tmp_path: Path) -> None:
    with Server(answering(said())) as server, calling(server.url) as asker:
        assert asker.certificate() is None
    with calling(server.url) as asker:
        assert asker.certificate() is None


def test_certificates_in_words(tmp_path: Path) -> None:
    now = 1_800_000_000.0
    shown = {
        "subject": ((("commonName", "*.atlassian.net"),),),
        "issuer": ((("countryName", "US"),), (("organizationName", "Inspect\x1b[31m"),), (("commonName", "Root 1"),)),
        "notAfter": "Mar  1 12:00:00 2027 GMT",
    }
    day = time.strftime("%Y-%m-%d", time.localtime(1803902400))

    told = check_jira.certificate(settings(tmp_path), shown, now)

    assert told == Finding(
        "tls", "ok", f"certificate of *.atlassian.net, issued by Root 1 (Inspect\\x1b[31m), until {day}"
    )
    assert check_jira.certificate(settings(tmp_path), shown, 1803902400.0 - 86400).result == "warning"
    nameless = check_jira.certificate(settings(tmp_path), {"notAfter": shown["notAfter"]}, now)
    assert nameless.detail.startswith("certificate of an unnamed party, issued by an unnamed party")
    assert check_jira.certificate(settings(tmp_path), None, now).result == "warning"
    here = settings(tmp_path, "http://127.0.0.1:8080", allow_http=True)
    assert check_jira.certificate(here, None, now).result == "ok"
    readable = settings(tmp_path, "http://jira.example.com", allow_http=True)
    assert check_jira.certificate(readable, None, now).detail == "none, so the network can read the token"
