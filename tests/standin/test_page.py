"""The stand-in's page shows what was attached, and nothing that was uploaded can act through it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from attachd.standin import Standin
from attachd.standin.view import human

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Standin]:
    """A site without an issue."""
    with Standin(tmp_path / "jira") as jira:
        yield jira


def page(jira: Standin, path: str = "/") -> httpx.Response:
    return httpx.get(jira.url + path, verify=False)


def test_an_empty_page_says_what_to_do(jira: Standin) -> None:
    assert "inbox/DEMO-1/" in page(jira).text
    assert "stand-in" in page(jira).text
    jira.store.add_issue("OPS-3")
    assert "inbox/OPS-3/" in page(jira).text


def test_issues_and_attachments_come_newest_first(jira: Standin) -> None:
    jira.store.add_issue("TEST-1", "Printer jams")
    for name in ("1.txt", "2.txt", "3.txt", "4.txt", "5.txt"):
        jira.store.attach("TEST-1", name, b"first line\nsecond line")
    jira.store.attach("TEST-2", "report.pdf", b"%PDF\0" + b"x" * 1_499_995)

    text = page(jira).text

    assert text.index("TEST-2") < text.index("TEST-1")
    assert text.index("5.txt") < text.index("4.txt")
    assert "1.txt" not in text
    assert "and 1 attachment more" in text
    assert "1.5 MB" in text
    assert "first line\nsecond line" in text
    whole = page(jira, "/browse/test-1").text
    assert "Printer jams" in whole
    assert all(f"{number}.txt" in whole for number in range(1, 6))
    assert page(jira, "/browse/TEST-9").status_code == 404


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("<script>alert(1)</script>", "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>"),
        ('" onload="x', "<bdi>&quot; onload=&quot;x</bdi>"),
        ("exe.\u202egnp", "<bdi>exe.\\u202egnp</bdi>"),
        ("a\tb\x1b", "<bdi>a\\tb\\x1b</bdi>"),
        ("👩\u200d💻.txt", "<bdi>👩\u200d💻.txt</bdi>"),
    ],
)
def test_names_and_summaries_are_harmless(jira: Standin, name: str, safe: str) -> None:
    jira.store.attach("TEST-1", name, b"\0")
    jira.store.add_issue("TEST-1", name)

    for path in ("/", "/browse/TEST-1", "/__standin__/fragment", "/__standin__/fragment?issue=TEST-1"):
        assert page(jira, path).text.count(safe) == 2


def test_texts_are_shown_escaped(jira: Standin) -> None:
    jira.store.attach("TEST-1", "a.html", b"</pre><script>alert(1)</script>")

    assert "<script>alert" not in page(jira).text
    assert "&lt;/pre&gt;&lt;script&gt;alert(1)" in page(jira).text


@pytest.mark.parametrize(
    ("name", "data", "shown_as"),
    [
        ("a.bin", PNG, "image/png"),
        ("a", b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        ("a", b"GIF89a....", "image/gif"),
        ("a", b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        ("a.png", b"<html><script>alert(1)</script>", None),
        ("a.png", b"", None),
    ],
)
def test_only_real_pictures_are_shown_in_place(jira: Standin, name: str, data: bytes, shown_as: str | None) -> None:
    it = jira.store.attach("TEST-1", name, data)

    preview = page(jira, f"/__standin__/preview/{it.id}")

    assert preview.headers.get("content-type") == shown_as
    assert ("<img src=" in page(jira, "/__standin__/fragment").text) is (shown_as is not None)
    if shown_as:
        assert preview.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert preview.headers["x-content-type-options"] == "nosniff"


def test_downloads_are_for_keeping(jira: Standin) -> None:
    it = jira.store.attach("TEST-1", 'ü".html', b"<script>alert(1)</script>")

    answer = page(jira, f"/__standin__/download/{it.id}")

    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%BC%22.html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert page(jira, "/__standin__/download/1").status_code == 404


def test_the_page_allows_its_own_script_and_style_and_no_other(jira: Standin) -> None:
    answer = page(jira)

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert f"script-src {jira.url}/__standin__/app.js;" in policy
    assert "unsafe" not in policy
    assert "<style" not in answer.text
    assert " style=" not in answer.text
    for name in ("app.js", "style.css", "icon.svg"):
        assert page(jira, f"/__standin__/{name}").status_code == 200
        assert f"/__standin__/{name}" in answer.text


def test_the_fragment_is_sent_again_only_when_something_changed(jira: Standin) -> None:
    jira.store.add_issue("TEST-1")
    tag = page(jira, "/__standin__/fragment").headers["etag"]
    assert f"data-version={tag}" in page(jira).text

    def again() -> httpx.Response:
        return httpx.get(f"{jira.url}/__standin__/fragment", headers={"If-None-Match": tag}, verify=False)

    assert again().status_code == 304
    jira.store.attach("TEST-1", "new.txt", b"1")
    assert "new.txt" in again().text


def test_a_page_elsewhere_whose_name_points_here_reads_nothing(jira: Standin) -> None:
    for path in ("/", "/__standin__/fragment", "/__standin__/attachments", "/__standin__/requests"):
        answer = httpx.get(jira.url + path, headers={"Host": "rebound.example"}, verify=False)
        assert answer.status_code == 400


def test_looking_at_the_page_is_no_request_to_jira(jira: Standin) -> None:
    page(jira)

    assert jira.requests == []


def test_below_a_path_every_link_has_it(tmp_path: Path) -> None:
    with Standin(tmp_path, base_path="/jira", issues=["TEST-1"]) as jira:
        it = jira.store.attach("TEST-1", "a", PNG)
        text = page(jira, "/").text
        root = httpx.get(f"http://127.0.0.1:{jira.port}/", follow_redirects=True)

        assert root.text == text
        assert 'href="/jira/browse/TEST-1"' in text
        for path in ("style.css", "app.js", f"preview/{it.id}", f"download/{it.id}", "fragment"):
            assert f'"/jira/__standin__/{path}"' in text
            assert httpx.get(f"http://127.0.0.1:{jira.port}/jira/__standin__/{path}", verify=False).status_code == 200
        assert f"{jira.url}/__standin__/app.js" in root.headers["content-security-policy"]


def test_without_a_page_there_is_none(tmp_path: Path) -> None:
    with Standin(tmp_path, page=False) as jira:
        assert page(jira).status_code == 404
        assert page(jira, "/rest/api/3/serverInfo").status_code == 200


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_960, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (1_500_000_000, "1.5 GB"),
        (2 * 10**15, "2000 TB"),
    ],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert human(size) == words
