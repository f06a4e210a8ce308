"""The web page in a browser, served by the installed command: a dropped file is seen on it, and its buttons work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from installation import Jira, Place
from waiting import wait_until
from web.test_page import free_port

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (scripts/check installs it as root)"
)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Root has no sandbox in a container.
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def address(place: Place, jira: Jira) -> Iterator[str]:
    place.configure(jira.url, f'[web]\nlisten = "127.0.0.1:{free_port()}"\n[fuse]\nhold_minutes = 0.0\n')
    with (place.home / "log").open("ab") as log:
        daemon = place.start(stderr=log)
        try:
            wait_until(lambda: "page.served" in (place.home / "log").read_text())
            told = place.run("web").stdout
            assert told.startswith("http://127.0.0.1:")
            yield told.strip()
        finally:
            daemon.terminate()
            assert daemon.wait(30) == 0


def opened(browser: Browser, address: str, problems: list[str], **options: Any) -> Page:
    """The page; what the browser complains of (a policy that bars something, a script that fails) goes to *problems*."""
    page = browser.new_context(**options).new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    assert "token" not in page.url
    return page


def test_a_dropped_file_is_seen_without_loading_the_page_again(
    browser: Browser, address: str, place: Place, jira: Jira
) -> None:
    problems: list[str] = []
    page = opened(browser, address, problems)
    expect(page.locator("#live")).to_contain_text("Nothing yet")

    place.drop('TEST-1/<img src=x onerror="document.title=1">.txt', b"x")

    row = page.locator("tr", has_text="<img src=x")
    expect(row).to_contain_text("attached attachment", timeout=15_000)
    assert page.title() == "attachd"
    jira.tell("set", {"token": "another"})
    place.drop("TEST-1/b.txt", b"b")
    expect(page.locator(".alarm")).to_contain_text("Everything has been paused since", timeout=15_000)
    jira.tell("set", {"token": "standin-token"})
    page.get_by_role("button", name="Resume").first.click()
    expect(page.locator(".said")).to_contain_text("Trying now")
    expect(page.locator("tr", has_text="b.txt").first).to_contain_text("attached", timeout=15_000)
    assert problems == []


def test_it_works_without_scripts_narrow_and_dark(browser: Browser, address: str, place: Place, jira: Jira) -> None:
    problems: list[str] = []
    options = {"java_script_enabled": False, "viewport": {"width": 360, "height": 800}, "color_scheme": "dark"}
    jira.tell("set", {"auto_issues": False})
    place.drop("NOPE-1/a.txt", b"a")
    wait_until(lambda: (place.failed / "NOPE-1/a.txt").exists())

    page = opened(browser, address, problems, **options)

    expect(page.locator("#live")).to_contain_text("The issue does not exist, or attachd may not see it")
    width = page.locator("body").bounding_box()
    assert width
    assert width["width"] <= 360, "nothing is wider than the window"
    jira.tell("set", {"auto_issues": True})
    page.get_by_role("button", name="Retry NOPE-1/a.txt").click()
    expect(page.locator(".said")).to_contain_text("back in the inbox as NOPE-1/a.txt")
    wait_until(lambda: (place.done / "NOPE-1/a.txt").exists())
    page.get_by_label("Name, issue or attachment").fill("nope")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("main")).to_contain_text("NOPE-1/a.txt")
    assert problems == []


def test_the_process_of_the_service_alone_has_the_token(address: str, place: Place) -> None:
    token = address.partition("token=")[2]

    for path in place.home.rglob("*"):
        if path.is_file() and path.name != "web-token":
            assert token.encode() not in path.read_bytes(), path
    assert (place.state / "web-token").stat().st_mode & 0o777 == 0o600
    assert os.path.exists(place.state / "web-token")
