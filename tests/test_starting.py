"""What a start costs that nobody needs: modules that libraries load for what is never used."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

import attachd.__main__
from attachd.cli import main

_LOADED = "import sys, attachd.cli.main; print(*sys.modules)"


def test_nothing_is_loaded_for_what_is_never_used() -> None:
    loaded = subprocess.run([sys.executable, "-c", _LOADED], check=True, capture_output=True, text=True).stdout.split()

    assert "structlog.stdlib" in loaded
    assert "pydantic" in loaded
    assert not {"rich", "pygments", "asyncio", "httpx._main"} & set(loaded)


def test_garbage_is_collected_again_once_everything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    collects: list[bool] = []
    monkeypatch.setattr(main, "main", lambda: collects.append(gc.isenabled()))

    attachd.__main__.main()
    gc.unfreeze()

    assert collects == [True]
