"""What is printed with --json is what docs/output.schema.json says, with the daemon up and down."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import termios
from pathlib import Path
from typing import Any

import jsonschema

from installation import Jira, Place
from system.test_operator import running
from web.test_page import free_port

SCHEMA = json.loads((Path(__file__).parent.parent.parent / "docs/output.schema.json").read_text("utf-8"))


def valid(verb: str, printed: str) -> Any:
    """The output of a verb, which is as the schema says."""
    found = json.loads(printed)
    jsonschema.Draft202012Validator({"$ref": f"#/$defs/{verb}", "$defs": SCHEMA["$defs"]}).validate(found)
    return found


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_verb_prints_what_the_schema_says_with_the_daemon_up_and_down(place: Place, jira: Jira) -> None:
    listen = f"127.0.0.1:{free_port()}"
    place.configure(
        jira.url, f'[fuse]\nhold_minutes = 0.0\n[upload]\nmax_bytes_per_second = 2000000\n[web]\nlisten = "{listen}"\n'
    )
    jira.tell("set", {"auto_issues": False})
    jira.tell("issues", {"key": "TEST-1"})
    place.drop("TEST-1/a.txt", b"a")
    place.drop("NOPE-1/b.txt", b"b")
    place.drop("no key/c.txt", b"c")
    (place.inbox / "loose").write_text("x")
    once = valid("once", place.run("once", "--json").stdout)
    assert (once["attached"], once["failed"], once["unrouted_files"]) == (1, 1, 2)

    assert [each["returned"] for each in valid("retry", place.run("retry", "--all", "--json").stdout)] == [
        "NOPE-1/b.txt"
    ]
    assert valid("retry", place.run("retry", "nothing", "--json").stdout)[0]["returned"] is None
    assert place.run("once").returncode == 3

    for what in ("up", "down"):
        assert valid("pause", place.run("pause", "--issue", "TEST-2", "--json").stdout)["until"] is None
        if what == "up":
            with running(place):
                place.drop("TEST-2/waits.txt", b"w")
                place.drop("TEST-1/large.bin", b"x" * 14_000_000)
                for _ in range(40):
                    status = valid("status", place.run("status", "--json").stdout)
                    if any(each["sent"] for each in status["sending"]) and status["queue"]:
                        break
                else:
                    raise AssertionError("no upload was seen")
                _others(place, listen)
                assert valid("reload", place.run("reload", "--json").stdout) == {"changed": [], "restart": []}
        else:
            status = valid("status", place.run("status", "--json").stdout)
            assert status["running"] is None
            _others(place, listen)
        assert status["pauses"][0]["scope"] == "operator"
        assert len(status["unrouted"]) == 2
    assert len(valid("resume", place.run("resume", "--json").stdout)["ended"]) == 1
    _on_a_terminal(place)
    _of_the_administrator(place)


def _on_a_terminal(place: Place) -> None:
    """What verbs draw for people has colours, and keeps every word."""
    shown = on_terminal(place.command("history"))
    assert "\x1b[32mattached" in shown
    assert "NOPE-1/b.txt" in shown
    shown = on_terminal(place.command("check", "--offline"))
    assert "\x1b[33mwarning" in shown
    assert "loose: not in an issue folder" in shown
    assert re.search(r"\d+ checks: \d+ ok, \d+ warnings, 0 failed\.", shown)


def on_terminal(command: list[str | Path]) -> str:
    """What a command writes to a terminal of 200 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 200))
    environ = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "FORCE_COLOR")}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, env=environ | {"TERM": "xterm-256color"}) as process:
        os.close(theirs)
        shown = b""
        # EIO is how Linux tells that nobody has the other end open any more (pty(7)).
        with contextlib.suppress(OSError):
            while more := os.read(ours, 65536):
                shown += more
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


def _of_the_administrator(place: Place) -> None:
    copy = place.home / "copy"
    assert valid("backup", place.run("backup", copy, "--json").stdout)["bytes"] == copy.stat().st_size
    restored = valid("restore", place.run("restore", copy, "--json").stdout)
    assert Path(restored["kept"]).exists()
    for verb in ("install", "uninstall"):
        steps = valid(verb, place.run(verb, "--user", "--dry-run", "--json").stdout)
        assert steps["dry_run"]
        assert {each["done"] for each in steps["steps"]} == {None}


def _others(place: Place, listen: str) -> None:
    assert len(valid("history", place.run("history", "--json").stdout)) >= 2
    assert valid("why", place.run("why", "--json", str(place.inbox)).stdout)
    assert valid("why", place.run("why", "--json", str(place.failed)).stdout)
    checked = {each["what"]: each["detail"] for each in valid("check", place.run("check", "--json").stdout)}
    assert {"tls", "jira.proxy", "jira.auth", "permissions", "limits", "clock"} <= set(checked)
    assert valid("web", place.run("web", "--json").stdout)["address"].startswith(f"http://{listen}/")
    assert valid("verify", place.run("verify", "--json").stdout)["compared"] >= 1
