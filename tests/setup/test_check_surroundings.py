"""What check finds around the service: loose files, and whether the page answers or could be served."""

from __future__ import annotations

import http.server
import io
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attachd import config
from attachd.cli import check as cli_check
from attachd.cli import history, terminal
from attachd.journal import lookup
from attachd.setup import check, check_inbox, check_page
from attachd.setup.finding import Finding
from attachd.share import locks
from memory_jira import World, world
from web.test_page import free_port


def settings(home: Path, listen: str | None = None) -> config.Config:
    (home / "inbox").mkdir(exist_ok=True)
    table = {
        "folders": {"inbox": str(home / "inbox")},
        "jira": {"url": "https://jira.example.com", "auth": {"kind": "anonymous"}},
    }
    return config.parse(table | ({"web": {"listen": listen}} if listen else {}), base=home, check_token=False)


def page(home: Path, listen: str | None, *, running: bool) -> list[Finding]:
    return list(check_page.page(settings(home, listen), running=running))


# --- Loose files ------------------------------------------------------------------------------------------------


def test_files_in_the_inbox_itself_are_named_and_attachd_s_own_are_not(tmp_path: Path) -> None:
    inbox = settings(tmp_path).folders.inbox
    for name in ("_STATUS.txt", "_WHY.txt", "half.part", ".hidden"):
        (inbox / name).touch()
    (inbox / "TEST-1").mkdir()
    assert list(check_inbox.loose(settings(tmp_path))) == []

    for name in "abcde":
        (inbox / f"{name}.txt").touch()
    (inbox / "\x1b[31m").touch()

    (found,) = check_inbox.loose(settings(tmp_path))
    assert found.result == "warning"
    assert found.detail.startswith("\\x1b[31m, a.txt, b.txt and 3 more: not in an issue folder")


# --- The page ---------------------------------------------------------------------------------------------------


@contextmanager
def answering(status: int) -> Iterator[str]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_without_a_page_nothing_is_said_of_it(tmp_path: Path) -> None:
    assert page(tmp_path, None, running=True) == []


def test_a_page_that_answers_is_fine_and_another_program_is_not(tmp_path: Path) -> None:
    with answering(200) as listen:
        assert [each.result for each in page(tmp_path, listen, running=True)] == ["ok"]
    with answering(404) as listen:
        (found,) = page(tmp_path, listen, running=True)
    assert found.result == "warning"
    assert "another program answers there with status 404" in found.detail


@pytest.mark.parametrize("where", ["port", "socket"])
def test_a_page_that_does_not_answer_is_told_with_what_to_do(tmp_path: Path, where: str) -> None:
    listen = f"127.0.0.1:{free_port()}" if where == "port" else f"unix:{tmp_path}/web.sock"

    (found,) = page(tmp_path, listen, running=True)

    assert found.result == "warning"
    assert f"{listen} does not answer: " in found.detail
    assert "page.not_served" in found.remedy


