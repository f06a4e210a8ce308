"""Whatever streams, home and folder a verb is given: no traceback, an exit code that says so, and nothing harmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from installation import ATTACHD, Jira, Place
from waiting import wait_until

#: What may be in the name of a file.
NAME = "Müller 💥\x1b[2J\udcff.txt"
VERBS: dict[str, list[str]] = {
    "status": ["status"],
    "status --json": ["status", "--json"],
    "why": ["why", "{inbox}"],
    "why --json": ["why", "{inbox}", "--json"],
    "history": ["history"],
    "history --json": ["history", "--json"],
    "history --csv": ["history", "--csv"],
    "check": ["check", "--offline"],
    "retry": ["retry", "Müller 💥"],
    "pause": ["pause", "--issue", "TEST-9"],
    "resume": ["resume"],
    "web": ["web"],
    "backup": ["backup", "{home}/copy"],
    "install": ["install", "--user", "--dry-run"],
    "uninstall": ["uninstall", "--user", "--dry-run"],
    "reload": ["reload"],
    "once": ["once"],
    "help": ["--help"],
    "help of a verb": ["run", "--help"],
    "version": ["--version"],
    "a wrong option": ["status", "--bö💥"],
    "a wrong verb": ["bö💥"],
    "init": ["init", "--url", "https://your-site..atlassian.net"],
}
GIVEN: dict[str, dict[str, Any]] = {
    "ascii": {"encoding": "ascii"},
    "latin-1": {"encoding": "iso-8859-1"},
    "closed stdin": {"streams": {"0": None}},
    "closed stdout": {"streams": {"1": None}},
    "full stdout": {"streams": {"1": "/dev/full"}},
    "closed stderr": {"streams": {"2": None}},
    "full stderr": {"streams": {"2": "/dev/full"}},
    "all closed": {"streams": {"0": None, "1": None, "2": None}},
    "no home": {"without": ["HOME", "USER", "LOGNAME", "TERM", "XDG_CONFIG_HOME"]},
    "gone": {"gone": True},
}


#: Every verb is tried with these, and these verbs with all.
GIVEN_TO_ALL = {"ascii", "full stdout"}
TRIED_WITH_ALL = {"status", "init", "help"}


def cases(place: Place) -> list[dict[str, Any]]:
    plain = {"encoding": "utf-8", "streams": {}, "without": [], "gone": False, "environ": {}, "folder": str(place.home)}
    found = []
    for verb, words in VERBS.items():
        said = [each.format(inbox=place.inbox, home=place.home) for each in words]
        named = (
            said
            if verb in ("help", "version", "a wrong verb", "init")
            else [said[0], "-c", str(place.config), *said[1:]]
        )
        found += [
            plain | given | {"words": named, "verb": verb, "given": what}
            for what, given in GIVEN.items()
            if what in GIVEN_TO_ALL or verb in TRIED_WITH_ALL
        ]
    return found


def test_no_verb_ends_with_a_traceback_whatever_it_is_given(place: Place, jira: Jira) -> None:
    jira.tell("set", {"auto_issues": False})
    place.configure(jira.url, "[fuse]\nhold_minutes = 0.0\n")
    place.drop(os.fsencode(f"NOPE-1/{NAME}"), b"a")
    assert place.run("once").returncode == 3
    place.drop(os.fsencode(f"no key é 💥/{NAME}"), b"a")
    wanted = cases(place)

    helper = subprocess.run(
        [sys.executable, Path(__file__).with_name("forking.py")],
        input=json.dumps(wanted), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert helper.returncode == 0, helper.stderr
    became = json.loads(helper.stdout)

    for case, ended in zip(wanted, became, strict=True):
        what = f"{case['verb']}, {case['given']}: {ended}"
        assert "Traceback" not in ended["err"], what
        assert "Exception ignored" not in ended["err"], what
        assert ended["code"] in (0, 1, 2, 3, 4, 75, 78), what
        told = "the output cannot be written" in ended["err"]
        assert ended["code"] or not told, what
        assert ended["err"].count("cannot be written") <= 1, what
        assert "\x1b[2J" not in ended["out"], what
    lost = {each["verb"] for each, ended in zip(wanted, became, strict=True) if "cannot be written" in ended["err"]}
    assert lost >= {"status", "status --json", "why", "history", "check", "help", "version"}
    assert place.run("status").returncode == 0


def test_a_reader_that_goes_away_is_no_trouble(place: Place, jira: Jira) -> None:
    for number in range(30):
        place.drop(f"no key/{number}{'x' * 200}", b"a")
    place.run("once")
    with subprocess.Popen(place.command("why", place.inbox), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        process.wait(30)

    assert process.returncode == 1
    assert said == b""


def test_a_service_without_any_stream_works_and_nothing_is_written_into_its_journal(place: Place, jira: Jira) -> None:
    place.drop("TEST-1/a.txt", b"a")
    closing = 'exec "$@" <&- >&- 2>&-'
    daemon = subprocess.Popen(["/bin/sh", "-c", closing, "sh", *map(str, place.command("run"))])
    try:
        wait_until(lambda: len(jira.attachments()) == 1 and place.is_emptied(), 30)
    finally:
        daemon.terminate()
        code = daemon.wait(30)

    assert code == 0
    assert place.run("once").returncode == 0


def test_the_installed_command_in_a_locale_that_lacks_characters(place: Place, jira: Jira) -> None:
    place.drop(os.fsencode(f"no key/{NAME}"), b"a")
    place.run("once")
    environ = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    for words in (["status"], ["why", place.inbox], ["check", "--offline"]):
        ended = subprocess.run(place.command(*words), env=environ, capture_output=True, timeout=60)
        assert ended.stderr == b""
        assert ended.stdout.isascii()
    told = subprocess.run([ATTACHD, "--help"], env=environ, capture_output=True, timeout=60)

    assert (told.returncode, told.stderr) == (0, b"")
