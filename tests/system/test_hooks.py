"""Hooks of the installed command: a webhook gets its event although attachd was killed, and a comment is made once."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hooks.test_hooks import Receiver, receiver  # noqa: F401  a fixture
from installation import Jira, Place
from waiting import wait_until


def comments(jira: Jira, issue: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = jira.ask(f"comments?issue={issue}")
    return found


def test_once_tells_what_became_of_the_files_before_it_ends(
    place: Place,
    jira: Jira,
    receiver: Receiver,  # noqa: F811
) -> None:
    place.configure(jira.url, f'[hooks]\nurl = "{receiver.url}"\n')
    for number in range(5):
        place.drop(f"TEST-1/{number}.txt", b"%d" % number)

    assert place.run("once").returncode == 0

    assert receiver.kinds() == ["attached"] * 5


def test_a_receiver_that_was_down_and_a_kill_lose_no_event(
    place: Place,
    jira: Jira,
    tmp_path: Path,
    receiver: Receiver,  # noqa: F811
) -> None:
    place.configure(jira.url, f'[hooks]\nurl = "{receiver.url}"\n')
    receiver.answers = [503] * 3
    daemon = place.start(stderr=subprocess.DEVNULL)
    place.drop("TEST-1/a.txt", b"a")
    wait_until(lambda: len(receiver.answers) < 3)
    daemon.kill()
    daemon.wait()
    receiver.answers = []

    assert place.run("once").returncode == 0

    assert receiver.kinds().count("attached") == 1
    assert [each["filename"] for each in jira.attachments()] == ["a.txt"]


def test_a_comment_names_the_files_of_a_batch_and_is_an_internal_note(place: Place, jira: Jira) -> None:
    place.configure(jira.url, "[hooks]\nissue_comment = true\n")
    for name in ("a.txt", "b [1].txt"):
        place.drop(f"TEST-1/{name}", b"x")
    place.drop("TEST-2/c.txt", b"x")

    assert place.run("once").returncode == 0

    [comment] = comments(jira, "TEST-1")
    assert comment["body"].startswith("2 files were attached:\n- ")
    assert "- b \\[1\\].txt (1 byte)" in comment["body"]
    assert {"key": "sd.public.comment", "value": {"internal": True}} in comment["properties"]
    assert "1 file was attached" in comments(jira, "TEST-2")[0]["body"]


@pytest.mark.parametrize("point", ["reply", "last-byte"])
def test_a_comment_whose_answer_was_lost_is_not_made_twice(place: Place, jira: Jira, point: str) -> None:
    place.configure(jira.url, "[hooks]\nissue_comment = true\n")
    place.drop("TEST-1/a.txt", b"x")
    jira.tell("faults", {"kind": "reset", "where": "comment", "point": point})
    assert place.run("once").returncode == 0

    assert place.run("once").returncode == 0

    assert len(comments(jira, "TEST-1")) == 1


def test_a_comment_that_may_not_be_made_is_told_once_and_fails_nothing(place: Place, jira: Jira) -> None:
    place.configure(jira.url, "[hooks]\nissue_comment = true\n")
    jira.tell("faults", {"kind": "status", "where": "comment", "status": 403, "times": -1})
    place.drop("TEST-1/a.txt", b"x")

    ended = place.run("once")

    assert ended.returncode == 0
    assert ended.stderr.count("hook.not_commented") == 1
    assert json.loads(place.run("status", "--json").stdout)["files"]["attached"] == 1