def test_while_nothing_runs_the_address_is_tried_and_left_free(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    for _ in range(2):
        assert [each.detail for each in page(tmp_path, listen, running=False)] == [f"{listen} is free"]
    assert [each.result for each in page(tmp_path, "[::1]:1", running=True)] == ["warning"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        (found,) = page(tmp_path, f"127.0.0.1:{other.getsockname()[1]}", running=False)
    assert "Address already in use" in found.detail


@pytest.mark.parametrize(
    ("path", "said"),
    [("web.sock", ""), ("nowhere/web.sock", "is missing"), ("file", "not a socket"), ("/run/attachd/web.sock", "")],
)
def test_while_nothing_runs_the_socket_s_folder_is_looked_at(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "file").touch()

    (found,) = page(tmp_path, f"unix:{tmp_path / path}", running=False)

    assert found.result == ("warning" if said else "ok")
    assert said in found.detail


def test_a_socket_at_which_somebody_else_answers_is_not_free(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "web.sock"))
        other.listen()
        (found,) = page(tmp_path, f"unix:{tmp_path}/web.sock", running=False)
    assert "another process is listening there" in found.detail

    assert [each.result for each in page(tmp_path, f"unix:{tmp_path}/web.sock", running=False)] == ["ok"]


def test_beside_a_verb_that_serves_no_page_nothing_is_said_of_it(tmp_path: Path) -> None:
    with world(tmp_path, web={"listen": f"127.0.0.1:{free_port()}"}) as w:
        assert locks.holder(tmp_path / "state" / "lock") is not None

        found = check.inspect(w.runtime.config, tmp_path / "state", {}, offline=True)

        assert "web.listen" not in [each.what for each in found]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_an_inbox_that_cannot_be_listed_is_a_finding(w: World) -> None:
    with tempfile.TemporaryDirectory() as home:
        folders = {name: Path(home, name) for name in ("inbox", "done", "failed", "state")}
        for folder in (Path(home), *folders.values()):
            folder.mkdir(exist_ok=True)
            os.chmod(folder, 0o777)
        os.chmod(folders["inbox"], 0o333)
        table = {"folders": {name: str(path) for name, path in folders.items()}}
        table["jira"] = {"url": "https://jira.example.com", "auth": {"kind": "anonymous"}}  # type: ignore[dict-item]
        settings = config.parse(table, base=Path(home), check_token=False)
        os.seteuid(65534)
        try:
            found = list(check.inspect(settings, folders["state"], {}, offline=True))
        finally:
            os.seteuid(0)

    (inbox,) = (each for each in found if each.what == "folders.inbox")
    assert inbox.result == "failed"
    assert "Permission denied" in inbox.detail
    assert "read and write there" in inbox.remedy


# --- Tables -----------------------------------------------------------------------------------------------------


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.mark.parametrize(("width", "checksum"), [(80, False), (160, True)])
def test_the_history_is_drawn_without_losing_a_word(w: World, width: int, checksum: bool) -> None:
    w.jira.missing.add("TEST-2")
    w.drop("TEST-1/a name that is long, and longer than a column [bold] :100: of a narrow terminal.txt")
    w.drop("TEST-2/b.txt")
    w.settle()
    w.drop("TEST-2/c.txt")
    w.scan()
    screen = io.StringIO()
    rows = lookup.history(w.runtime.journal, "", None, 10)

    console = terminal.wide_console()
    console.file, console.width = screen, width
    history.draw(rows, w.clock.now(), console)

    shown = screen.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    words = shown.split()
    for word in ("[bold]", ":100:", "terminal.txt", "attached", "failed", "waiting", "TEST-2/b.txt", "permission"):
        assert word in words, word
    assert (w.jira.stored[0].sha256[:12] in shown) is checksum


def test_a_file_that_was_tried_again_names_the_later_one(w: World) -> None:
    w.jira.missing.add("TEST-1")
    w.drop("TEST-1/a.txt")
    w.settle()
    w.jira.missing.clear()
    w.drop("TEST-1/a.txt")
    w.settle()
    screen, console = io.StringIO(), terminal.wide_console()
    console.file, console.width = screen, 400

    history.draw(lookup.history(w.runtime.journal, "", None, 10), w.clock.now(), console)

    newest, oldest = (line for line in screen.getvalue().splitlines() if "a.txt" in line)
    assert "attached" in newest
    assert "later" not in newest
    assert "(newer file of this name: F2)" in oldest


def test_what_jira_calls_a_file_cannot_steer_the_terminal(w: World) -> None:
    w.drop("TEST-1/a.txt")
    w.deliver()
    (row,) = lookup.history(w.runtime.journal, "", None, 10)

    assert history.became(row._replace(stored_as="\x1b[2Jb.txt")) == f"attachment {row.attachment} named \\x1b[2Jb.txt"


def test_check_counts_what_it_found() -> None:
    ok, bad = Finding("a", "ok", "x"), Finding("b", "failed", "y", "do z")

    assert cli_check.summary([ok, ok, bad]) == "3 checks: 2 ok, 0 warnings, 1 failed."
