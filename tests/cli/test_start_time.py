"""What a start costs that nobody needs: modules that libraries load for what is never used."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

import attachd.__main__
from attachd.cli import main

_LOADED = "import sys; from attachd.cli.main import application; application({verbs}); print(*sys.modules)"


def loaded_for(*verbs: str) -> set[str]:
    words = [sys.executable, "-c", _LOADED.format(verbs=verbs)]
    return set(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())


def test_nothing_is_loaded_for_what_is_never_used() -> None:
    loaded = loaded_for()

    assert "structlog.stdlib" in loaded
    assert "pydantic" in loaded
    assert not {"rich", "pygments", "asyncio", "httpx._main"} & loaded


def test_a_verb_that_only_reads_loads_nothing_of_those_that_send() -> None:
    for verb in ("status", "why", "history", "pause"):
        loaded = loaded_for(verb)
        assert "attachd.journal.database" in loaded
        assert (
            not {"httpx", "watchdog", "attachd.delivery.runtime", "attachd.intake.scanner", "attachd.web.app"} & loaded
        ), verb


def test_the_version_is_said_without_loading_any_verb() -> None:
    code = "import sys; from attachd.__main__ import main; main(); print(*sys.modules)"
    words = [sys.executable, "-c", code, "--version"]
    said, modules = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()

    assert said == f"attachd {attachd.__version__}"
    assert not {"typer", "pydantic", "structlog", "sqlite3", "attachd.cli.main"} & set(modules.split())


def test_help_and_a_wrong_word_know_every_verb() -> None:
    every = {verb for verbs in main.VERBS.values() for verb in verbs}

    for words in ([], ["--help"], ["stauts"]):
        assert {each.name for each in main.chosen(words).registered_commands} == every
    assert [each.name for each in main.chosen(["why", "x"]).registered_commands] == ["why"]


def test_garbage_is_collected_again_once_everything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    collects: list[bool] = []
    monkeypatch.setattr(main, "main", lambda app: collects.append(gc.isenabled()))

    attachd.__main__.main()
    gc.unfreeze()

    assert collects == [True]
