"""Delivery with the program's own client, against the stand-in: what needs a real connection to go wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from attachd.service import starting
from attachd.standin import Fault, Standin
from world import World, world

#: More than the buffers of a connection on loopback take in while nobody reads.
LARGE = bytes(range(256)) * (12 * 1024 * 1024 // 256)


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Standin]:
    """A site with one issue."""
    folder = tmp_path / "jira"
    with Standin(folder, issues=["TEST-1"], page=False, user="robot@example.com", token="not-a-secret") as jira:
        yield jira


@pytest.fixture
def w(tmp_path: Path, jira: Standin) -> Iterator[World]:
    """A world that sends to the stand-in; a write may stall for longer than a test may take."""
    home = tmp_path / "home"
    home.mkdir()
    auth = {"user": "robot@example.com", "token": {"file": str(home / "token")}}
    with world(home, jira={"url": jira.url, "auth": auth}, upload={"stall_seconds": 300.0}) as made:
        made.client.close()
        made.client = starting.make_client(made.desk, starting.tls_context(made.desk.config))
        yield made


def uploads(jira: Standin) -> list[str | None]:
    """The fault that each upload met."""
    return [request.fault for request in jira.requests if request.method == "POST"]


def early(status: int, words: object = None, **options: bool) -> Fault:
    body, kind = ("", "text/html") if words is None else (json.dumps(words), "application/json")
    return Fault("status", status=status, early=True, body=body, content_type=kind, **options)


@pytest.mark.parametrize("stall", [False, True])
@pytest.mark.parametrize(
    ("words", "reason"), [({"errorMessages": ["no"]}, "larger than Jira allows"), (None, "a proxy in front of Jira")]
)
def test_a_large_file_that_is_declined_early_is_refused_at_once(
    w: World, jira: Standin, words: object, reason: str, stall: bool
) -> None:
    w.drop("TEST-1/large.bin", LARGE)
    jira.faults.add(early(413, words, stall=stall))

    w.deliver()

    assert w.states() == ["FAILED"]
    assert reason in (w.row("TEST-1/large.bin").reason or "")
    assert not w.row("TEST-1/large.bin").may_be_attached
    assert w.files(w.failed)["TEST-1/large.bin"] == LARGE
    assert len(uploads(jira)) == 1


@pytest.mark.parametrize("stall", [False, True])
def test_a_large_file_whose_account_is_declined_early_waits_and_is_sent_once(
    w: World, jira: Standin, stall: bool
) -> None:
    w.drop("TEST-1/large.bin", LARGE)
    jira.faults.add(early(401, {"message": "no"}, stall=stall))
    w.scan()
    assert w.step()

    row = w.row("TEST-1/large.bin")
    assert (row.state, row.ever_doubtful, {pause.partition(":")[0] for pause in w.pauses()}) == (
        "READY",
        False,
        {"account"},
    )

    w.settle()

    assert w.states() == ["DONE"]
    assert [one.size for one in jira.store.attachments("TEST-1")] == [len(LARGE)]
    assert len(uploads(jira)) == 2


@pytest.mark.parametrize(("status", "state"), [(503, "READY"), (200, "DOUBTFUL")])
def test_another_early_answer_of_a_large_file(w: World, jira: Standin, status: int, state: str) -> None:
    w.drop("TEST-1/large.bin", LARGE)
    jira.faults.add(early(status, [{"id": "7", "filename": "large.bin", "size": len(LARGE)}]))
    w.scan()
    assert w.step()

    assert w.states() == [state]

    w.settle()

    assert w.states() == ["DONE"]
    assert [one.size for one in jira.store.attachments("TEST-1")] == [len(LARGE)]
